"""A first pass over all images of a run, for what its results depend on as a whole, such as one colour scale."""

from collections.abc import Generator, Iterator

from lrpcli.errors import UsageError
from lrpcli.images.find import Source
from lrpcli.pipeline.agenda import Agenda
from lrpcli.pipeline.shard import WHOLE, Shard
from lrpcli.pipeline.stages import Stages, T
from lrpcli.pipeline.stream import run_stages
from lrpcli.records.record import R, Record
from lrpcli.records.resume import CLASHED, CRASHED, ENDED


def is_common(scale: str | float, shard: Shard) -> bool:
    """Whether all images of a run share one colour scale. UsageError where the run has only some of them."""
    if scale == "run" and shard != WHOLE:
        raise UsageError("--scale run needs all images in one run, so it does not go with --shard. Give a number.")
    return scale == "run"


def first_pass(agenda: Agenda[T, R], blind: Stages[T, R]) -> Generator[R | Record, None, None]:
    """Records of all images that can be used, finished or not, by stages that write nothing; none goes to a journal."""
    finished: set[str] = set()
    """Of those that are in the work; a line in the journal would say that they are not."""

    def usable() -> Iterator[Source]:
        for position, need in enumerate(agenda.needs):
            if need == ENDED:
                finished.add(agenda.sources[position].name)
            if need not in (CRASHED, CLASHED):
                yield agenda.sources[position]

    def begin(source: Source) -> None:
        if source.name not in finished:
            agenda.resume.begin(source.name)

    for record in run_stages(usable(), blind, agenda.workers, agenda.stop, begin):
        finished.discard(record.name)
        agenda.resume.survive(record.name)
        yield record


def look_again(agenda: Agenda[T, R]) -> None:
    """Finds out anew what finished images need, once `resume.still_fits` is another."""
    for position, need in enumerate(agenda.needs):
        if need == ENDED:
            source = agenda.sources[position]
            agenda.needs[position] = agenda.resume.look_again(source.path, source.name)
