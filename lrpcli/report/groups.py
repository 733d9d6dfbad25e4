"""Images by true and predicted class, where folders name classes, and the mean map of each group."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from typing import NamedTuple

from lrpcli.errors import UsageError
from lrpcli.models.labels import parse_label, read_labels
from lrpcli.records.packed import StoredFile
from lrpcli.records.text import one_line
from lrpcli.report.drawing import MapLook, mean_heatmap, picture_style
from lrpcli.report.plan import on_photo
from lrpcli.report.rows import FAILURES, NO_PICTURE, ImageRow, ReportedRun
from lrpcli.report.thumbnails import Settled, Wanted, file_time, picture_name

DRAWN = 200
"""Groups with a mean map: the largest."""
NAMED = 12
"""Folders that name no class that the page names."""


class Class(NamedTuple):
    """One output of the net, and what people call it; several may be called the same."""

    number: int
    label: str


@dataclass
class Group:
    """Images of one true class for which the model has one best class; `label` is the class of their first maps."""

    true: Class
    predicted: Class
    images: list[int] = field(default_factory=list)
    label: str = ""
    name: str = ""
    """Of the picture of the mean map, below the report's folder."""
    picture: int = NO_PICTURE


@dataclass
class Groups:
    """The groups, and the folders that name no known class, the largest first; `left_out` images are in those."""

    groups: list[Group]
    others: list[tuple[str, int]]
    left_out: int


def find_groups(rows: list[ImageRow], runs: list[ReportedRun], labels: Sequence[str] = ()) -> Groups:
    """The groups of finished images, whose rows get their true class; none where no folder names a class.

    A class is known from `labels`, one per output of the net, or else where a record names it.
    """
    finished = [(number, row) for number, row in enumerate(rows) if row.status not in FAILURES and row.top and row.maps]
    known = _known(_named(labels)) if labels else _known(_seen(rows))
    found: dict[tuple[int, int], Group] = {}
    others: Counter[str] = Counter()
    for number, row in finished:
        true = _true_class(row, runs[row.run], known)
        if true is None:
            others[one_line(_folder(row))] += 1
            continue
        row.true, predicted = true.label, Class(*row.top[0][:2])
        found.setdefault((true.number, predicted.number), Group(true, predicted)).images.append(number)
    for group in found.values():
        targets = {(rows[number].maps[0].target, rows[number].maps[0].label) for number in group.images}
        group.label = targets.pop()[1] if len(targets) == 1 else ""
    groups = sorted(found.values(), key=lambda group: (-len(group.images), group.true, group.predicted))
    return Groups(groups, others.most_common(NAMED), others.total())


def _seen(rows: list[ImageRow]) -> Iterator[tuple[str, Class]]:
    """What folders may be called after the classes of the records."""
    classes = {Class(index, label) for row in rows for index, label, _ in row.top}
    for one in classes | {Class(one.target, one.label) for row in rows for one in row.maps}:
        yield from ((one.label, one), (one.label.replace(" ", "_"), one))


def _named(labels: Sequence[str]) -> Iterator[tuple[str, Class]]:
    """What folders may be called after the classes of a label file: synset ids and all names."""
    for index, line in enumerate(labels):
        label = parse_label(line)
        one = Class(index, one_line(label.name))
        for name in {label.synset or "", label.text, *label.synonyms} - {""}:
            yield from ((name, one), (name.replace(" ", "_"), one))


def _known(names: Iterable[tuple[str, Class]]) -> dict[str, Class]:
    """The class of each name, in any case; a name of several classes is that of none."""
    every: dict[str, set[Class]] = {}
    for name, one in names:
        every.setdefault(name.casefold(), set()).add(one)
    return {name: classes.pop() for name, classes in every.items() if len(classes) == 1}


def _true_class(row: ImageRow, run: ReportedRun, known: dict[str, Class]) -> Class | None:
    """The class after which the folder of an image is named; None if there is none."""
    explain = None if run.description is None else run.description.settings.get("explain")
    if isinstance(explain, dict) and explain.get("targets") == ["from-folder"]:
        return Class(row.maps[0].target, row.maps[0].label)
    return known.get(_folder(row).strip().casefold())


def _folder(row: ImageRow) -> str:
    return PurePath(row.name if row.file is None else row.file.path).parent.name


def require_labels(path: str, runs: list[ReportedRun]) -> tuple[str, ...]:
    """The lines of a label file. ModelError if it cannot be read, UsageError if a run had other labels."""
    labels = read_labels(path)
    own = hashlib.sha256("\n".join(labels).encode()).hexdigest()
    for run in runs:
        if run.description is not None and run.description.settings.get("labels_sha256") != own:
            raise UsageError(
                f"The label file {path!r} is not that of the model with which {os.fspath(run.folder)!r} was made. Name "
                "its own, which lrp explain was given or lrp models labels prints."
            )
    return labels


def wanted_means(
    groups: Groups, rows: list[ImageRow], runs: list[ReportedRun], side: int
) -> Iterator[tuple[Wanted, Settled]]:
    """The picture of the mean map of each of the largest groups; none for maps on photos, which differ in size."""
    for group in groups.groups[:DRAWN]:
        first = rows[group.images[0]].maps[0].run
        if on_photo(runs[first]):
            continue
        maps = list(_maps_of(group, rows, runs[first], first))
        if not group.label or not maps or len(maps) < len(group.images):
            continue
        times = [time for one in maps if (time := file_time(one.container)) is not None]
        if len(times) < len(maps):
            continue
        shown = [one.shown for one in maps]
        state = hashlib.sha256("\0".join(map(repr, zip(shown, times, strict=True))).encode()).hexdigest()
        group.name = picture_name(state, "g")
        arguments = (maps, MapLook(picture_style(runs[first]), None), side)
        yield Wanted(group.name, shown[0], max(times), mean_heatmap, arguments), partial(setattr, group, "picture")


def _maps_of(group: Group, rows: list[ImageRow], run: ReportedRun, number: int) -> Iterator[StoredFile]:
    for image in group.images:
        first = rows[image].maps[0]
        if first.run == number and "map" in first.outputs.paths:
            yield first.outputs.stored(os.fspath(run.folder), "map")
