"""Images by true and predicted class, where folders name classes, and the mean map of each group."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath

from lrpcli.records.text import one_line
from lrpcli.report.drawing import MapLook, mean_heatmap, picture_style
from lrpcli.report.plan import on_photo
from lrpcli.report.rows import FAILURES, NO_PICTURE, ImageRow, ReportedRun
from lrpcli.report.thumbnails import Settled, Wanted, file_time, picture_name

DRAWN = 200
"""Groups with a mean map: the largest."""
NAMED = 12
"""Folders that name no class that the page names."""


@dataclass
class Group:
    """Images of one true class for which the model has one best class; `label` is the class of their first maps."""

    true: str
    predicted: str
    images: list[int] = field(default_factory=list)
    label: str = ""
    name: str = ""
    """Of the picture of the mean map, below the report's folder."""
    picture: int = NO_PICTURE


@dataclass
class Groups:
    """The groups, the largest first, and the folders whose names are those of no class that was seen, with counts."""

    groups: list[Group]
    others: list[tuple[str, int]]
    left_out: int


def find_groups(rows: list[ImageRow], runs: list[ReportedRun]) -> Groups:
    """The groups of finished images, whose rows get their true class; none where no folder names a class."""
    finished = [(number, row) for number, row in enumerate(rows) if row.status not in FAILURES and row.top and row.maps]
    known = _known_labels(rows)
    found: dict[tuple[str, str], Group] = {}
    others: Counter[str] = Counter()
    for number, row in finished:
        row.true = _true_class(row, runs[row.run], known)
        if row.true:
            predicted = row.top[0][1]
            found.setdefault((row.true, predicted), Group(row.true, predicted)).images.append(number)
        else:
            others[one_line(_folder(row))] += 1
    for group in found.values():
        labels = {rows[number].maps[0].label for number in group.images}
        group.label = labels.pop() if len(labels) == 1 else ""
    groups = sorted(found.values(), key=lambda group: (-len(group.images), group.true, group.predicted))
    return Groups(groups, others.most_common(NAMED), others.total())


def _known_labels(rows: list[ImageRow]) -> dict[str, str]:
    """Labels that stand in any record, by what a folder may be called after them."""
    seen: dict[str, int] = {}
    for row in rows:
        for target, label, _ in row.top:
            seen[label] = target
        for one in row.maps:
            seen[one.label] = one.target
    known = {label.casefold(): label for label in seen}
    return {**{label.casefold().replace(" ", "_"): label for label in seen}, **known}


def _true_class(row: ImageRow, run: ReportedRun, known: dict[str, str]) -> str:
    """The class after which the folder of an image is named; empty if there is none."""
    explain = None if run.description is None else run.description.settings.get("explain")
    if isinstance(explain, dict) and explain.get("targets") == ["from-folder"]:
        return row.maps[0].label
    return known.get(_folder(row).strip().casefold(), "")


def _folder(row: ImageRow) -> str:
    return PurePath(row.name if row.file is None else row.file.path).parent.name


def wanted_means(
    groups: Groups, rows: list[ImageRow], runs: list[ReportedRun], side: int
) -> Iterator[tuple[Wanted, Settled]]:
    """The picture of the mean map of each of the largest groups; none for maps on photos, which differ in size."""
    for group in groups.groups[:DRAWN]:
        first = rows[group.images[0]].maps[0].run
        if on_photo(runs[first]):
            continue
        paths = list(_maps_of(group, rows, runs[first], first))
        if not group.label or not paths or len(paths) < len(group.images):
            continue
        times = [time for path in paths if (time := file_time(path)) is not None]
        if len(times) < len(paths):
            continue
        state = hashlib.sha256("\0".join(map(repr, zip(paths, times, strict=True))).encode()).hexdigest()
        group.name = picture_name(state, "g")
        arguments = (paths, MapLook(picture_style(runs[first]), None), side)
        yield Wanted(group.name, paths[0], max(times), mean_heatmap, arguments), partial(setattr, group, "picture")


def _maps_of(group: Group, rows: list[ImageRow], run: ReportedRun, number: int) -> Iterator[str]:
    for image in group.images:
        first = rows[image].maps[0]
        if first.run == number and "map" in first.outputs:
            yield os.path.join(run.folder, first.outputs["map"])  # noqa: PTH118
