"""A whole report: journals in; small pictures and the page out. It never changes results."""

import errno
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lrpcli.errors import ImageError, OutputError, UsageError
from lrpcli.pipeline.workers import Workers
from lrpcli.records.folder import open_regular
from lrpcli.records.store import write_whole
from lrpcli.records.text import one_line
from lrpcli.report.about import about
from lrpcli.report.columns import Columns, packed
from lrpcli.report.groups import DRAWN, Groups, find_groups, require_labels, wanted_means
from lrpcli.report.page import GENERATOR, Content, first_cells, render
from lrpcli.report.plan import wanted_pictures
from lrpcli.report.read import find_runs, merged
from lrpcli.report.rows import FAILURES, ImageRow, ReportedRun
from lrpcli.report.settings import PAGE, SINGLE, ReportSettings
from lrpcli.report.thumbnails import OWNER, Album, FolderAlbum, make_pictures

AHEAD = 4
"""Pictures per process that are asked for before the first of them is there."""
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
    labels = () if settings.labels is None else require_labels(settings.labels, runs)
    rows = merged(runs)
    if settings.single_file and len(rows) > SINGLE:
        raise UsageError(
            f"{os.fspath(output)!r} has {len(rows)} images, and a report in a single file holds at most {SINGLE}. "
            "Leave --single-file out: pictures then lie in files beside the page."
        )
    groups = find_groups(rows, runs, labels)
    album = Album(output) if settings.single_file else FolderAlbum(output)
    with album.held():
        made = _make_pictures(rows, runs, groups, album, jobs, progress)
        content = _content(output, runs, rows, groups, album)
        page = render(content)
        _write(output, page)
        album.remove_others()
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


def _make_pictures(
    rows: list[ImageRow], runs: list[ReportedRun], groups: Groups, album: Album, jobs: int, progress: Progress
) -> int:
    """Makes what the album lacks; how many."""
    progress.begin(sum(len(row.maps) + 1 for row in rows if row.maps) + min(len(groups.groups), DRAWN))
    with Workers(jobs) as workers:
        made = make_pictures(wanted_pictures(rows, runs, album.side), album, workers, AHEAD * jobs, progress.step)
    means = list(wanted_means(groups, rows, runs, album.side))
    if not means:
        return made
    with Workers(min(jobs, len(means)), timeout=None) as patient:  # a group may have 100,000 maps
        return made + make_pictures(means, album, patient, jobs, progress.step)


def _content(output: Path, runs: list[ReportedRun], rows: list[ImageRow], groups: Groups, album: Album) -> Content:
    columns = Columns(output, runs, single=album.single)
    for row in rows:
        columns.add(row)
    return Content(
        one_line(output.resolve().name or "/"),
        Counter(row.status for row in rows),
        first_cells(rows, runs, album),
        [row for row in rows if row.status in FAILURES],
        groups,
        [about(run) for run in runs],
        packed(columns.as_json(groups, album.addresses)),
    )
