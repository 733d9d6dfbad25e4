"""`lrp unpack`: tar shards of results back into files."""

from pathlib import Path

import click

from lrpcli.cli.options import FilledPath, verbosity
from lrpcli.cli.terminal import note, say_path
from lrpcli.records.text import one_line


@click.command()
@click.argument("output", metavar="OUTPUT", type=FilledPath())
@click.argument("folder", metavar="FOLDER", type=FilledPath())
@click.option("--print0", is_flag=True, help="Paths on stdout end with NUL.")
@verbosity
def unpack(output: str, folder: str, print0: bool, quiet: bool) -> None:
    """Write what lrp explain --pack put into tar shards of OUTPUT as files below FOLDER.

    They are exactly those that the same run without --pack would have written, and FOLDER is an output folder like any
    other, journal included. OUTPUT stays as it is. The path of each overlay is printed as soon as it is written. An
    image whose files cannot be read or written is named, the others are unpacked, and the exit code is 1.
    """
    from lrpcli.records.unpack import unpacked_records

    done = failed = 0
    for record in unpacked_records(Path(output), Path(folder)):
        if record.failure is not None:
            note(one_line(f"{record.input}: {record.failure.message}"))
            failed += 1
            continue
        done += 1
        for outputs in record.outputs:
            if outputs.first is not None:
                say_path(outputs.first, b"\0" if print0 else b"\n")
    if not quiet:
        note(one_line(f"{done} unpacked, {failed} failed; results in {folder}"))
    if failed:
        click.get_current_context().exit(1)
