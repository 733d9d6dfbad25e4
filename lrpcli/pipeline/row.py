"""A part of a run's images that a process of its own works on, with a journal of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from lrpcli.images.find import Source
from lrpcli.pipeline.shard import MAXIMUM, Shard
from lrpcli.pipeline.stages import even_batch
from lrpcli.records.handed import Handed

CHECKED = 20
"""Images of a run that are checked for maps that depend on the class."""
MOST_BATCHES = 64
"""In a row: what a stopped or a dead process has to take up again, and what one may lag behind the others."""
ROWS_A_WORKER = 4
"""So that one that is slow leaves rows to the others."""


def sampled(sources: Sequence[Source]) -> list[Source]:
    """CHECKED images, evenly spread over a run; all, if it has fewer."""
    count = min(CHECKED, len(sources))
    return [sources[place * len(sources) // count] for place in range(count)]


@dataclass(frozen=True)
class Whole:
    """What the stages need to know of all images of a run: how many there are, and a sample of them, or all."""

    images: int
    sources: Sequence[Source]

    @property
    def sample(self) -> frozenset[str]:
        """The names of the images that are checked for maps that depend on the class."""
        return frozenset(source.name for source in sampled(self.sources))


@dataclass(frozen=True)
class Row:
    """Images that follow each other in a run, worked on as if they were the shard `shard`.

    `images` counts those of the run with all its shards; `whole` is that of which the rows are rows. `handed` is what
    the process that made the row knows of its images.
    """

    shard: Shard
    sources: Sequence[Source]
    images: int
    whole: Whole
    handed: Handed


@dataclass(frozen=True)
class Rows:
    """How the share of `shard`, so many `images`, is divided into `count` rows of `size` images.

    All but the last hold full batches, so that nearly every batch is as it would be in one process.
    """

    shard: Shard
    images: int
    size: int

    @classmethod
    def of(cls, shard: Shard, images: int, batch_size: int, workers: int) -> "Rows":
        """Rows for so many workers; `batch_size` as in Stages, before it is fitted to the images."""
        batch = even_batch(images, batch_size)
        batches = max(1, min(MOST_BATCHES, -(-images // (batch * workers * ROWS_A_WORKER))))
        least = -(-images // (MAXIMUM // shard.count))
        return cls(shard, images, batch * max(batches, -(-least // batch)))

    @property
    def count(self) -> int:
        """How many there are."""
        return -(-self.images // self.size)

    def shard_of(self, place: int) -> Shard:
        """The shard that the row at a place, from 0, counts as: no two rows of any of the run's shards are the same."""
        return Shard(place * self.shard.count + self.shard.number, self.count * self.shard.count)

    def share(self, sources: Sequence[Source], place: int) -> Sequence[Source]:
        """The images of a row, of those of the shard."""
        return sources[place * self.size : (place + 1) * self.size]
