"""One image through every model and config: decoded once, fed to each model as it needs it, explained per column."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from PIL import Image

from lrpcli.errors import ImageError
from lrpcli.images.placement import Placement
from lrpcli.images.preprocess import Preprocessing
from lrpcli.pictures.colours import Floats
from lrpcli.pictures.picture import Box
from lrpcli.pipeline.decode import Preparation, Prepared
from lrpcli.pipeline.explain import Answer, Engine, Explanation


@dataclass(kw_only=True)
class PreparedForModels(Prepared):
    """An image as each model gets it: its input (C, h, w), and where the model's grid lies on the photo."""

    inputs: tuple[tuple[Floats, Placement], ...]

    def for_model(self, number: int) -> Prepared:
        """The image for one model."""
        pixels, placement = self.inputs[number]
        return replace(self, pixels=pixels, placement=placement)


@dataclass(frozen=True)
class PreparationForModels(Preparation):
    """Decodes an image once, and preprocesses it for each model; `others` are all models but the first."""

    others: tuple[Preprocessing, ...] = ()

    def completed(self, prepared: Prepared, image: Image.Image) -> PreparedForModels:
        """See Preparation."""
        first = (prepared.pixels, prepared.placement)
        return PreparedForModels(**vars(prepared), inputs=(first, *(other.apply(image) for other in self.others)))


def box_on(photo: Image.Image, placement: Placement) -> Box:
    """What a model's grid covers, in pixels of the photo at picture size."""
    across, down = photo.width / placement.image_size[1], photo.height / placement.image_size[0]
    left, top, right, bottom = placement.box
    return left * across, top * down, right * across, bottom * down


@dataclass
class ColumnMap:
    """The map of one column: relevance (h, w) with channels summed, and all that the engine says beside it."""

    relevance: Floats
    explanation: Explanation


@dataclass(frozen=True)
class Way:
    """A way to make maps: the number of the model, the engine, and the names of the columns that its classes get."""

    model: int
    engine: Engine
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Comparing:
    """The work stage: all maps of each image, in the order of the columns."""

    ways: tuple[Way, ...]

    def sized(self, size: int) -> "Comparing":
        """See Work."""
        return Comparing(tuple(replace(way, engine=way.engine.sized(size)) for way in self.ways))

    def __call__(self, batch: Sequence[Prepared]) -> list[list[ColumnMap] | ImageError]:
        """See Work. What fails in one way fails: a sheet without one of its columns would compare something else."""
        answers: list[list[ColumnMap] | ImageError] = [[] for _ in batch]
        for way in self.ways:
            places = [place for place, found in enumerate(answers) if not isinstance(found, ImageError)]
            items = [cast(PreparedForModels, batch[place]).for_model(way.model) for place in places]
            for place, answer in zip(places, way.engine(items) if items else (), strict=True):
                answers[place] = _with(answers[place], answer, way)
        return answers


def _with(found: list[ColumnMap] | ImageError, answer: Answer | ImageError, way: Way) -> list[ColumnMap] | ImageError:
    """What is known of an image with the maps of one more way; channels are summed as `lrp explain` sums them."""
    assert not isinstance(found, ImageError)
    if isinstance(answer, ImageError):
        return ImageError(answer.kind, f"In the column {way.columns[0]!r}: {answer}")
    return [
        *found,
        *(ColumnMap(one.relevance.sum(0, dtype=np.float64).astype(np.float32), replace(one, relevance=_NONE))
          for one in answer.explanations),
    ]  # fmt: skip


_NONE = np.zeros((0, 0, 0), np.float32)
"""In place of the relevance of each channel, which is not needed any more."""
