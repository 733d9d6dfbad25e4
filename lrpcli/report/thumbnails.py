"""The small pictures of a report as files beside it: made in parallel, kept while what they show stays the same."""

import hashlib
import json
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrpcli.errors import ImageError
from lrpcli.images.find import REPORT
from lrpcli.pipeline.workers import Workers
from lrpcli.records.folder import names_in, opened_folder
from lrpcli.records.store import write_whole
from lrpcli.report.rows import BROKEN, SMALL
from lrpcli.report.settings import FOLDER

OWNER = "report"
"""In the names of temporary files."""
RECIPE = 1
"""Raised when the same file gives another small picture than before: all are made anew."""
AHEAD = 4
"""Pictures per process that are asked for before the first of them is there."""


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
    """The report's folder in `output`. A picture in it has the time of the file that it shows, and so is known again."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.kept: set[str] = set()
        """The pictures that this report shows."""

    def prepare(self) -> None:
        """Marks the folder as one of results, which a walk for images passes over."""
        content = json.dumps({"made_by": "lrp report", "recipe": RECIPE}).encode() + b"\n"
        with suppress(OSError), opened_folder(self.output, f"{FOLDER}/.lrp") as folder:
            descriptor = os.open(Path(REPORT).name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
            with os.fdopen(descriptor, "rb") as file:
                if file.read(len(content) + 1) == content:
                    return
        self._remove_all()
        write_whole(self.output / FOLDER / REPORT, content, OWNER, self.output)

    def has(self, wanted: Wanted) -> bool:
        """Whether a picture is there, of the file as it is now."""
        try:
            status = os.lstat(os.path.join(self.output, FOLDER, wanted.name))  # noqa: PTH118
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_mtime_ns == wanted.mtime_ns

    def put(self, wanted: Wanted, data: bytes) -> None:
        """Writes a picture. OutputError if nothing can be written."""
        write_whole(self.output / FOLDER / wanted.name, data, OWNER, self.output)
        inner, name = f"{FOLDER}/{wanted.name}".rsplit("/", 1)
        with suppress(OSError), opened_folder(self.output, inner) as folder:
            os.utime(name, ns=(wanted.mtime_ns, wanted.mtime_ns), dir_fd=folder, follow_symlinks=False)

    def remove_others(self) -> None:
        """Removes the pictures that no image of this report has."""
        for inner, name in self._pictures():
            if f"{inner}/{name}" not in self.kept:
                self._remove(inner, name)

    def _remove_all(self) -> None:
        for inner, name in self._pictures():
            self._remove(inner, name)

    def _remove(self, inner: str, name: str) -> None:
        with suppress(OSError), opened_folder(self.output, f"{FOLDER}/{inner}") as folder:
            os.unlink(name, dir_fd=folder)

    def _pictures(self) -> Iterator[tuple[str, str]]:
        for inner in self._names():
            if len(inner) == 2:
                yield from ((inner, name) for name in self._names(inner) if name.endswith(".webp"))

    def _names(self, inner: str = "") -> list[str]:
        try:
            return names_in(self.output, f"{FOLDER}/{inner}" if inner else FOLDER)
        except OSError:
            return []


def make_pictures(
    wanted: Iterable[tuple[Wanted, Callable[[int], None]]],
    workers: Workers,
    count: int,
    take: Callable[[Wanted, bytes], None],
    has: Callable[[Wanted], bool],
    step: Callable[[], None],
) -> int:
    """Makes the pictures that are not there, `count` at a time; how many.

    `take` gets each; what is with a picture is called with SMALL, or with BROKEN where it cannot be made. `step` is
    called after each.
    """
    made, under_way = 0, deque[tuple[Wanted, Callable[[int], None], Future[tuple[bytes, str]]]]()

    def finish() -> int:
        one, settle, future = under_way.popleft()
        try:
            data, _ = future.result()
        except ImageError:
            settle(BROKEN)
            return 0
        finally:
            step()
        take(one, data)
        settle(SMALL)
        return 1

    for one, settle in wanted:
        if has(one):
            settle(SMALL)
            step()
            continue
        if len(under_way) >= AHEAD * count:
            made += finish()
        under_way.append((one, settle, workers.submit(one.make, one.source, *one.arguments)))
    while under_way:
        made += finish()
    return made
