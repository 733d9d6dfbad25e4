"""Tar shards of an output folder back into a file each, as a run without --pack would have left them."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from lrpcli.errors import ImageError, UsageError
from lrpcli.records.description import EXPLAIN_FILES, RunDescription, require_same_run
from lrpcli.records.explained import Explained
from lrpcli.records.journal import Journal, RunLine
from lrpcli.records.record import Outputs, Record
from lrpcli.records.store import remove_leftovers, write_whole
from lrpcli.records.table import Records

OWNER = "1-of-1"


def unpacked_records(source: Path, target: Path) -> Iterator[Record]:
    """Writes the files of every image of `source` below `target`; a record for each, with its files as paths there.

    `target` becomes an output folder like any other, in which lrp explain goes on without --pack. An image whose files
    cannot be read or written has failed. UsageError if `source` holds no tar shards, or `target` other results;
    OutputError if something cannot be read or written at all.
    """
    records = Records(source)
    if records.description is None or not _is_packed(records.description):
        raise UsageError(
            f"{os.fspath(source)!r} holds no results that were packed. Name an output folder of lrp explain --pack tar."
        )
    if target.exists() and source.resolve() == target.resolve():
        raise UsageError("The files would go among the tars that they come from. Name another folder.")
    description = unpacked_description(records.description)
    require_same_run(target, EXPLAIN_FILES, description)
    with Journal(target, EXPLAIN_FILES.journal(OWNER), alone=True) as journal:
        remove_leftovers(target, OWNER)
        description.write(target, EXPLAIN_FILES, OWNER)
        count = sum(1 for _ in records.plain())
        run = {"run": description.fingerprint}
        journal.append({**RunLine(1, 1, count, count).as_json(), **run, "time": _now()})
        for packed in records.plain():
            record = _unpacked(packed, source, target)
            state = {} if record.file is None else record.file.as_json()
            journal.append({**record.as_json(), "type": "done", **state, **run, "time": _now()})
            yield record.below(os.fspath(target))


def _is_packed(description: RunDescription) -> bool:
    output = description.settings.get("output")
    return isinstance(output, Mapping) and output.get("pack") is not None


def unpacked_description(description: RunDescription) -> RunDescription:
    """What a run says of itself that differs in nothing but that it does not pack."""
    output = description.settings.get("output")
    assert isinstance(output, Mapping)
    kept = {key: value for key, value in output.items() if key != "pack"}
    return replace(description, settings={**description.settings, "output": kept})


def _unpacked(record: Record, source: Path, target: Path) -> Record:
    """Writes the files of an image; its record as one that is not packed, or that it failed."""
    if not isinstance(record, Explained):
        return record
    try:
        for one in record.classes:
            for kind in one.outputs.paths:
                content = one.outputs.stored(os.fspath(source), kind).read()
                write_whole(Path(target, one.outputs.paths[kind]), content, OWNER, target)
    except ImageError as error:
        return Record.failed(record.input, record.name, error)
    classes = tuple(replace(one, outputs=Outputs(one.outputs.paths)) for one in record.classes)
    return replace(record, classes=classes)


def _now() -> float:
    return round(time.time(), 3)
