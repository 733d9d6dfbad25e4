"""What became of each image, as append-only JSON lines in OUTPUT/.lrp/."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from lrpcli.errors import OutputError, UsageError
from lrpcli.records import record
from lrpcli.records.folder import FOLDER, RunFolder, open_regular, opened_folder, shown
from lrpcli.records.json_values import Fields, JsonObject, as_fields, as_number, as_whole, json_line
from lrpcli.records.segments import PieceJournal, busy, folder_of, open_pieces, pieces_of
from lrpcli.records.store import translate_os_error
from lrpcli.remote import Remote

START, ALONE, DROPPED, FAILED, OK, SKIPPED, RUN, OUTDATED, CLASHED = range(9)
"""What a line says: begun, begun with nothing else under way, given up, failed, finished, found finished, a new run,
finished by a run with other settings, left undone as another image has that name."""
GLANCES, GLANCE = 5, 0.02
"""How often and how many seconds a run waits for who only looks whether a journal is held."""
UNFINISHED = (START, ALONE)
FINISHED = (OK, OUTDATED)


@dataclass(frozen=True)
class RunLine:
    """That a run begins: which shard of how many, the images of the whole run, and those of the shard."""

    number: int
    count: int
    images: int
    share: int

    def as_json(self) -> dict[str, object]:
        """The line's fields."""
        return {"type": "run", "part": [self.number, self.count], "images": self.images, "share": self.share}

    @classmethod
    def from_json(cls, fields: Fields) -> "RunLine":
        """What as_json wrote; ValueError for anything else."""
        part = [as_whole(number, "part") for number in fields.items("part")]
        if len(part) != 2 or not 1 <= part[0] <= part[1]:
            raise ValueError("'part' is not a number and how many there are")
        images, share = fields.whole("images"), fields.whole("share")
        if not 0 <= share <= images:
            raise ValueError("'share' is not a share of 'images'")
        return cls(part[0], part[1], images, share)


@dataclass(frozen=True)
class Line:
    """A line of a journal: what it says, when (seconds since 1970), where it starts, and of which image and run.

    `name` is empty for the line of a new run, which has `begun`. `fields` are all that it holds.
    """

    code: int
    time: float
    position: int
    name: str
    run: str
    begun: RunLine | None
    fields: Fields


