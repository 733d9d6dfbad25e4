"""Images in, records out, in input order: batches and threads."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import replace
from functools import partial
from itertools import islice
from time import perf_counter

from lrpcli.errors import ImageError
from lrpcli.images.find import Source
from lrpcli.images.objects import read_object
from lrpcli.images.streams import most_bytes, read_stream, stream_of
from lrpcli.paths import is_url
from lrpcli.pipeline.decode import Prepared
from lrpcli.pipeline.stages import Stages, T
from lrpcli.pipeline.workers import Workers
from lrpcli.records.record import R, Record

Item = tuple[Source, Prepared | ImageError]
"""An image that is decoded, or could not be."""
Pending = tuple[Source, Future[R] | ImageError]
"""An image that is being written, or failed."""
PATIENCE = 0.5
"""Seconds between looks at what else is to be done, while an image is awaited."""


def run_stages(
    sources: Iterable[Source],
    stages: Stages[T, R],
    workers: Workers,
    stop: threading.Event,
    begin: Callable[[Source], None],
    *,
    apart: bool = False,
) -> Generator[R | Record, None, None]:
    """Records in the order of the sources, each as soon as its files and those of all before it are written.

    `begin` is called with each image that goes into the work, right before: nothing earlier can end this process. With
    `apart` a batch goes into the work when everything before it has been taken from here.
    Only a few batches are held at a time, however many sources there are. A failed image has a record with a failure;
    StoppedError, such as for a full disk, ends the run. When `stop` is set, what is not in the work yet is dropped.
    """
    writers = ThreadPoolExecutor(stages.jobs, "writer")
    waiting: deque[Pending[R]] = deque()
    try:
        for batch in _batches(_prepared(sources, stages, workers, stop), stages.batch_size):
            while apart and waiting:
                yield _record(waiting.popleft())
            waiting.extend(_worked(batch, stages, writers, begin))
            # Images of the batch before are written by now, or nearly so: what the memory holds stays bounded.
            while waiting and (len(waiting) > 2 * stages.batch_size or _is_done(waiting[0])):
                yield _record(waiting.popleft())
        while waiting:
            yield _record(waiting.popleft())
    finally:
        writers.shutdown(cancel_futures=True)


def _prepared(
    sources: Iterable[Source], stages: Stages[T, R], workers: Workers, stop: threading.Event
) -> Iterator[Item | None]:
    """Prepared images in order, a few batches of them under way at once; None now and then while one is awaited."""
    queue: deque[tuple[Source, Future[tuple[Prepared, str]]]] = deque()
    submitted = (_submit(source, stages, workers) for source in sources)
    queue.extend(islice(submitted, 2 * stages.batch_size + stages.jobs))
    try:
        while queue and not stop.is_set():
            source, future = queue[0]
            if not _is_ready(future):
                yield None
                continue
            yield source, _outcome(future)
            queue.popleft()
            queue.extend(islice(submitted, 0 if stop.is_set() else 1))
    finally:
        for _, future in queue:
            future.cancel()


def _submit(source: Source, stages: Stages[T, R], workers: Workers) -> tuple[Source, "Future[tuple[Prepared, str]]"]:
    """The image with its decoding, which begins in one of the workers."""
    try:
        content = stream_content(source.path, stages)
    except ImageError as error:
        failed: Future[tuple[Prepared, str]] = Future()
        failed.set_exception(error)
        return source, failed
    if is_url(source.path):
        later = partial(_object_call, stages, source)
        return source, workers.submit_later(stages.decode, source.path, later)
    memory = stages.decode.memory(0 if content is None else len(content))
    return source, workers.submit(stages.decode, source.path, source, content, memory=memory)


def _object_call(stages: Stages[T, R], source: Source) -> tuple[tuple[Source, bytes], int]:
    """What decoding an object takes, which is read meanwhile: arguments, and the memory that they need."""
    content = read_object(source.path, most_bytes(stages.decode.decode.max_pixels))
    return (source, content), stages.decode.memory(len(content))


def stream_content(path: str, stages: Stages[T, R]) -> bytes | None:
    """The image in a stream, which is read only once; None for the path of a file. ImageError if it is too long."""
    stream = stream_of(path)
    return None if stream is None else read_stream(stream, most_bytes(stages.decode.decode.max_pixels))


def prepare_one(source: Source, stages: Stages[T, R], workers: Workers) -> Prepared | ImageError:
    """One image, decoded in one of the workers."""
    return _outcome(_submit(source, stages, workers)[1])


def _is_ready(future: "Future[tuple[Prepared, str]]") -> bool:
    """Waits a moment for an image."""
    try:
        future.exception(PATIENCE)
    except NotYet:
        return False
    return True


def _outcome(future: "Future[tuple[Prepared, str]]") -> Prepared | ImageError:
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
        usable += isinstance(item[1], Prepared)
        # Without a usable image there is nothing to wait for.
        if usable in (0, size) or len(batch) >= 4 * size:
            yield batch
            batch, usable = [], 0
    if batch:
        yield batch


def _worked(
    batch: list[Item], stages: Stages[T, R], writers: Executor, begin: Callable[[Source], None]
) -> Iterator[Pending[R]]:
    """Computes a batch and hands its images to the writers."""
    usable = [prepared for _, prepared in batch if isinstance(prepared, Prepared)]
    for item in usable:
        begin(item.source)
    started = perf_counter()
    answers = iter(stages.work(usable) if usable else ())
    seconds = (perf_counter() - started) / max(len(usable), 1)
    for source, prepared in batch:
        if isinstance(prepared, ImageError):
            yield source, prepared
            continue
        answer = next(answers)
        if isinstance(answer, ImageError):
            yield source, answer
        else:
            yield source, writers.submit(_written, stages.write, prepared, answer, seconds)


def _written(write: Callable[[Prepared, T, float], R], item: Prepared, answer: T, seconds: float) -> R:
    """The record of an image whose files are written. ImageError if there is no room for making them."""
    try:
        return replace(write(item, answer, seconds), content=item.content)
    except MemoryError as error:
        raise ImageError(
            "too_large",
            f"Writing the results of the image {item.source.path!r} needs more memory than there is. Ask for fewer or "
            "smaller files.",
        ) from error


def _is_done(item: Pending[R]) -> bool:
    return isinstance(item[1], ImageError) or item[1].done()


def _record(item: Pending[R]) -> R | Record:
    source, result = item
    try:
        if isinstance(result, Future):
            return result.result()
        error = result
    except ImageError as raised:
        error = raised
    return Record.failed(source.path, source.name, error)
