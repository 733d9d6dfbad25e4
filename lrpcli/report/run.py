"""A whole report: journals in; small pictures and the page out. It never changes results."""

import errno
import fcntl
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lrpcli.errors import ImageError, OutputError, UsageError
from lrpcli.images.find import REPORT
from lrpcli.pipeline.workers import Workers
from lrpcli.records.folder import open_regular
from lrpcli.records.journal import locked
from lrpcli.records.store import remove_leftovers, write_whole
from lrpcli.records.text import one_line
from lrpcli.report import drawing
from lrpcli.report.about import about
from lrpcli.report.columns import Columns, embedded, packed
from lrpcli.report.groups import Groups, find_groups, wanted_means
from lrpcli.report.page import GENERATOR, Content, file_of, first_cells, render
from lrpcli.report.plan import Settled, wanted_pictures
from lrpcli.report.read import find_runs, merged
from lrpcli.report.rows import FAILURES, ImageRow, ReportedRun
from lrpcli.report.settings import FOLDER, PAGE, SINGLE, ReportSettings
from lrpcli.report.thumbnails import OWNER, Album, Wanted, make_pictures

HEAD = 4096
"""Bytes at the start of a page among which it says what made it."""


class Progress(Protocol):
    """Told how many small pictures there are to look at, then of each."""

    def begin(self, total: int) -> None:
        """How many small pictures there are at most."""

    def step(self) -> None:
        """One of them is there."""


@dataclass(frozen=True)
class Report:
    """What was made: the page, the images that it shows by their status, and the small pictures made for it."""

    page: Path
    counts: Counter[str]
    pictures: int
    bytes: int


def build_report(output: Path, settings: ReportSettings, jobs: int, progress: Progress) -> Report:
    """Makes OUTPUT/index.html, whole or not at all, and the small pictures that it needs and lacks.

    UsageError for a folder without results of lrp explain, a page that something else made, or too many images for a
    single file; OutputError if something cannot be read or written.
    """
    runs = find_runs(output, settings.others)
    require_own_page(output)
    rows = merged(runs)
    if settings.single_file and len(rows) > SINGLE:
        raise UsageError(
            f"{os.fspath(output)!r} has {len(rows)} images, and a report in a single file holds at most {SINGLE}. "
            "Leave --single-file out: pictures then lie in files beside the page."
        )
    groups = find_groups(rows, runs)
    maker = _Single() if settings.single_file else _Beside(output)
    with maker.held(), Workers(jobs) as workers:
        made = maker.make(rows, runs, groups, workers, jobs, progress)
        content = _content(output, runs, rows, groups, maker)
        page = render(content)
        _write(output, page)
        maker.done()
    return Report(output / PAGE, content.counts, made, len(page))


def require_own_page(output: Path) -> None:
    """UsageError if the place of the page holds what this package did not write."""
    path = output / PAGE
    try:
        with os.fdopen(open_regular(output, "", PAGE, os.O_RDONLY), "rb") as file:
            if f'content="{GENERATOR}"'.encode() in file.read(HEAD):
                return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EINVAL, errno.EISDIR):
            raise OutputError(f"{os.fspath(path)!r} cannot be read: {error.strerror}. Mend that.") from error
    raise UsageError(f"{os.fspath(path)!r} is there already, and lrp report did not write it. Move it away first.")


def _write(output: Path, page: bytes) -> None:
    try:
        write_whole(output / PAGE, page, OWNER, output)
    except ImageError as error:  # it is this one name, but no image's
        raise OutputError(str(error)) from error


def _content(
    output: Path, runs: list[ReportedRun], rows: list[ImageRow], groups: Groups, maker: "_Beside | _Single"
) -> Content:
    columns = Columns(output, runs, single=isinstance(maker, _Single))
    for row in rows:
        columns.add(row)
    return Content(
        one_line(output.resolve().name or "/"),
        Counter(row.status for row in rows),
        first_cells(rows, runs, maker.address, single=isinstance(maker, _Single)),
        [row for row in rows if row.status in FAILURES],
        groups,
        [about(run) for run in runs],
        packed(columns.as_json(groups, maker.pictures)),
    )


class _Maker:
    """Makes the small pictures of a report; `side` is their longest side in pixels."""

    side = drawing.SIDE

    def __init__(self) -> None:
        self.pictures: dict[str, str] = {}

    def make(
        self, rows: list[ImageRow], runs: list[ReportedRun], groups: Groups, workers: Workers, jobs: int,
        progress: Progress,
    ) -> int:  # fmt: skip
        """Makes what is not there; how many."""
        progress.begin(2 * sum(len(row.maps) for row in rows))
        made = make_pictures(
            self.noted(wanted_pictures(rows, runs, self.side)), workers, jobs, self.take, self.has, progress.step
        )
        means = list(self.noted(wanted_means(groups, rows, runs, self.side)))
        if all(self.has(wanted) for wanted, _ in means):
            return made + make_pictures(means, workers, jobs, self.take, self.has, progress.step)
        with Workers(min(jobs, len(means)), timeout=None) as patient:  # a group may have 100,000 maps
            return made + make_pictures(means, patient, jobs, self.take, self.has, progress.step)

    def noted(self, every: Iterator[tuple[Wanted, Settled]]) -> Iterator[tuple[Wanted, Settled]]:
        """The same, each remembered as one that the page shows."""
        return every

    def take(self, wanted: Wanted, data: bytes) -> None:
        """Keeps a picture."""
        raise NotImplementedError

    def has(self, wanted: Wanted) -> bool:
        """Whether a picture need not be made."""
        return False


class _Beside(_Maker):
    """Small pictures as files beside the page."""

    def __init__(self, output: Path) -> None:
        super().__init__()
        self.output, self.album = output, Album(output)
        self.take, self.has, self.address = self.album.put, self.album.has, file_of  # type: ignore[method-assign]

    def noted(self, every: Iterator[tuple[Wanted, Settled]]) -> Iterator[tuple[Wanted, Settled]]:
        """See _Maker."""
        for wanted, settled in every:
            self.album.kept.add(wanted.name)
            yield wanted, settled

    def done(self) -> None:
        """Removes what no page shows any longer."""
        self.album.remove_others()

    @contextmanager
    def held(self) -> Iterator[None]:
        """While it lasts, no other report is made in this folder: one that is at work is waited for."""
        self.album.prepare()
        descriptor = open_regular(self.output, f"{FOLDER}/.lrp", Path(REPORT).name, os.O_RDONLY)
        try:
            if not locked(descriptor):
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            remove_leftovers(self.output, OWNER)
            yield
        finally:
            os.close(descriptor)


class _Single(_Maker):
    """Pictures within the page."""

    side = drawing.LARGE

    def take(self, wanted: Wanted, data: bytes) -> None:
        """See _Maker."""
        self.pictures[wanted.name] = embedded(data)

    def address(self, name: str) -> str:
        """The address of a picture."""
        return self.pictures[name]

    def done(self) -> None:
        """Nothing is left."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is shared with other reports but the page, which is written whole."""
        yield
