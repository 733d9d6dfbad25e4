"""A shard of images in, finished files and one row per image out, in input order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

from lrpcli.errors import ImageError
from lrpcli.images.find import Source
from lrpcli.pipeline.compute import Engine, Explained
from lrpcli.pipeline.finish import Finisher, Row
from lrpcli.pipeline.prepare import Preparation, Prepared

Item = tuple[Source, Prepared | ImageError]


@dataclass(frozen=True)
class Shard:
    """How images are explained: decoding and writing run in `jobs` threads beside the computation."""

    preparation: Preparation
    engine: Engine
    finisher: Finisher
    batch_size: int
    jobs: int


def run_shard(sources: Iterable[Source], shard: Shard) -> Iterator[Row]:
    """Rows in the order of the sources, each as soon as its files and those of all before it are written.

    Only a few batches are held at a time, however many sources there are. A failed image is a row with an error;
    StoppedError, such as for a full disk, ends the run.
    """
    readers, writers = ThreadPoolExecutor(shard.jobs), ThreadPoolExecutor(shard.jobs)
    waiting: deque[tuple[Source, Future[Row] | ImageError]] = deque()
    try:
        ahead = 2 * shard.batch_size + shard.jobs
        for batch in _batches(_prepared(sources, shard.preparation, readers, ahead), shard.batch_size):
            waiting.extend(_explained(batch, shard, writers))
            # Rows of the batch before are done by now, or nearly so: what the memory holds stays bounded.
            while len(waiting) > len(batch) or (waiting and _is_done(waiting[0][1])):
                yield _row(*waiting.popleft())
        while waiting:
            yield _row(*waiting.popleft())
    finally:
        readers.shutdown(cancel_futures=True)
        writers.shutdown(cancel_futures=True)


def _prepared(
    sources: Iterable[Source], prepare: Callable[[Source], Prepared], readers: Executor, ahead: int
) -> Iterator[Item]:
    """Prepared images in order, up to `ahead` of them under way at once."""
    queue: deque[tuple[Source, Future[Prepared]]] = deque()
    remaining = iter(sources)
    for source in islice(remaining, ahead):
        queue.append((source, readers.submit(prepare, source)))
    while queue:
        source, future = queue.popleft()
        try:
            yield source, future.result()
        except ImageError as error:
            yield source, error
        for following in islice(remaining, 1):
            queue.append((following, readers.submit(prepare, following)))


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Items in groups that hold at most `size` usable images each; failures ride along in their places."""
    batch: list[Item] = []
    usable = 0
    for item in items:
        batch.append(item)
        usable += isinstance(item[1], Prepared)
        if usable == size or len(batch) >= 4 * size:
            yield batch
            batch, usable = [], 0
    if batch:
        yield batch


def _explained(batch: list[Item], shard: Shard, writers: Executor) -> Iterator[tuple[Source, Future[Row] | ImageError]]:
    """Computes a batch and hands its images to the writers."""
    usable = [prepared for _, prepared in batch if isinstance(prepared, Prepared)]
    started = perf_counter()
    answers = iter(shard.engine(usable))
    seconds = (perf_counter() - started) / max(len(usable), 1)
    for source, prepared in batch:
        answer = prepared if isinstance(prepared, ImageError) else next(answers)
        if isinstance(prepared, Prepared) and isinstance(answer, Explained):
            yield source, writers.submit(shard.finisher, prepared, answer, seconds)
        elif isinstance(answer, ImageError):
            yield source, answer


def _is_done(result: Future[Row] | ImageError) -> bool:
    return isinstance(result, ImageError) or result.done()


def _row(source: Source, result: Future[Row] | ImageError) -> Row:
    try:
        if isinstance(result, Future):
            return result.result()
        error = result
    except ImageError as raised:
        error = raised
    return {
        "type": "image",
        "input": source.path,
        "status": "failed",
        "error": {"kind": error.kind, "message": str(error)},
    }
