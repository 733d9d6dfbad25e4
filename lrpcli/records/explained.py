"""The record of an explained image: its maps, its best classes, and where the model's grid lies on the photo."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from lrpcli.lrp.exploded import EXPLODED_ADVICE
from lrpcli.records.json_values import Fields, as_number, as_share, as_text, as_whole
from lrpcli.records.record import Outputs, Record

PlacementValues = Mapping[str, Sequence[float]]
"""Numbers of images.placement.Placement by name, as it writes them down."""
PLACEMENT = {"image_size": 2, "box": 4, "size": 2}
"""How many numbers it has of each name."""


@dataclass(frozen=True)
class RelevanceRange:
    """Sum of a map, what the backward pass began with, smallest and largest pixel; in units of the start value."""

    total: float
    start: float
    min: float
    max: float
    exploded: bool = False
    """Whether single relevances are over a million times the start."""
    kept: float | None = None
    """Share of the start that reached the pixels, total / start; None for starts that have no total of their own."""
    positive: float | None = None
    negative: float | None = None
    """Sums of the pixels that speak for and against the class; early versions did not write them down."""

    def as_json(self) -> dict[str, object]:
        """Four numbers, the others where they are known and "exploded" where it holds."""
        numbers: dict[str, object] = {"total": self.total, "start": self.start, "min": self.min, "max": self.max}
        others = {"kept": self.kept, "positive": self.positive, "negative": self.negative}
        numbers |= {name: number for name, number in others.items() if number is not None}
        if self.exploded:
            numbers["exploded"] = True
        return numbers

    @classmethod
    def from_json(cls, fields: Fields) -> "RelevanceRange":
        """What as_json wrote; ValueError for anything else."""
        total, start, least, most = (fields.number(key) for key in ("total", "start", "min", "max"))
        kept, positive, negative = (
            None if fields.get(key) is None else fields.number(key) for key in ("kept", "positive", "negative")
        )
        return cls(total, start, least, most, fields.get("exploded") is True, kept, positive, negative)


@dataclass(frozen=True)
class ExplainedClass:
    """One class of one image: its files, probability, relevance, and the relevance that got the full colour."""

    outputs: Outputs
    target: int
    label: str
    score: float
    relevance: RelevanceRange
    scale: float

    def as_json(self) -> dict[str, object]:
        """An object."""
        packed = self.outputs.packed
        return {
            "outputs": self.outputs.as_json(), **({} if packed is None else {"pack": packed.as_json()}),
            "target": self.target, "label": self.label, "score": self.score,
            "relevance": self.relevance.as_json(), "scale": self.scale,
        }  # fmt: skip

    @classmethod
    def from_json(cls, fields: Fields) -> "ExplainedClass":
        """What as_json wrote; ValueError for anything else."""
        return cls(
            Outputs.of_class(fields),
            fields.whole("target"),
            fields.text("label"),
            as_share(fields.get("score"), "score"),
            RelevanceRange.from_json(fields.inner("relevance")),
            fields.number("scale"),
        )


class TopClass(NamedTuple):
    """One of the best classes with its probability."""

    target: int
    label: str
    score: float

    @classmethod
    def from_json(cls, value: object) -> "TopClass":
        """A list of the three; ValueError for anything else."""
        if not isinstance(value, list) or len(value) != 3:
            raise ValueError("'top' is not classes with their scores")
        return cls(as_whole(value[0]), as_text(value[1]), as_share(value[2]))


@dataclass(frozen=True, kw_only=True)
class Explained(Record):
    """A finished image: one class or several, the best classes, the grid's place, what the decoder printed."""

    classes: tuple[ExplainedClass, ...]
    top: tuple[TopClass, ...] = ()
    placement: PlacementValues
    note: str = ""
    class_cosine: float | None = None
    """Cosine of the maps of the best and the second class, where it was asked for."""

    SHOWN: ClassVar[tuple[str, ...]] = (
        "type", "input", "status", "outputs", "pack", "target", "label", "score", "top", "relevance", "explanations",
        "class_cosine", "error", "seconds",
    )  # fmt: skip

    @property
    def outputs(self) -> tuple[Outputs, ...]:
        """The files of each class."""
        return tuple(one.outputs for one in self.classes)

    @property
    def warnings(self) -> tuple[str, ...]:
        """See Record."""
        return (EXPLODED_ADVICE,) if any(one.relevance.exploded for one in self.classes) else ()

    @classmethod
    def outputs_of(cls, fields: Fields) -> Iterable[Outputs]:
        """The files that a journal's line names, without reading the rest. ValueError for anything else."""
        return (Outputs.of_class(part) for part in _parts(fields))

    def below(self, folder: str) -> "Explained":
        """The same with its files as paths that begin with a folder."""
        classes = tuple(replace(one, outputs=one.outputs.below(folder)) for one in self.classes)
        return replace(self, classes=classes)

    def as_json(self) -> dict[str, object]:
        """See Record; the fields of the first class stand for the image, all are listed if there are several."""
        values = super().as_json()
        values |= {**self.classes[0].as_json(), "top": [list(one) for one in self.top]}
        if len(self.classes) > 1:
            values["explanations"] = [one.as_json() for one in self.classes]
        values["placement"] = {name: list(numbers) for name, numbers in self.placement.items()}
        if self.note:
            values["note"] = self.note
        if self.class_cosine is not None:
            values["class_cosine"] = self.class_cosine
        return values

    @classmethod
    def from_json(cls, fields: Fields) -> "Explained":
        """See Record."""
        return cls(
            **vars(Record.from_json(fields)),
            classes=tuple(map(ExplainedClass.from_json, _parts(fields))),
            top=tuple(map(TopClass.from_json, fields.items("top"))),
            placement=_placement(fields.inner("placement")),
            note=fields.text("note") if fields.get("note") is not None else "",
            class_cosine=None if fields.get("class_cosine") is None else fields.number("class_cosine"),
        )


def _placement(fields: Fields) -> PlacementValues:
    values = {name: list(map(as_number, fields.items(name))) for name in fields.values}
    if {name: len(numbers) for name, numbers in values.items()} != PLACEMENT:
        raise ValueError("'placement' does not hold its numbers")
    return values


def _parts(fields: Fields) -> list[Fields]:
    """The fields of each class in a line; those of the only one stand in the line itself."""
    parts = list(fields.objects("explanations")) if fields.get("explanations") is not None else [fields]
    if not parts:
        raise ValueError("'explanations' is empty")
    return parts
