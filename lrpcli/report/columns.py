"""The rows as columns of short values, for the page to carry: gzipped JSON of which page.js makes the gallery."""

import base64
import gzip
import json
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from lrpcli.records.text import one_line
from lrpcli.report.addresses import SHOWN_BY_BROWSERS, address, file_address, folder_address
from lrpcli.report.groups import Groups
from lrpcli.report.plan import geometry, linked_files, shown_kind
from lrpcli.report.rows import MISSING, PLAIN, STATUSES, ImageRow, MapRow, ReportedRun
from lrpcli.report.thumbnails import picture_key

T = TypeVar("T", bound=Hashable)
DIGITS = 4
"""Significant digits of relevances, and digits of shares."""


class Table(Generic[T]):
    """Values by number, each once."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._numbers: dict[T, int] = {}

    def number(self, value: T) -> int:
        """The number of a value."""
        found = self._numbers.get(value)
        if found is None:
            found = self._numbers[value] = len(self.values)
            self.values.append(value)
        return found


class Columns:
    """The columns of images and of maps; page.js says at its head which is which."""

    def __init__(self, output: Path, runs: list[ReportedRun], *, single: bool) -> None:
        self.output, self.runs, self.single = output, runs, single
        self.labels, self.errors, self.roots = Table[str](), Table[str](), Table[str]()
        self.files = Table[tuple[tuple[str, str], ...]]()
        self.images = _empty("n", "id", "s", "e", "r", "p", "pt", "w", "h", "sec", "top", "true", "first")
        self.maps = _empty(
            "r", "at", "c", "l", "s", "k", "total", "start", "min", "max", "scale", "f", "pic", "warn", "box"
        )  # fmt: skip
        self.sparse: dict[str, dict[int, object]] = {
            name: {} for name in ("address", "message", "note", "photo", "shown", "files")
        }

    def add(self, row: ImageRow) -> None:
        """Adds an image and its maps."""
        number, name = len(self.images["n"]), one_line(row.name)
        if name != row.name:
            self.sparse["address"][number] = address(row.name)
        if row.message:
            self.sparse["message"][number] = row.message
        if row.note:
            self.sparse["note"][number] = row.note
        values: Mapping[str, object] = {
            "n": name, "id": picture_key(row.name) if row.maps else "", "s": STATUSES.index(row.status),
            "e": self.errors.number(row.kind) if row.kind else -1, "r": row.run, "p": self._photo(row, number),
            "pt": -1 if row.changed else row.photo, "w": row.size[1], "h": row.size[0],
            "sec": None if row.seconds is None else _short(row.seconds),
            "top": [part for _, label, score in row.top for part in (self.labels.number(label), round(score, DIGITS))],
            "true": self.labels.number(row.true) if row.true else -1, "first": len(self.maps["r"]),
        }  # fmt: skip
        for key, value in values.items():
            self.images[key].append(value)
        for one in row.maps:
            self._add_map(row, one)

    def _add_map(self, row: ImageRow, one: MapRow) -> None:
        number = len(self.maps["r"])
        values: Mapping[str, object] = {
            "r": one.run, "at": one.place, "c": one.target, "l": self.labels.number(one.label),
            "s": round(one.score, DIGITS), "k": None if one.kept is None else round(one.kept, DIGITS),
            "total": _short(one.total), "start": _short(one.start), "min": _short(one.least), "max": _short(one.most),
            "scale": _short(one.scale), "f": self._files(row, one, number), "pic": one.picture,
            "warn": int(one.exploded), "box": self._box(row, one),
        }  # fmt: skip
        for key, value in values.items():
            self.maps[key].append(value)

    def _files(self, row: ImageRow, one: MapRow, number: int) -> int:
        """The number of the suffixes that an image's files have behind its name; -1 for files called otherwise."""
        paths = linked_files(one)
        shown = shown_kind(paths)
        self.sparse["shown"].update({number: shown} if shown else {})
        if (
            self.single
            or one.outputs.packed is not None
            or not all(path.startswith(row.name) for path in paths.values())
        ):
            self.sparse["files"][number] = {} if self.single else {one_line(k): address(p) for k, p in paths.items()}
            return -1
        behind = {one_line(kind): address(path[len(row.name) :]) for kind, path in paths.items()}
        return self.files.number(tuple(behind.items()))

    def _photo(self, row: ImageRow, number: int) -> int:
        """The number of the address before an image's name that leads to its photo; -1 where it is another, or none."""
        if self.single or row.file is None or row.changed or not row.file.path.lower().endswith(SHOWN_BY_BROWSERS):
            return -1
        if row.photo == MISSING:
            return -1
        place = file_address(row.file.path, self.output)
        if place.endswith(f"/{address(row.name)}") and one_line(row.name) == row.name:
            return self.roots.number(place.removesuffix(address(row.name)))
        self.sparse["photo"][number] = place
        return -1

    def _box(self, row: ImageRow, one: MapRow) -> object:
        """The part of the photo that a picture shows, as shares of its sides; 0 for all of it, None if not known."""
        shown = geometry(self.runs[one.run])
        height, width = row.size
        if shown == "photo" or not shown or min(row.size) < 1:
            return 0 if shown and min(row.size) > 0 else None
        left, top, right, bottom = row.box
        if shown == "seen":
            left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        return [round(edge, 5) for edge in (left / width, top / height, right / width, bottom / height)]

    def as_json(self, groups: Groups, pictures: Mapping[str, str]) -> dict[str, object]:
        """All of it; `pictures` are the small pictures themselves, as addresses, where they are not files."""
        runs = [
            {"name": run.name, "at": "" if self.single else folder_address(run.folder, self.output), "key": run.key}
            for run in self.runs
        ]
        return {
            "runs": runs, "plain": PLAIN, "statuses": STATUSES, "labels": self.labels.values,
            "errors": self.errors.values, "roots": self.roots.values, "files": self.files.values,
            "image": self.images, "map": self.maps, "sparse": self.sparse, "pictures": pictures,
            "groups": [
                [self.labels.number(group.true.label), self.labels.number(group.predicted.label), group.images,
                 group.name, group.picture, group.label, int(group.true.number == group.predicted.number)]
                for group in groups.groups
            ],
        }  # fmt: skip


def _empty(*names: str) -> dict[str, list[object]]:
    return {name: [] for name in names}


def _short(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def packed(values: Mapping[str, object]) -> str:
    """An object as JSON, gzipped, in base64; the same values give the same text."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("utf-8", "backslashreplace"), 9, mtime=0)).decode("ascii")
