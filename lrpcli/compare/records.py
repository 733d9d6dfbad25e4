"""The record of a compared image: what each of its maps explains, and how it is drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from lrpcli.images.placement import Placement
from lrpcli.lrp.exploded import EXPLODED_ADVICE
from lrpcli.records.json_values import Fields, as_number, as_share
from lrpcli.records.record import Outputs, Record

SHEET, MAPS = "sheet", "maps"
"""Kinds of files of an image."""
PALE_BELOW = 0.1
"""A map whose own scale is less than this share of the one that it is drawn on is hardly to be seen."""
PALE = "a map is pale, as another one on its scale is ten times stronger; --scale map gives each its own"


@dataclass(frozen=True)
class ComparedMap:
    """One map: its column, the class and its probability, and what `lrp explain` would say of its relevance.

    `start` names what the backward pass began with, and `began` is its total. `scale` is the relevance that got the
    full colour, `own` what would have it if the map stood alone. `cosine` is that of the map and the first one, None
    where they lie on different grids or one is zero.
    """

    column: str
    target: int
    label: str
    score: float
    start: str
    began: float
    total: float
    kept: float | None
    scale: float
    own: float
    cosine: float | None
    placement: Placement
    exploded: bool = False

    @property
    def unit(self) -> tuple[str, tuple[int, int]]:
        """Maps with the same can share a scale: relevance is per pixel of the model's grid."""
        return self.start, self.placement.size

    def as_json(self) -> dict[str, object]:
        """An object."""
        values = {**vars(self), "placement": self.placement.as_dict()}
        return {name: value for name, value in values.items() if value is not None and value is not False}

    @classmethod
    def from_json(cls, fields: Fields) -> "ComparedMap":
        """What as_json wrote; ValueError for anything else."""
        kept, cosine = (None if fields.get(key) is None else fields.number(key) for key in ("kept", "cosine"))
        return cls(
            fields.text("column"), fields.whole("target"), fields.text("label"),
            as_share(fields.get("score"), "score"), fields.text("start"), fields.number("began"),
            fields.number("total"), kept, fields.number("scale"), fields.number("own"), cosine,
            _placement(fields.inner("placement")), fields.get("exploded") is True,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Compared(Record):
    """A finished image: its maps in the order of the columns, its sheet and its file of maps."""

    maps: tuple[ComparedMap, ...]
    files: Outputs
    note: str = ""
    """What the decoder printed."""

    SHOWN: ClassVar[tuple[str, ...]] = ("type", "input", "status", "outputs", "maps", "error", "seconds")

    @property
    def outputs(self) -> tuple[Outputs, ...]:
        """The files of the image."""
        return (self.files,)

    @property
    def warnings(self) -> tuple[str, ...]:
        """See Record."""
        said = (EXPLODED_ADVICE,) if any(one.exploded for one in self.maps) else ()
        return (*said, PALE) if any(one.own < PALE_BELOW * one.scale for one in self.maps) else said

    def below(self, folder: str) -> "Compared":
        """See Record."""
        return replace(self, files=self.files.below(folder))

    def as_json(self) -> dict[str, object]:
        """See Record."""
        values = super().as_json() | {"outputs": self.files.as_json(), "maps": [one.as_json() for one in self.maps]}
        return values | ({"note": self.note} if self.note else {})

    @classmethod
    def from_json(cls, fields: Fields) -> "Compared":
        """See Record."""
        return cls(
            **vars(Record.from_json(fields)),
            maps=tuple(map(ComparedMap.from_json, fields.objects("maps"))),
            files=Outputs.from_json(fields.inner("outputs")),
            note=fields.text("note") if fields.get("note") is not None else "",
        )


def _placement(fields: Fields) -> Placement:
    values: Mapping[str, Sequence[float]] = {
        name: list(map(as_number, fields.items(name))) for name in ("image_size", "box", "size")
    }
    rows, columns = values["size"]
    return Placement.from_dict({**values, "size": (int(rows), int(columns))})
