"""A shard of images in, finished files and one row per image out, in input order."""

import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from time import perf_counter
from typing import Any

from lrpcli.errors import ImageError
from lrpcli.images.find import STDIN, Source
from lrpcli.pipeline.decode import Preparation, Prepared
from lrpcli.pipeline.explain import Engine, Explained
from lrpcli.pipeline.workers import Workers
from lrpcli.pipeline.write import Finisher, Row

Item = tuple[Source, Prepared | ImageError] | Row
"""An image on its way, or the row of one that needs no way."""
PATIENCE = 0.5
"""Seconds between looks at what else is to be done, while an image is awaited."""


@dataclass(frozen=True)
class Shard:
    """How images are explained: decoded in processes of their own, written in `jobs` threads beside the computation."""

    preparation: Preparation
    engine: Engine
    finisher: Finisher
    batch_size: int
    jobs: int


@cache
def standard_input() -> bytes:
    """The image on standard input, which can be read only once."""
    return sys.stdin.buffer.read()


def run_shard(
    sources: Iterable[Source | Row], shard: Shard, workers: Workers, stop: threading.Event | None = None
) -> Iterator[Row]:
    """Rows in the order of the sources, each as soon as its files and those of all before it are written.

    A row among the sources comes out again in its place. Only a few batches are held at a time, however many sources
    there are. A failed image is a row with an error; StoppedError, such as for a full disk, ends the run. When `stop`
    is set, what is not in the computation yet is dropped.
    """
    writers = ThreadPoolExecutor(shard.jobs, "writer")
    waiting: deque[tuple[Source, Future[Row] | ImageError] | Row] = deque()
    try:
        for batch in _batches(_prepared(sources, shard, workers, stop or threading.Event()), shard.batch_size):
            waiting.extend(_explained(batch, shard, writers))
            # Rows of the batch before are done by now, or nearly so: what the memory holds stays bounded.
            while waiting and (len(waiting) > 2 * shard.batch_size or _is_done(waiting[0])):
                yield _row(waiting.popleft())
        while waiting:
            yield _row(waiting.popleft())
    finally:
        writers.shutdown(cancel_futures=True)


def _prepared(
    sources: Iterable[Source | Row], shard: Shard, workers: Workers, stop: threading.Event
) -> Iterator[Item | None]:
    """Prepared images in order, a few batches of them under way at once; None now and then while one is awaited."""
    queue: deque[tuple[Source, Future[tuple[Prepared, str]]] | Row] = deque()

    def submitted(source: Source | Row) -> tuple[Source, Future[Any]] | Row:
        if isinstance(source, dict):
            return source
        content = standard_input() if source.path == STDIN else None
        return source, workers.submit(shard.preparation, source.path, source, content)

    remaining = iter(sources)
    queue.extend(map(submitted, islice(remaining, 2 * shard.batch_size + shard.jobs)))
    try:
        while queue and not stop.is_set():
            item = queue[0]
            if isinstance(item, dict):
                yield item
            elif not _is_ready(item[1]):
                yield None
                continue
            else:
                yield item[0], _outcome(item[1])
            queue.popleft()
            queue.extend(map(submitted, islice(remaining, 0 if stop.is_set() else 1)))
    finally:
        for item in queue:
            if not isinstance(item, dict):
                item[1].cancel()


def _is_ready(future: Future[Any]) -> bool:
    """Waits a moment for an image."""
    try:
        future.exception(PATIENCE)
    except NotYet:
        return False
    return True


def _outcome(future: Future[tuple[Prepared, str]]) -> Prepared | ImageError:
    try:
        prepared, note = future.result()
    except ImageError as error:
        return error
    return replace(prepared, note=note) if note else prepared


def _batches(items: Iterable[Item | None], size: int) -> Iterator[list[Item]]:
    """Items in groups that hold at most `size` usable images each; the others ride along in their places.

    An empty group now and then, when nothing comes for a while.
    """
    batch: list[Item] = []
    usable = 0
    for item in items:
        if item is None:
            yield []
            continue
        batch.append(item)
        usable += not isinstance(item, dict) and isinstance(item[1], Prepared)
        # Without a usable image there is nothing to wait for.
        if usable in (0, size) or len(batch) >= 4 * size:
            yield batch
            batch, usable = [], 0
    if batch:
        yield batch


def _explained(
    batch: list[Item], shard: Shard, writers: Executor
) -> Iterator[tuple[Source, Future[Row] | ImageError] | Row]:
    """Computes a batch and hands its images to the writers."""
    usable = [item[1] for item in batch if not isinstance(item, dict) and isinstance(item[1], Prepared)]
    started = perf_counter()
    answers = iter(shard.engine(usable) if usable else ())
    seconds = (perf_counter() - started) / max(len(usable), 1)
    for item in batch:
        if isinstance(item, dict):
            yield item
            continue
        source, prepared = item
        answer = prepared if isinstance(prepared, ImageError) else next(answers)
        if isinstance(prepared, Prepared) and isinstance(answer, Explained):
            yield source, writers.submit(shard.finisher, prepared, answer, seconds)
        elif isinstance(answer, ImageError):
            yield source, answer


def _is_done(item: tuple[Source, Future[Row] | ImageError] | Row) -> bool:
    return isinstance(item, dict) or isinstance(item[1], ImageError) or item[1].done()


def _row(item: tuple[Source, Future[Row] | ImageError] | Row) -> Row:
    if isinstance(item, dict):
        return item
    source, result = item
    try:
        if isinstance(result, Future):
            return result.result()
        error = result
    except ImageError as raised:
        error = raised
    return failed_row(source, error)


def failed_row(source: Source, error: ImageError) -> Row:
    """The row of an image that failed."""
    return {
        "type": "image",
        "input": source.path,
        "name": source.name,
        "status": "failed",
        "error": {"kind": error.kind, "message": str(error)},
    }
