"""`lrp status`: how far an output folder is."""

from pathlib import Path

import click

from lrpcli.cli.options import FilledPath, verbosity
from lrpcli.cli.terminal import say, say_json
from lrpcli.records.text import one_line


@click.command()
@click.argument("output", metavar="OUTPUT", type=FilledPath())
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@verbosity
def status(output: str, as_json: bool, quiet: bool) -> None:
    """Count what is done, failed and missing in OUTPUT, over all its shards.

    The count is of the last run: images that it did not reach, that were under way when it was killed, or whose files
    are gone are missing. The same command as before does what is missing and tries again what failed.
    """
    from lrpcli.records.status import read_status

    known = read_status(Path(output))
    counts = {"images": known.images, "done": known.done, "failed": known.failed, "missing": known.missing}
    errors = dict(sorted(known.errors.items()))
    if as_json:
        say_json({**counts, "errors": errors, "shards": known.shards, "journals": known.journals})
        return
    for name, count in counts.items():
        kinds = ", ".join(f"{number} {kind}" for kind, number in errors.items())
        say(one_line(f"{name:8} {count}" + (f"  ({kinds})" if name == "failed" and kinds else "")))
    if known.shards > 1:
        for name, facts in sorted(known.journals.items()):
            say(one_line(f"shard {name}: {facts['told']} of {facts['share']}"))
        absent = known.shards - len(known.journals)
        if absent:
            say(f"not begun: {absent} of {known.shards} shards")
