"""`lrp status`: how far an output folder is."""

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import click

from lrpcli.cli.columns import padded, width
from lrpcli.cli.options import PlacePath, verbosity
from lrpcli.cli.quantities import duration, size
from lrpcli.cli.terminal import Screen, as_shown, on_terminal, say, say_json, say_path
from lrpcli.errors import UsageError
from lrpcli.records.text import one_line

if TYPE_CHECKING:
    from lrpcli.records.folder import RunFolder
    from lrpcli.records.status import FailedImage, Status, StatusReader

NAMED = 5
"""Images that failed that are named where --failed does not ask for all."""
SECONDS = 2.0
PATIENCE = 5
"""Looks without a run at work after which watching ends, where shards are still to come."""
"""Between two looks of --watch."""


@click.command()
@click.argument("output", metavar="OUTPUT", type=PlacePath())
@click.option("--failed", is_flag=True, help="Only the images that failed, one path a line; on a terminal with kinds.")
@click.option("--print0", is_flag=True, help="With --failed: paths end with NUL.")
@click.option("--watch", is_flag=True, help="Look again every 2 seconds until no run is at work on OUTPUT any more.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@verbosity
def status(output: str, failed: bool, print0: bool, watch: bool, as_json: bool, quiet: bool) -> None:
    """Count what is done, failed and missing in OUTPUT, over all its shards.

    The count is of the last run: images that it did not reach, that were under way when it was killed, or whose files
    are gone are missing. The same command as before does what is missing and tries again what failed. Rate and time
    left are those of the journals; disk is what the results take there.
    """
    from lrpcli.records.folder import run_folder, shown
    from lrpcli.records.status import StatusReader

    if print0 and not failed:
        raise UsageError("--print0 goes with --failed, which prints paths.")
    if failed and watch:
        raise UsageError("--failed prints a list once, so that --watch does not go with it.")
    folder = run_folder(output)
    if watch:
        _watch(folder, as_json=as_json)
        return
    with StatusReader(folder) as reader:
        if as_json:
            say_json(_as_json(reader, failed=failed))
        elif failed:
            _list_failed(reader.failed_images(), b"\0" if print0 else b"\n")
        else:
            for line in _lines(reader, shown(folder)):
                say(one_line(line))


def _watch(output: "RunFolder", *, as_json: bool) -> None:
    """Shows the status again and again until no run is at work; on a terminal in the same place."""
    from lrpcli.records.folder import shown
    from lrpcli.records.status import StatusReader

    screen, watching, idle = Screen(), True, 0
    while watching:
        with StatusReader(output) as reader:
            following = True
            while following and watching:
                idle = 0 if reader.status.running else idle + 1
                watching = idle <= (PATIENCE if reader.status.expects_others else 0)
                if as_json:
                    say_json(_as_json(reader, failed=False))
                else:
                    screen.show(list(_lines(reader, shown(output))))
                if watching:
                    time.sleep(SECONDS)
                    following = reader.follow()


def _as_json(reader: "StatusReader", *, failed: bool) -> dict[str, object]:
    known = reader.status
    shards = {
        name: {"share": shard.share, "told": shard.told, "running": shard.running}
        for name, shard in known.journals.items()
    }
    values: dict[str, object] = {
        "images": known.images, "done": known.done, "failed": known.failed, "open": known.unclosed,
        "missing": known.missing,
        "errors": _kinds(known), "shards": known.shards, "journals": shards, "running": known.running,
        "rate": known.rate, "seconds_left": known.seconds_left, "disk": known.disk,
    }  # fmt: skip
    if failed:
        from lrpcli.records.json_values import json_path

        values["failures"] = [
            {"input": json_path(image.path), "error": {"kind": image.kind, "message": image.message}}
            for image in reader.failed_images()
        ]
    return values


def _kinds(known: "Status") -> dict[str, int]:
    return {kind: count for kind, count in sorted(known.errors.items()) if count}


def _lines(reader: "StatusReader", output: str) -> Iterator[str]:
    known = reader.status
    kinds = ", ".join(f"{number} {kind}" for kind, number in _kinds(known).items())
    facts = {
        "images": str(known.images),
        "done": str(known.done),
        "failed": f"{known.failed}  ({kinds})" if kinds else str(known.failed),
        "open": f"{known.unclosed}  (in tars that are not whole yet)" * bool(known.unclosed),
        "missing": str(known.missing),
        "rate": f"{known.rate:.1f} images/s" if known.rate else "",
        "left": f"about {duration(known.seconds_left)}" if known.seconds_left is not None else "",
        "disk": size(known.disk) if known.disk else "",
    }
    yield from (f"{name:8} {text}" for name, text in facts.items() if text)
    if known.shards > 1:
        for name, shard in sorted(known.journals.items()):
            yield f"shard {name}: {shard.told} of {shard.share}"
        absent = known.shards - len(known.journals)
        if absent:
            yield f"not begun: {absent} of {known.shards} shards"
    for name, shard in sorted(known.others.items()):
        if shard.running:
            yield f"also at work: {name}, whose images are divided otherwise: {shard.told} of {shard.share}"
    yield from _first_failed(reader, output)


def _first_failed(reader: "StatusReader", output: str) -> Iterator[str]:
    """The first images that failed, with kinds, and how many more there are."""
    first = list(islice(reader.failed_images(), NAMED))
    if first:
        yield "Failed:"
        yield from (f"  {line}" for line in _with_kinds(first))
    more = reader.status.failed - len(first)
    if first and more > 0:
        yield f"  and {more} more: lrp status {output} --failed"


def _with_kinds(images: "Iterable[FailedImage]") -> Iterator[str]:
    """A line for each image: kind, then path; lined up for as many as are looked at together."""
    left = iter(images)
    while some := list(islice(left, 1000)):
        room = max(width(image.kind) for image in some)
        yield from (f"{padded(image.kind, room)}  {as_shown(image.path)}" for image in some)


def _list_failed(images: "Iterator[FailedImage]", end: bytes) -> None:
    if end == b"\n" and on_terminal():
        for line in _with_kinds(images):
            say(line)
        return
    for image in images:
        say_path(image.path, end)
