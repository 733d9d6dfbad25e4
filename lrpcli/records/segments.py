"""Journals in pieces, for places where nothing can be appended to: each piece is an object, written whole.

The journal journal-1-of-2.jsonl is what a file of that name holds, followed by the pieces in the folder journal-1-of-2
beside it, in the order of their names: when the run began that wrote them, letters of its own, a number.
"""

import io
import os
import re
import secrets
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Any, BinaryIO

from lrpcli.errors import OutputError
from lrpcli.records.folder import FOLDER, RunFolder, names_in, read_file, shown
from lrpcli.records.json_values import JsonObject, json_line
from lrpcli.records.store import translate_remote_error
from lrpcli.remote import Remote

SUFFIX = ".jsonl"
SECONDS = 2.0
"""After which a line is put at the latest."""
LINES = 500
"""So many are put at once at most."""
CAREFUL = 1000
"""Beginnings of images that are each put before the work, where the run before was killed: more than it left unsaid."""
LOOK = 1.0
"""Seconds between two looks at a journal that others write."""
BUSY = 60.0
"""Seconds since its last piece for which a run without an end counts as being at work."""
_PIECE = re.compile(r"(\d{8}T\d{12})-[0-9a-f]{8}-\d{8}(-end)?\.jsonl")
_TIME = "%Y%m%dT%H%M%S%f"


def folder_of(journal: str) -> str:
    """Where the pieces of a journal lie, as a path below the output folder."""
    return f"{FOLDER}/{journal.removesuffix(SUFFIX)}"


