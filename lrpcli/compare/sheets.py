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
        scales = None if self.settings.scale == "map" else _scales([image.record])
        said = [_class_of(image.record), self.settled]
        return self._sheet([image], image.record.name, said, scales, SIDE)

    def page(self, images: Sequence[Drawable], title: str) -> "Figure":
        """A page with a row for each image, all on the largest of their scales."""
        scales = None if self.settings.scale == "map" else _scales([image.record for image in images])
        return self._sheet(images, title, [self.settled], scales, SMALL_SIDE)

    def _sheet(
        self, images: Sequence[Drawable], title: str, said: Sequence[str], scales: Scales | None, side: float
    ) -> "Figure":
        units = list(dict.fromkeys(one.unit for image in images for one in image.record.maps))
        stated = scales is not None and shared(units)
        unit = UNITS.get(units[0][0], units[0][0]) if len({start for start, _ in units}) == 1 else "full colour: below"
        named = len(images) > 1 or side == SMALL_SIDE
        rows = [row for image in images for row in self._rows(image, scales, stated, named=named)]
        bar = ColourBar(self.settings.picture, scales[units[0]] if scales is not None and stated else None, unit)
        how = "" if stated else "each map has the scale that stands below it"
        how += ", differences have that of the first" if how and self.settings.difference else ""
        return sheet(rows, title=title, note="; ".join(text for text in (*said, how) if text), bar=bar, side=side)

    def _rows(self, image: Drawable, scales: Scales | None, stated: bool, *, named: bool) -> list[list[Panel | None]]:
        """The photo and its maps, and with --difference what is left of these without the first."""
        record, common = image.record, _class_of(image.record)
        photo = self._photo(image)
        left = Panel(photo, record.name, common) if named else Panel(photo)
        places = list(zip(image.maps, record.maps, strict=True))
        scale_of = {id(one): one.scale if scales is None else scales[one.unit] for one in record.maps}
        maps = [
            Panel(self._drawn(image, values, one, scale_of[id(one)]), one.column,
                  _below(one, None if stated else scale_of[id(one)], classes=not common))
            for values, one in places
        ]  # fmt: skip
        if not self.settings.difference:
            return [[left, *maps]]
        differences = [
            Panel(self._drawn(image, values - image.maps[0], one, scale_of[id(record.maps[0])]),
                  f"{one.column} minus first", "" if one.cosine is None else f"cosine {one.cosine:.2f}")
            for values, one in places[1:]
        ]  # fmt: skip
        return [[left, *maps], [None, None, *differences]]

    def _photo(self, image: Drawable) -> Image.Image:
        """The photo; cropped as the maps are, if they all are in the same way."""
        boxes = {box_on(image.photo, one.placement) for one in image.record.maps}
        if self.settings.picture.outside == CROP and len(boxes) == 1:
            return cropped(image.photo, boxes.pop())[0]
        return image.photo

    def _drawn(self, image: Drawable, relevance: Floats, one: ComparedMap, scale: float) -> Image.Image:
        return draw(image.photo, relevance, box_on(image.photo, one.placement), self.settings.picture, scale)


def _scales(records: Sequence[Compared]) -> Scales:
    return largest((one.unit, one.scale) for record in records for one in record.maps)


def _class_of(record: Compared) -> str:
    """The class and its probability, if all maps explain the same one; else nothing."""
    classes = {(one.target, one.label, round(one.score, 4)) for one in record.maps}
    return _class(record.maps[0]) if len(classes) == 1 else ""


def _class(one: ComparedMap) -> str:
    return f"{one.label}, score {100 * one.score:.0f} %"


def _below(one: ComparedMap, scale: float | None, *, classes: bool) -> str:
    """The kept share first, as what is too long is cut at its end."""
    said = ["no kept share" if one.kept is None else f"kept {100 * one.kept:.0f} %"]
    said += [] if scale is None else [f"full colour {scale:.2g} {_unit(one)}"]
    return ", ".join([*said, *([_class(one)] if classes else [])])


def _unit(one: ComparedMap) -> str:
    return {"logit": "logits"}.get(one.start, one.start)
