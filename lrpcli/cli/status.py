"""`lrp status`: how far an output folder is."""

import json
from pathlib import Path

import click

from lrpcli.cli.options import FilledPath, verbosity


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
        click.echo(json.dumps({**counts, "errors": errors, "shards": known.shards, "journals": known.journals}))
        return
    for name, count in counts.items():
        kinds = ", ".join(f"{number} {kind}" for kind, number in errors.items())
        click.echo(f"{name:8} {count}" + (f"  ({kinds})" if name == "failed" and kinds else ""))
    if known.shards > 1:
        for name, facts in sorted(known.journals.items()):
            click.echo(f"shard {name}: {facts['told']} of {facts['share']}")
        absent = known.shards - len(known.journals)
        if absent:
            click.echo(f"not begun: {absent} of {known.shards} shards")
