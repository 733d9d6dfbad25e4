"""The images of a tuning: read once, those that are the same counted once, and divided into two parts."""

import hashlib
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lrpcli.errors import ImageError, UsageError
from lrpcli.evaluation.evaluator import Evaluator
from lrpcli.evaluation.summary import FEWEST
from lrpcli.images.find import Source
from lrpcli.pipeline.decode import Prepared
from lrpcli.pipeline.stages import Stages
from lrpcli.pipeline.stream import run_stages
from lrpcli.pipeline.workers import Workers
from lrpcli.records.record import Record
from lrpcli.tuning.measuring import Photos
from lrpcli.tuning.settings import FEWEST_IMAGES


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo(Record):
    """An image that can be used: the model's input (C, h, w), and its logits (classes,)."""

    pixels: NDArray[np.float32]
    logits: Tensor

    def digest(self, seed: int) -> bytes:
        """What tells its pixels from others', and puts images into a random order that depends on nothing else."""
        return hashlib.sha256(f"tune {seed} ".encode() + self.pixels.tobytes()).digest()


@dataclass(frozen=True)
class Division:
    """The images that are searched and those that are held out; `copies` had the pixels of another and are neither."""

    search: Photos
    held_out: Photos
    copies: tuple[str, ...]


def read_photos(
    evaluator: Evaluator, sources: Sequence[Source], workers: Workers, stop: threading.Event, jobs: int
) -> Generator[Photo | Record, None, None]:
    """A record of each image, in order: a Photo, or what it failed of. When `stop` is set, the rest is dropped."""
    stages = Stages(evaluator.preparation, _Predicting(evaluator), _as_photo, evaluator.batch_size, jobs)
    yield from run_stages(sources, stages, workers, stop, lambda source: None)


@dataclass(frozen=True)
class _Predicting:
    """The work stage: the logits of each image."""

    evaluator: Evaluator

    def sized(self, size: int) -> "_Predicting":
        """See stages.Work; the logits choose the class alone, and are computed once."""
        return self

    def __call__(self, batch: Sequence[Prepared]) -> list[Tensor | ImageError]:
        """(classes,) for each image."""
        logits = self.evaluator.maps.predict(self.evaluator.as_input(batch)).cpu()
        return [
            row if bool(row.isfinite().all()) else ImageError("compute", _not_finite(item))
            for item, row in zip(batch, logits, strict=True)
        ]


def _not_finite(item: Prepared) -> str:
    return f"The scores that the net gives {item.source.path!r} are not finite."


def _as_photo(item: Prepared, logits: Tensor, seconds: float) -> Photo:
    return Photo(
        input=item.source.path, name=item.source.name, seconds=round(seconds, 4), pixels=item.pixels, logits=logits
    )


def divide(photos: Sequence[Photo], seed: int) -> Division:
    """Half of the images for the search (the larger half), half held out: by their pixels and the seed alone.

    So the division is the same whatever files are called, and no copy of a held-out image is searched. UsageError for
    fewer than FEWEST_IMAGES different ones.
    """
    found: dict[bytes, Photo] = {}
    copies = []
    for photo in photos:
        if found.setdefault(photo.digest(seed), photo) is not photo:
            copies.append(photo.input)
    require_enough(len(found))
    ordered = [found[digest] for digest in sorted(found)]
    held = len(ordered) // 2
    return Division(_gathered(ordered[held:]), _gathered(ordered[:held]), tuple(copies))


def require_enough(images: int) -> None:
    """UsageError for fewer images than a tuning needs."""
    if images < FEWEST_IMAGES:
        raise UsageError(
            f"A tuning needs at least {FEWEST_IMAGES} different images that can be used, half of which are held out; "
            f"there {'is' if images == 1 else 'are'} {images}. Name more images; from {2 * FEWEST} on the gain has an "
            "interval."
        )


def _gathered(photos: Sequence[Photo]) -> Photos:
    return Photos(
        tuple(photo.input for photo in photos),
        torch.from_numpy(np.stack([photo.pixels for photo in photos])),
        torch.stack([photo.logits for photo in photos]),
    )
