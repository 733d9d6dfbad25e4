"""A compared image on its way out: its sheet, the file of its maps, and the record of it."""

import io
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from lrpcli.compare.records import MAPS, SHEET, Compared, ComparedMap
from lrpcli.compare.scales import Scales, cosine, largest
from lrpcli.compare.settings import SheetSettings
from lrpcli.compare.sheets import Drawable, SheetMaker
from lrpcli.compare.stage import ColumnMap, PreparedForModels, Way
from lrpcli.errors import OutputError
from lrpcli.models.model import Model
from lrpcli.pictures.encode import FORMATS
from lrpcli.pictures.figure import figure_bytes, own_style
from lrpcli.pictures.picture import picture_scale
from lrpcli.pipeline.decode import Prepared
from lrpcli.pipeline.write import SAME_SCALE
from lrpcli.records.folder import open_regular
from lrpcli.records.record import Outputs
from lrpcli.records.store import npz_bytes, write_whole

SUFFIX = ".compare"
PHOTO = "photo"
"""Name of the photo at picture size, (H, W, 3), in the file of maps; the maps are map1, map2, ..."""


@dataclass(frozen=True)
class SheetWriter:
    """Writes the files of an image into `folder`; `owner` is in the names of temporary files, see write_whole.

    `scales` are those of all images, where these share one; with `silent` nothing is written.
    """

    folder: Path
    models: tuple[Model, ...]
    ways: tuple[Way, ...]
    settings: SheetSettings
    maker: SheetMaker
    owner: str = "0"
    scales: Scales | None = None
    silent: bool = False

    def __call__(self, item: Prepared, maps: list[ColumnMap], seconds: float) -> Compared:
        """Record of a finished image. ImageError if its files cannot be written, OutputError if no file can."""
        started = time.perf_counter()
        assert isinstance(item, PreparedForModels)
        record = Compared(
            input=item.source.path,
            name=item.source.name,
            maps=self._scaled(self._described(item, maps)),
            files=self._paths(item.source.name),
            note=item.note,
        )
        if not self.silent:
            self._write(Drawable(item.photo, [one.relevance for one in maps], record) if item.photo else None)
        return replace(record, seconds=round(item.seconds + seconds + time.perf_counter() - started, 4))

    def fits(self, record: Compared, path: str, name: str) -> bool:
        """Whether a record has the classes asked of the image at a path, files named after it, and this run's scale."""
        found = iter(one.target for one in record.maps)
        return (
            record.files == self._paths(name)
            and [one.column for one in record.maps] == [column for way in self.ways for column in way.columns]
            and all(way.engine.targets.fit([next(found) for _ in way.columns], record.input, path) for way in self.ways)
            and all(self._same_scale(one) for one in record.maps)
        )

    def _same_scale(self, one: ComparedMap) -> bool:
        wanted = None if self.scales is None else self.scales.get(one.unit)
        return self.scales is None or (wanted is not None and abs(one.scale - wanted) <= SAME_SCALE * wanted)

    def _paths(self, name: str) -> Outputs:
        ending = FORMATS[self.settings.picture_format]
        return Outputs({SHEET: f"{name}{SUFFIX}{ending}", MAPS: f"{name}{SUFFIX}.npz"})

    def _described(self, item: PreparedForModels, maps: list[ColumnMap]) -> list[ComparedMap]:
        """What the record says of each map; its scale is its own so far."""
        columns = [(way, column) for way in self.ways for column in way.columns]
        return [
            self._describe(item, way, column, one, None if one is maps[0] else cosine(maps[0].relevance, one.relevance))
            for (way, column), one in zip(columns, maps, strict=True)
        ]

    def _describe(
        self, item: PreparedForModels, way: Way, column: str, one: ColumnMap, likeness: float | None
    ) -> ComparedMap:
        explanation, own = one.explanation, picture_scale(one.relevance, self.settings.picture)
        return ComparedMap(
            column,
            explanation.target,
            self.models[way.model].label(explanation.target),
            round(explanation.score, 6),
            way.engine.explainer.start,
            explanation.start,
            float(one.relevance.sum(dtype=np.float64)),
            None if explanation.kept is None else round(explanation.kept, 6),
            own,
            own,
            likeness,
            item.inputs[way.model][1],
            explanation.exploded,
        )

    def _scaled(self, maps: list[ComparedMap]) -> tuple[ComparedMap, ...]:
        """The maps with the scale that the settings ask for."""
        wanted = self.settings.scale
        if wanted == "map":
            return tuple(maps)
        if not isinstance(wanted, str):
            return tuple(replace(one, scale=wanted) for one in maps)
        scales = largest((one.unit, one.scale) for one in maps) if self.scales is None else self.scales
        return tuple(replace(one, scale=scales[one.unit]) for one in maps)

    def _write(self, image: Drawable | None) -> None:
        """The maps first, then the sheet, which stands for a finished image."""
        assert image is not None
        self._put(image.record.files.paths[MAPS], maps_bytes(image))
        with own_style():
            figure = self.maker.of_image(image)
            content = figure_bytes(figure, self.settings.picture_format, self.settings.quality)
        self._put(image.record.files.paths[SHEET], content)

    def _put(self, path: str, content: bytes) -> None:
        write_whole(Path(self.folder, path), content, self.owner, self.folder)


def maps_bytes(image: Drawable) -> bytes:
    """The content of the .npz file of an image: its photo at picture size, and map1, map2, ... in order."""
    maps = {f"map{number}": values for number, values in enumerate(image.maps, 1)}
    return npz_bytes({PHOTO: np.asarray(image.photo), **maps})


def read_drawable(folder: Path, record: Compared) -> Drawable:
    """What maps_bytes was made of. OutputError if the file cannot be read, or is not that of this record."""
    path = Path(record.files.paths[MAPS])
    try:
        inner = "" if str(path.parent) == "." else str(path.parent)
        with os.fdopen(open_regular(folder, inner, path.name, os.O_RDONLY), "rb") as file:
            data = file.read()
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            photo = Image.fromarray(arrays[PHOTO])
            maps = [arrays[f"map{number}"] for number in range(1, len(record.maps) + 1)]
    except Exception as error:  # zip files fail in many ways
        raise _damaged(folder / path) from error
    if photo.mode != "RGB" or any(
        values.shape != one.placement.size or values.dtype != np.float32
        for values, one in zip(maps, record.maps, strict=True)
    ):
        raise _damaged(folder / path)
    return Drawable(photo, maps, record)


def _damaged(path: Path) -> OutputError:
    return OutputError(
        f"The maps in {os.fspath(path)!r} cannot be read, and the sheet of all images needs them. Make them anew with "
        "--force."
    )
