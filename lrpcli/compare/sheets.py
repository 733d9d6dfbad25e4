"""The figures: a photo beside its maps, for one image or for a page of them, with what the colours mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from lrpcli.compare.records import Compared, ComparedMap
from lrpcli.compare.scales import Scales, largest, shared
from lrpcli.compare.settings import SheetSettings
from lrpcli.compare.stage import box_on
from lrpcli.pictures.colours import Floats
from lrpcli.pictures.figure import UNITS
from lrpcli.pictures.panels import ColourBar
from lrpcli.pictures.picture import cropped, draw
from lrpcli.pictures.sheet import Panel, sheet
from lrpcli.pictures.style import CROP

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE, SMALL_SIDE = 2.4, 1.7
"""Inches of a picture on the sheet of one image, and on a page of many."""


@dataclass(frozen=True)
class Drawable:
    """An image that is to be drawn: its photo at picture size, its maps (h, w), and what is known of them."""

    photo: Image.Image
    maps: Sequence[Floats]
    record: Compared


@dataclass(frozen=True)
class SheetMaker:
    """Makes figures; `settled` is what is the same in all columns, such as the model, for people."""

    settings: SheetSettings
    settled: str = ""

    def of_image(self, image: Drawable) -> "Figure":
        """The sheet of one image, under its name."""
        colours = _Colours.of([image.record], own=self.settings.scale == "map")
        rows = self._rows(image, Panel(self._photo(image), "photo"), colours)
        return self._sheet(rows, image.record.name, _class_of(image.record), colours, SIDE)

    def page(self, images: Sequence[Drawable], title: str) -> "Figure":
        """A page with a row for each image, all on the largest of their scales."""
        colours = _Colours.of([image.record for image in images], own=self.settings.scale == "map")
        rows = []
        for image in images:
            photo = Panel(self._photo(image), image.record.name, _class_of(image.record))
            rows += self._rows(image, photo, colours)
        return self._sheet(rows, title, "", colours, SMALL_SIDE)

    def _sheet(
        self, rows: list[list[Panel | None]], title: str, said: str, colours: "_Colours", side: float
    ) -> "Figure":
        how = "" if colours.one else "each map has the scale that stands below it"
        how += ", differences have that of the first" if how and self.settings.difference else ""
        note = "; ".join(text for text in (said, self.settled, how) if text)
        bar = ColourBar(self.settings.picture, colours.one, colours.unit or "full colour: below each map")
        return sheet(rows, title=title, note=note, bar=bar, side=side)

    def _rows(self, image: Drawable, photo: Panel, colours: "_Colours") -> list[list[Panel | None]]:
        """The photo and its maps, and with --difference what is left of these without the first."""
        classes = not _class_of(image.record)
        places = list(zip(image.maps, image.record.maps, strict=True))
        maps = [
            Panel(self._drawn(image, values, one, colours.scale(one)), one.column, colours.below(one, classes=classes))
            for values, one in places
        ]
        if not self.settings.difference:
            return [[photo, *maps]]
        scale = colours.scale(image.record.maps[0])
        differences = [
            Panel(self._drawn(image, values - image.maps[0], one, scale), "minus the first", _likeness(one))
            for values, one in places[1:]
        ]
        return [[photo, *maps], [None, None, *differences]]

    def _photo(self, image: Drawable) -> Image.Image:
        """The photo; cropped as the maps are, if they all are in the same way."""
        boxes = {box_on(image.photo, one.placement) for one in image.record.maps}
        if self.settings.picture.outside == CROP and len(boxes) == 1:
            return cropped(image.photo, boxes.pop())[0]
        return image.photo

    def _drawn(self, image: Drawable, relevance: Floats, one: ComparedMap, scale: float) -> Image.Image:
        return draw(image.photo, relevance, box_on(image.photo, one.placement), self.settings.picture, scale)


@dataclass(frozen=True)
class _Colours:
    """What gets the full colour on a sheet: `scales` by unit, None where each map has its own.

    `one` is the only scale of the sheet, if there is one, and `unit` what all its maps are measured in, or nothing.
    """

    scales: Scales | None
    one: float | None
    unit: str

    @classmethod
    def of(cls, records: Sequence[Compared], *, own: bool) -> "_Colours":
        """The largest scale of each unit over some images."""
        scales = largest((one.unit, one.scale) for record in records for one in record.maps)
        starts = {start for start, _ in scales}
        one = next(iter(scales.values())) if shared(list(scales)) and not own else None
        return cls(None if own else scales, one, _unit(starts.pop()) if len(starts) == 1 else "")

    def scale(self, one: ComparedMap) -> float:
        """That of a map."""
        return one.scale if self.scales is None else self.scales[one.unit]

    def below(self, one: ComparedMap, *, classes: bool) -> str:
        """What stands below a map: the kept share first, as what is too long is cut at its end."""
        said = ["no kept share" if one.kept is None else f"kept {100 * one.kept:.0f}%"]
        if self.one is None:
            said.append(f"full colour {self.scale(one):.2g}" + ("" if self.unit else f" {_unit(one.start)}"))
        return ", ".join([*said, *([_class(one)] if classes else [])])


def _unit(start: str) -> str:
    return UNITS.get(start, start)


def _class_of(record: Compared) -> str:
    """The class and its probability, if all maps explain the same one; else nothing."""
    classes = {(one.target, one.label, round(one.score, 4)) for one in record.maps}
    return _class(record.maps[0]) if len(classes) == 1 else ""


def _class(one: ComparedMap) -> str:
    return f"{one.label} {100 * one.score:.0f}%"


def _likeness(one: ComparedMap) -> str:
    return "" if one.cosine is None else f"cosine with the first {one.cosine:.2f}"
