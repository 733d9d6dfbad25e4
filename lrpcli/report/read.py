"""The rows of an output folder, read from its journals; whatever those hold, the rest is read."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from lrpcli.errors import OutputError, UsageError
from lrpcli.records.clashes import Clashes
from lrpcli.records.description import EVALUATE_FILES, EXPLAIN_FILES, RunDescription, read_description
from lrpcli.records.explained import Explained
from lrpcli.records.folder import FOLDER
from lrpcli.records.index import Index, Known
from lrpcli.records.journal import FAILED, UNFINISHED, Line
from lrpcli.records.record import Record
from lrpcli.records.text import one_line
from lrpcli.report import rows
from lrpcli.report.rows import ImageRow, ReportedRun

BEGUN = "A run began it and has not ended it: it is under way, or the run was stopped."
DAMAGED = "Its record cannot be read: it is damaged, or another version of lrp wrote it. Run lrp explain again."


def find_runs(output: Path, others: tuple[str, ...]) -> list[ReportedRun]:
    """The runs that a report of `output` shows: its own or else those of its subfolders, and those of `others`.

    UsageError for a folder into which nothing was explained; OutputError for one that cannot be read.
    """
    own = [output] if _has_journals(output) else _runs_below(output)
    if not own:
        raise _nothing_explained(output)
    for other in map(Path, others):
        if not _has_journals(other):
            raise _nothing_explained(other)
    folders = list(dict.fromkeys([*own, *map(Path, others)]))
    return [_run(folder, output, alone=len(folders) == 1) for folder in folders]


def _has_journals(folder: Path) -> bool:
    return bool(EXPLAIN_FILES.journals_in(folder))


def _runs_below(output: Path) -> list[Path]:
    try:
        below = sorted((path for path in output.iterdir() if path.is_dir() and not path.is_symlink()), key=os.fsencode)
    except OSError:
        return []
    return [path for path in below if _has_journals(path)]


def _nothing_explained(folder: Path) -> UsageError:
    if EVALUATE_FILES.journals_in(folder):
        return UsageError(
            f"{os.fspath(folder)!r} holds results of lrp evaluate, which has its own tables and pictures there; a "
            "report shows what lrp explain made."
        )
    return UsageError(
        f"Neither {os.fspath(folder)!r} nor a folder in it holds a journal ({FOLDER}/journal-*.jsonl); nothing was "
        "explained into it. Name the output folder of lrp explain."
    )


def _run(folder: Path, output: Path, *, alone: bool) -> ReportedRun:
    description, problem = _described(folder)
    place = os.fsencode(os.path.relpath(folder, output))
    name = _named(folder, description, alone=alone)
    return ReportedRun(folder, name, description, problem, hashlib.blake2b(place, digest_size=3).hexdigest())


def _named(folder: Path, description: RunDescription | None, *, alone: bool) -> str:
    """A short name for people: that of the folder; a run that is alone goes by its config."""
    explain = {} if description is None else description.settings.get("explain")
    config = explain.get("config") if isinstance(explain, dict) else None
    return one_line(str(config)) if alone and isinstance(config, str) else one_line(folder.resolve().name or "/")


def _described(folder: Path) -> tuple[RunDescription | None, str]:
    """The description of a run, or None and why it cannot be read."""
    try:
        description = read_description(folder, EXPLAIN_FILES)
    except (UsageError, OutputError) as error:
        return None, one_line(str(error))
    if description is None:
        missing = f"{FOLDER}/{EXPLAIN_FILES.description}"
        return None, f"{one_line(str(folder))} holds no {missing}, so that the settings are not known."
    return description, ""


def read_rows(run: ReportedRun, number: int) -> Iterator[ImageRow]:
    """A row for each image that the journals of a run know, and one for each clash of names in its last run."""
    clashes = Clashes()
    fingerprint = None if run.description is None else run.description.fingerprint
    with closing(Index(run.folder, EXPLAIN_FILES, fingerprint, seen=clashes.see)) as index:
        for known in index.images():
            row = _row(known, number, fingerprint)
            if row is not None:
                yield row
    records = filter(None, map(_failed, clashes.lines(run.folder)))
    yield from (ImageRow.of_failed(record, number) for record in {record.input: record for record in records}.values())


def _row(known: Known, run: int, fingerprint: str | None) -> ImageRow | None:
    """What is shown of an image; None for one that was given up, of which nothing is known."""
    if known.code == FAILED:
        record = _failed(known.line)
        return _unreadable(known.line, run) if record is None else ImageRow.of_failed(record, run)
    if known.finished is not None:
        return _finished(known.finished, run, outdated=fingerprint not in (None, known.finished.run))
    if known.code in UNFINISHED:
        return ImageRow(known.line.name, rows.UNFINISHED, run, rows.UNFINISHED, BEGUN)
    return None


def _finished(line: Line, run: int, *, outdated: bool) -> ImageRow:
    try:
        record = Explained.from_json(line.fields)
    except (ValueError, KeyError, OverflowError):
        return _unreadable(line, run)
    return ImageRow.of_finished(record, run, rows.OUTDATED if outdated else rows.OK)


def _failed(line: Line) -> Record | None:
    try:
        return Record.from_json(line.fields)
    except ValueError:
        return None


def _unreadable(line: Line, run: int) -> ImageRow:
    return ImageRow(line.name, rows.UNREADABLE, run, rows.UNREADABLE, DAMAGED)


def merged(runs: list[ReportedRun]) -> list[ImageRow]:
    """The images of all runs, by name in byte order; maps of one image in several runs lie in one row."""
    found: dict[str, ImageRow] = {}
    apart: list[ImageRow] = []
    for number, run in enumerate(runs):
        for row in read_rows(run, number):
            if row.status in rows.FAILURES:
                apart.append(row)
            elif row.name in found:
                found[row.name].maps.extend(row.maps)
            else:
                found[row.name] = row
    return sorted([*found.values(), *apart], key=lambda row: (os.fsencode(row.name), row.status in rows.FAILURES))