class Journal:
    """One append-only file of JSON lines; a line is written in one piece, and is the commit of its image.

    With `alone`, no other process may have it open so at the same time. Raises OutputError if it cannot be written,
    UsageError if somebody else has it.
    """

    def __init__(self, output: Path, name: str, *, alone: bool = False) -> None:
        self.path = output / FOLDER / name
        try:
            descriptor = open_regular(output, FOLDER, name, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            self._file = os.fdopen(descriptor, "a+b", buffering=0)
            self._require_one_name()
            if alone and not _locked_soon(descriptor):
                self._file.close()
                raise UsageError(
                    f"Another run is at work on {os.fspath(output)!r} (it holds {name}). Wait for it, or give each run "
                    "its own --shard i/n, all with the same n."
                )
            self._end_torn_line()
            if alone:
                self._take_in_pieces(output, name)
        except OSError as error:
            raise unwritable(error, self.path) from error

    def _require_one_name(self) -> None:
        """What is written into a file with several names is in all of them: in copies made of hard links, say."""
        if os.fstat(self._file.fileno()).st_nlink > 1:
            self._file.close()
            raise OutputError(
                f"The journal {os.fspath(self.path)!r} cannot be written: the file has another name elsewhere (a hard "
                "link), where the lines would appear too. Put a copy of its own in its place, then run the same "
                "command again."
            )

    def _end_torn_line(self) -> None:
        """A run that was killed, or a full disk, may have left a line without its end."""
        size = self._file.seek(0, os.SEEK_END)
        if size and os.pread(self._file.fileno(), 1, size - 1) != b"\n":
            self._file.write(b"\n")

    def _take_in_pieces(self, output: Path, name: str) -> None:
        """Adds what runs wrote in pieces where this folder was copied from. After a kill, some lines stand twice."""
        names = pieces_of(output, name)
        if not names:
            return
        with open_pieces(output, name) as pieces:
            pieces.seek(self._file.seek(0, os.SEEK_END))
            self._file.write(pieces.read())
        with opened_folder(output, folder_of(name)) as folder:
            for piece in names:
                os.unlink(piece, dir_fd=folder)

    def append(self, values: JsonObject) -> None:
        """Writes one line."""
        line = json_line(values).encode("utf-8", "backslashreplace") + b"\n"
        try:
            written = self._file.write(line)
        except OSError as error:
            raise translate_os_error(error, self.path) from error
        if written != len(line):
            raise OutputError(f"The journal {os.fspath(self.path)!r} cannot be written: the disk is full. Free some "
                              "space, then run the same command again.")  # fmt: skip

    def keep_lock(self, held: ExitStack) -> None:
        """Keeps the journal's lock until `held` is closed, also when the journal is."""
        held.callback(os.close, os.dup(self._file.fileno()))

    def check_first(self, check: Callable[[], None]) -> None:
        """Who holds the lock need not check whether others are at work."""

    def close(self) -> None:
        """Lets go of the file and its lock."""
        self._file.close()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def own_journal(output: RunFolder, name: str) -> Journal | PieceJournal:
    """The journal that a run writes; below a URL in pieces, and then others may write it too."""
    return PieceJournal(output, name) if isinstance(output, Remote) else Journal(output, name, alone=True)


def locked(descriptor: int) -> bool:
    """Locks an open file until it is closed; False if another process has done so."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: nobody can be asked
    return True


def _locked_soon(descriptor: int) -> bool:
    """What `locked` says, also where it is only asked for a moment whether anybody has the file, see is_idle."""
    for _ in range(GLANCES):
        if locked(descriptor):
            return True
        time.sleep(GLANCE)
    return locked(descriptor)


def is_idle(output: RunFolder, name: str) -> bool:
    """Whether no run holds a journal; below a URL, whether none has written to it just now."""
    if isinstance(output, Remote):
        with suppress(OSError):
            return not busy(output, name)
        return False
    try:
        with os.fdopen(open_regular(output, FOLDER, name, os.O_RDONLY), "rb") as file:
            return locked(file.fileno())
    except FileNotFoundError:
        return bool(pieces_of(output, name))  # copied from a URL, and nobody has gone on with it here
    except OSError:
        return False


def journal_size(output: RunFolder, name: str) -> int:
    """The bytes of a journal, 0 if there is none; below a URL, when it was first read, see segments.forget."""
    if isinstance(output, Remote):
        with open_journal(output, name) as file:
            return file.seek(0, os.SEEK_END)
    path = output / FOLDER / name
    return path.stat().st_size if path.exists() else 0


def open_journal(output: RunFolder, name: str) -> BinaryIO:
    """A journal to be read. OutputError if it cannot be."""
    try:
        if isinstance(output, Remote) or pieces_of(output, name):
            return open_pieces(output, name)
        return os.fdopen(open_regular(output, FOLDER, name, os.O_RDONLY), "rb")
    except OSError as error:
        raise unreadable(error, output, name) from error


def unreadable(error: OSError, output: RunFolder, name: str) -> OutputError:
    """The error for an OSError while reading a journal."""
    return _unusable("read", error, shown(output, f"{FOLDER}/{name}"))


def unwritable(error: OSError, path: Path) -> OutputError:
    """The error for an OSError while opening a journal to be written."""
    translated = translate_os_error(error, path)
    return translated if isinstance(translated, OutputError) else _unusable("written", error, os.fspath(path))


def _unusable(what: str, error: OSError, path: str) -> OutputError:
    """Whatever it is, nothing can be done in this output folder."""
    return OutputError(
        f"The journal {path!r} cannot be {what}: {error.strerror or error}. Mend that, or choose another output folder."
    )


def read_lines(output: RunFolder, name: str, run: str | None = None, start: int = 0) -> Iterator[Line]:
    """The lines of a journal from a position on; torn ones are passed over. OutputError if it cannot be read.

    Of another `run`, what it finished is OUTDATED, and what failed or was skipped does not count.
    """
    try:
        with open_journal(output, name) as file:
            file.seek(start)
            yield from _lines(file, run, start)
    except OSError as error:
        raise unreadable(error, output, name) from error


def picked_lines(output: RunFolder, name: str, run: str | None, positions: Iterable[int]) -> Iterator[Line]:
    """The lines of a journal that begin at these positions, see read_lines."""
    try:
        with open_journal(output, name) as file:
            for position in positions:
                file.seek(position)
                line = _as_of(parse_line(file.readline(), position), run)
                if line is not None:
                    yield line
    except OSError as error:
        raise unreadable(error, output, name) from error


def _lines(file: BinaryIO, run: str | None, position: int) -> Iterator[Line]:
    for data in file:
        line = _as_of(parse_line(data, position), run)
        position += len(data)
        if line is not None:
            yield line


def _as_of(line: Line | None, run: str | None) -> Line | None:
    """What a line says to a run of these settings."""
    if line is None or run is None or line.run == run or line.code not in (FAILED, OK, SKIPPED):
        return line
    return replace(line, code=OUTDATED if line.code == OK else DROPPED)


def parse_line(data: bytes, position: int = 0) -> Line | None:
    """A line of a journal that starts at `position`; None if it is torn or not one of ours."""
    if not data.endswith(b"\n"):
        return None
    try:
        fields = as_fields(json.loads(data.decode()))
        code = _code(fields)
        begun = RunLine.from_json(fields) if code == RUN else None
        name = "" if begun else fields.path("name")
        written = as_number(fields.get("time") or 0)
        run = "" if fields.get("run") is None else fields.text("run")
    except (ValueError, RecursionError):
        return None
    return Line(code, written, position, name, run, begun, fields)


def _code(fields: Fields) -> int:
    kind = fields.get("type")
    if kind == "start":
        return ALONE if fields.get("alone") else START
    if kind == "done":
        if fields.get("status") == record.OK:
            return OK
        return CLASHED if failure_kind(fields) == record.CLASH else FAILED
    return {"run": RUN, "skip": SKIPPED}.get(kind, DROPPED) if isinstance(kind, str) else DROPPED


def failure_kind(fields: Fields) -> str | None:
    """The kind of the failure in a line, as in errors.ImageError; None if it holds none."""
    error = fields.get("error")
    kind = error.get("kind") if isinstance(error, dict) else None
    return kind if isinstance(kind, str) else None