def pieces_of(root: RunFolder, journal: str) -> list[str]:
    """The names of a journal's pieces in their order; none where there are none. OSError if they cannot be listed."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return [name for name in names_in(root, folder_of(journal)) if _PIECE.fullmatch(name)]
    return []


class _View(io.RawIOBase):
    """A part of a file as a file that can be read, whoever else reads others, in forked processes too."""

    def __init__(self, whole: "_Gathered", start: int, length: int) -> None:
        self._whole, self._start, self._length, self._place = whole, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        self._place = place + (0, self._place, self._length)[whence]
        return self._place

    def readinto(self, into: Any) -> int:
        part = os.pread(
            self._whole.file.fileno(), max(0, min(len(into), self._length - self._place)), self._start + self._place
        )
        into[: len(part)] = part
        self._place += len(part)
        return len(part)


class _Gathered:
    """Journals that were put together, one behind the other in a file without a name."""

    def __init__(self) -> None:
        self.file = _nameless_file()
        weakref.finalize(self, self.file.close)
        self._places: dict[str, tuple[int, int]] = {}

    def open(self, root: RunFolder, journal: str) -> BinaryIO:
        """A journal as it was when it was first opened here."""
        if journal not in self._places:
            start = self.file.seek(0, os.SEEK_END)
            for content in _contents(root, journal):
                self.file.write(content)
            self.file.flush()
            self._places[journal] = start, self.file.tell() - start
        return io.BufferedReader(_View(self, *self._places[journal]))


def _nameless_file() -> BinaryIO:
    """In memory, where there is no folder for temporary files."""
    try:
        return tempfile.TemporaryFile()
    except FileNotFoundError:
        if hasattr(os, "memfd_create"):
            return os.fdopen(os.memfd_create("lrp-journals"), "w+b")
        raise


_READ: "weakref.WeakKeyDictionary[Remote, _Gathered]" = weakref.WeakKeyDictionary()
"""The journals of each folder that were read: positions in them stay what they are until `forget`."""


def forget(root: RunFolder, *, listings: bool = True) -> None:
    """Reads journals, and unless told otherwise listings, of a folder anew from now on."""
    if isinstance(root, Remote):
        _READ.pop(root, None)
        if listings:
            root.forget()


def open_pieces(root: RunFolder, journal: str) -> BinaryIO:
    """A journal with its pieces, to be read. OSError if it cannot be."""
    gathered = _READ.get(root) if isinstance(root, Remote) else None
    if gathered is None:
        gathered = _Gathered()
        if isinstance(root, Remote):
            _READ[root] = gathered
    return gathered.open(root, journal)


def _contents(root: RunFolder, journal: str) -> Iterator[bytes]:
    with suppress(FileNotFoundError):
        yield _with_end(read_file(root, f"{FOLDER}/{journal}"))
    paths = [f"{folder_of(journal)}/{name}" for name in pieces_of(root, journal)]
    yield from map(_with_end, root.read_all(paths) if isinstance(root, Remote) else (read_file(root, p) for p in paths))


def _with_end(content: bytes) -> bytes:
    return content if content.endswith(b"\n") or not content else content + b"\n"


class NewLines:
    """What is put into a journal from its byte `since` on while others write it, each piece once."""

    def __init__(self, root: Remote, journal: str, since: int) -> None:
        self._root, self._journal, self._before = root, journal, since
        self._seen: set[str] | None = None
        self._looked = -LOOK

    def read(self, *, soon: bool = False) -> Iterator[bytes]:
        """The lines that came since the last time, in the order of the pieces; with `soon`, not before LOOK seconds.

        OutputError if they cannot be read.
        """
        if soon and time.monotonic() - self._looked < LOOK:
            return
        try:
            content = b"".join(self._contents())
        except OSError as error:
            raise translate_remote_error(error, shown(self._root, folder_of(self._journal))) from error
        self._looked = time.monotonic()
        skipped, self._before = self._before, max(0, self._before - len(content))
        yield from content[skipped:].splitlines(keepends=True)

    def _contents(self) -> Iterator[bytes]:
        if self._seen is None:  # a file of the journal's name was there before the pieces
            self._seen = set()
            with suppress(FileNotFoundError):
                yield _with_end(read_file(self._root, f"{FOLDER}/{self._journal}"))
        names = [name for name in pieces_of(self._root, self._journal) if name not in self._seen]
        yield from map(_with_end, self._root.read_all([f"{folder_of(self._journal)}/{name}" for name in names]))
        self._seen.update(names)


def put_alone(root: Remote, journal: str, values: JsonObject) -> None:
    """Puts a line into a journal whose run has not ended. OutputError if it cannot be put."""
    line = json_line(values).encode("utf-8", "backslashreplace") + b"\n"
    place = folder_of(journal)
    try:
        name = f"{place}/{_later_than(pieces_of(root, journal))}-{secrets.token_hex(4)}-{0:08}{SUFFIX}"
        root.put({name: line})
    except OSError as error:
        raise OutputError(str(translate_remote_error(error, shown(root, place)))) from error


def busy(root: Remote, journal: str) -> bool:
    """Whether a run seems to be at work on a journal: it has not said that it ends, and put a piece just now."""
    names = pieces_of(root, journal)
    if not names or names[-1].endswith(f"-end{SUFFIX}"):
        return False
    last = root.read(f"{folder_of(journal)}/{names[-1]}").splitlines()[-1:]
    found = re.search(rb'"time": ([0-9.]+)', last[0] if last else b"")
    return found is not None and abs(time.time() - float(found[1])) < BUSY


class PieceJournal:
    """A journal that this process writes in pieces; what Journal is where files can be appended to.

    No other is kept from writing pieces of its own. A line is put SECONDS after it was appended at the latest, or when
    there are LINES. OutputError if they cannot be put, from whichever call comes next.
    """

    def __init__(self, root: Remote, journal: str) -> None:
        self._root, self._folder = root, folder_of(journal)
        self._check: Callable[[], None] = lambda: None
        try:
            before = pieces_of(root, journal)
        except OSError as error:
            raise translate_remote_error(error, shown(root, self._folder)) from error
        self._careful = CAREFUL if before and not before[-1].endswith(f"-end{SUFFIX}") else 0
        self._begun = f"{_later_than(before)}-{secrets.token_hex(4)}"
        self._number = 0
        self._lines: list[bytes] = []
        self._error: OutputError | None = None
        self._changed, self._putting = threading.Condition(), threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._put_now_and_then, name="journal", daemon=True)
        self._thread.start()

    def check_first(self, check: Callable[[], None]) -> None:
        """Calls this before each piece; what it raises ends the journal."""
        self._check = check

    def append(self, values: JsonObject) -> None:
        """Adds a line."""
        line = json_line(values).encode("utf-8", "backslashreplace") + b"\n"
        with self._changed:
            self._lines.append(line)
            full = len(self._lines) >= LINES
            self._changed.notify()
        if values.get("type") == "start" and (values.get("alone") or self._careful > 0):
            self._careful -= 1
            full = True
        if values.get("type") == "run":  # whoever takes up the work after a kill knows that there was one
            full = True
        if full:
            self.put()
        self._require_whole()

    def put(self) -> None:
        """Puts what is there."""
        self._put("")
        self._require_whole()

    def _put(self, ending: str) -> None:
        with self._putting:
            with self._changed:
                lines, self._lines = self._lines, []
            if self._error is not None or not (lines or (ending and self._number)):
                return
            name = f"{self._folder}/{self._begun}-{self._number:08}{ending}{SUFFIX}"
            try:
                self._check()
                self._root.put({name: b"".join(lines)})
            except OSError as error:
                self._error = OutputError(str(translate_remote_error(error, self._root.url_of(name))))
            except OutputError as error:
                self._error = error
            self._number += 1

    def _put_now_and_then(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closed)
                self._changed.wait_for(lambda: self._closed, SECONDS)
                if self._closed:
                    return
            self._put("")

    def _require_whole(self) -> None:
        if self._error is not None:
            raise self._error

    def keep_lock(self, held: ExitStack) -> None:
        """There is no lock to be kept."""

    def close(self) -> None:
        """Puts the last lines, and says that the run has ended."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self.put_end()

    def put_end(self) -> None:
        """The last piece, whose name says so."""
        self._put("-end")
        self._require_whole()

    def __enter__(self) -> "PieceJournal":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def _later_than(names: Sequence[str]) -> str:
    """What the names of a run's pieces begin with: the time, or the next moment after those that are there."""
    now = datetime.now(UTC).strftime(_TIME)
    found = _PIECE.fullmatch(names[-1]) if names else None
    if found is None or now > found[1]:
        return now
    return f"{found[1][:9]}{int(found[1][9:]) + 1:012}"
