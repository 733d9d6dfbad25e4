"""What is done with each image on its way: decode -> work -> write."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from lrpcli.errors import ImageError
from lrpcli.pipeline.decode import Preparation, Prepared
from lrpcli.records.record import R

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def even_batch(images: int, most: int) -> int:
    """The size of the batches, `most` at most, that divide so many images as evenly as can be.

    >>> from lrpcli.pipeline.stages import even_batch
    >>> even_batch(17, 16), even_batch(3, 16), even_batch(0, 16)
    (9, 3, 1)
    """
    batches = max(1, -(-images // most))
    return max(1, -(-images // batches))


class Work(Protocol[T_co]):
    """What is computed of prepared images, many at once: relevance for `explain`, several maps for `compare`."""

    def sized(self, size: int) -> "Work[T_co]":
        """The same for batches of `size` images; smaller ones are filled up, as last digits depend on the size."""

    def __call__(self, batch: Sequence[Prepared]) -> Sequence[T_co | ImageError]:
        """One answer per image, in order. StoppedError ends the run."""


@dataclass(frozen=True)
class Stages(Generic[T, R]):
    """Images are decoded in processes of their own, and written in `jobs` threads beside the work.

    `write` makes the record of an image from what the work gave, and the seconds that the work took.
    """

    decode: Preparation
    work: Work[T]
    write: Callable[[Prepared, T, float], R]
    batch_size: int
    jobs: int

    def fitted(self, images: int) -> "Stages[T, R]":
        """The stages for so many images: batches all of one size, so that hardly any of them has to be filled up."""
        size = even_batch(images, self.batch_size)
        return replace(self, batch_size=size, work=self.work.sized(size))

    def alone(self) -> "Stages[T, R]":
        """The stages for one image at a time, without the copies that fill up a batch."""
        return replace(self, batch_size=1, work=self.work.sized(1))
