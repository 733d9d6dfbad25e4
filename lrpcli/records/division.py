"""How the images of an output folder were divided among shards: what a shard has to read, and whether all ended."""

import json
import os
from contextlib import suppress
from pathlib import Path

from lrpcli.errors import OutputError
from lrpcli.records.description import RunFiles
from lrpcli.records.folder import FOLDER, RunFolder, names_in, open_regular, shown
from lrpcli.records.journal import RunLine, open_journal
from lrpcli.records.json_values import as_fields
from lrpcli.remote import Remote

ENDED = "ended"
"""The type of a journal's line that says that all images of a shard have ended."""
ROWS = "rows"
"""The division of runs whose shards are no every n-th image."""
_OTHERS = "others"
_LAST_WORDS = 1 << 10
"""Bytes at the end of a journal that hold its last line, if that says that a shard has ended."""


def journals_to_read(output: RunFolder, files: RunFiles, own: str, division: str) -> list[str] | None:
    """The journals that hold lines about the images of a shard: its own where no other can, or None for all.

    `division` names the list of images and the number of shards. It is written down as a file without content before
    the shard's journal is made, so that every later run knows each way in which the images were ever divided.
    """
    mark, count = f"{files.journals}.divided-", own.rpartition("-of-")[2]
    try:
        before = _remembered(output)
        known = any(name.startswith(mark) for name in before)
        if not known and files.journals_in(output):  # of a version that wrote no division down, or of a single process
            _touch(output, mark + _OTHERS)
        _touch(output, mark + division)
        names = names_in(output, FOLDER)
    except OSError:
        return None
    divisions = [name for name in names if name.startswith(mark)]
    same_count = all(name.endswith(f"-of-{count}") for name in files.journals_in(output))
    return [own] if divisions == [mark + division] and same_count else None


def note_division(output: RunFolder, files: RunFiles, division: str) -> None:
    """Writes a division down. OutputError if that is not possible."""
    try:
        _touch(output, f"{files.journals}.divided-{division}")
    except OSError as error:
        raise OutputError(
            f"The output folder {shown(output)!r} cannot be written: {error.strerror or error}. Name another."
        ) from error


def _remembered(output: RunFolder) -> list[str]:
    with suppress(FileNotFoundError):
        return names_in(output, FOLDER)
    return []


def _touch(output: RunFolder, name: str) -> None:
    if isinstance(output, Remote):
        output.put({f"{FOLDER}/{name}": b""})
        return
    os.close(open_regular(output, FOLDER, name, os.O_WRONLY | os.O_CREAT))


def ended_images(output: Path, files: RunFiles, run: str, images: int) -> int:
    """How many images the shards have that ended a run of so many images, by the last line of each journal.

    Where this is less than `images`, some have not ended. `run` is the fingerprint of the settings.
    """
    ended = (_ended(output, journal, run) for journal in files.journals_in(output))
    return sum(one.share for one in ended if one is not None and one.images == images)


def _ended(output: Path, journal: str, run: str) -> RunLine | None:
    """The run line of a shard that has ended."""
    with open_journal(output, journal) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_WORDS))
        last = file.read().splitlines(keepends=True)[-1:]
    with suppress(ValueError, RecursionError):
        fields = as_fields(json.loads(last[0] if last else b""))
        if fields.get("type") == ENDED and fields.get("run") == run:
            return RunLine.from_json(fields)
    return None
