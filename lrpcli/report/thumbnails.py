"""The small pictures of a report: made in parallel, and kept while what they show stays the same."""

import base64
import fcntl
import hashlib
import json
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lrpcli.errors import ImageError, OutputError
from lrpcli.images.find import REPORT
from lrpcli.images.formats import MAX_PIXELS
from lrpcli.pipeline.decode import BYTES_PER_IMAGE, BYTES_PER_PIXEL
from lrpcli.pipeline.workers import Workers
from lrpcli.records.folder import names_in, open_regular, opened_folder
from lrpcli.records.journal import locked
from lrpcli.records.store import remove_leftovers, write_whole
from lrpcli.report.rows import BROKEN, SMALL
from lrpcli.report.settings import FOLDER

OWNER = "report"
"""In the names of temporary files."""
RECIPE = 1
"""Raised when the same file gives another small picture than before: all are made anew."""
MEMORY = BYTES_PER_IMAGE + BYTES_PER_PIXEL * MAX_PIXELS
"""Bytes that making one may take."""
SIDE, LARGE = 256, 512
"""Longest side of a small picture in pixels, as a file and within a page."""


@dataclass(frozen=True)
class Wanted:
    """A small picture: its `name` below the report's folder, the file that it shows with its time, what makes it.

    `make` is called with `arguments` in another process.
    """

    name: str
    source: str
    mtime_ns: int
    make: Callable[..., bytes]
    arguments: tuple[Any, ...]


def file_time(path: str) -> int | None:
    """When a regular file was last changed, in nanoseconds; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path costs more, and there may be 100,000
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns if stat.S_ISREG(status.st_mode) else None


def picture_name(name: str, suffix: str) -> str:
    """Where a small picture of the image called `name` lies in the report's folder; see page.js, which does the same.

    >>> from lrpcli.report.thumbnails import picture_name
    >>> picture_name("cats/a.jpg", "p")
    '40/36bed8f1c4d2c1ed7a-p.webp'
    """
    key = picture_key(name)
    return f"{key[:2]}/{key[2:]}-{suffix}.webp"


def picture_key(name: str) -> str:
    """What stands for an image in the names of its small pictures: names themselves may be too long for more."""
    return hashlib.blake2b(os.fsencode(name), digest_size=10).hexdigest()


class Album:
    """Where the small pictures of a report go; `side` is their longest side in pixels. This one is the page itself."""

    side = LARGE
    single = True

    def __init__(self, output: Path) -> None:
        self.output = output
        self.addresses: dict[str, str] = {}
        """Of pictures that are no files: what stands for them in the page."""
        self.shown: set[str] = set()
        """The pictures that this report shows."""

    def address(self, name: str) -> str:
        """The address of a picture that was made."""
        return self.addresses[name]

    def has(self, wanted: Wanted) -> bool:
        """Whether a picture is there, of the file as it is now."""
        return False

    def put(self, wanted: Wanted, data: bytes) -> None:
        """Takes in a picture. OutputError if nothing can be written."""
        self.addresses[wanted.name] = "data:image/webp;base64," + base64.b64encode(data).decode("ascii")

    def remove_others(self) -> None:
        """Removes the pictures that no image of this report has."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """While it lasts, no other report changes the pictures."""
        yield


class FolderAlbum(Album):
    """Files in OUTPUT/lrp-report. A picture has the time of the file that it shows, and so is known again."""

    side = SIDE
    single = False

    def address(self, name: str) -> str:
        """See Album."""
        return f"{FOLDER}/{name}"

    def has(self, wanted: Wanted) -> bool:
        """See Album."""
        try:
            status = os.lstat(os.path.join(self.output, FOLDER, wanted.name))  # noqa: PTH118
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_mtime_ns == wanted.mtime_ns

    def put(self, wanted: Wanted, data: bytes) -> None:
        """See Album."""
        self._write(wanted.name, data)
        inner, name = f"{FOLDER}/{wanted.name}".rsplit("/", 1)
        with suppress(OSError), opened_folder(self.output, inner) as folder:
            os.utime(name, ns=(wanted.mtime_ns, wanted.mtime_ns), dir_fd=folder, follow_symlinks=False)

    def _write(self, name: str, data: bytes) -> None:
        try:
            write_whole(self.output / FOLDER / name, data, OWNER, self.output)
        except ImageError as error:  # it is this one name, but no image's
            raise OutputError(str(error)) from error

    def remove_others(self) -> None:
        """See Album."""
        for inner in self._names():
            for name in self._names(inner) if len(inner) == 2 else []:
                if name.endswith(".webp") and f"{inner}/{name}" not in self.shown:
                    with suppress(OSError), opened_folder(self.output, f"{FOLDER}/{inner}") as folder:
                        os.unlink(name, dir_fd=folder)

    def _names(self, inner: str = "") -> list[str]:
        try:
            return names_in(self.output, f"{FOLDER}/{inner}" if inner else FOLDER)
        except OSError:
            return []

    @contextmanager
    def held(self) -> Iterator[None]:
        """See Album; another report of this folder that is at work is waited for."""
        self._mark()
        with open_marker(self.output) as marker:
            if not locked(marker.fileno()):
                fcntl.flock(marker, fcntl.LOCK_EX)
            remove_leftovers(self.output, OWNER)
            yield

    def _mark(self) -> None:
        """Marks the folder as one of results, which a walk for images passes over; pictures of old recipes go."""
        content = json.dumps({"made_by": "lrp report", "recipe": RECIPE}).encode() + b"\n"
        if self._marked() == content:
            return
        self.remove_others()
        self._write(REPORT, content)

    def _marked(self) -> bytes:
        with suppress(OSError), open_marker(self.output) as file:
            return file.read(1024)
        return b""


def open_marker(output: Path) -> BinaryIO:
    """What says of a folder that it holds a report's pictures. OSError if it is not there."""
    return os.fdopen(open_regular(output, f"{FOLDER}/{Path(REPORT).parent}", Path(REPORT).name, os.O_RDONLY), "rb")


Settled = Callable[[int], None]
"""Is called with SMALL once a picture is there, or with BROKEN where it cannot be made."""


def make_pictures(
    every: Iterable[tuple[Wanted, Settled]], album: Album, workers: Workers, ahead: int, step: Callable[[], None]
) -> int:
    """Makes the pictures that an album lacks; how many. `step` is called after each, `ahead` of them are under way."""
    made, under_way = 0, deque[tuple[Wanted, Settled, Future[tuple[bytes, str]]]]()

    def finish() -> int:
        wanted, settled, future = under_way.popleft()
        step()
        try:
            data, _ = future.result()
        except ImageError:
            settled(BROKEN)
            return 0
        album.put(wanted, data)
        settled(SMALL)
        return 1

    for wanted, settled in every:
        album.shown.add(wanted.name)
        if album.has(wanted):
            settled(SMALL)
            step()
            continue
        if len(under_way) >= ahead:
            made += finish()
        under_way.append(
            (wanted, settled, workers.submit(wanted.make, wanted.source, *wanted.arguments, memory=MEMORY))
        )
    while under_way:
        made += finish()
    return made
