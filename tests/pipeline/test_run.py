"""A run with a work of its own: order, positions of what is finished, failures, stopping; no net is needed."""

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from lrpcli.errors import ImageError, OutputError, UsageError
from lrpcli.images.find import Source
from lrpcli.images.formats import DecodePolicy
from lrpcli.images.preprocess import Preprocessing
from lrpcli.pipeline.decode import Preparation
from lrpcli.pipeline.run import Run
from lrpcli.pipeline.shard import WHOLE, Shard
from lrpcli.pipeline.stages import Stages
from lrpcli.records.description import RunDescription, RunFiles
from lrpcli.records.identity import hash_bytes
from lrpcli.records.record import Record
from tests.photos import photo
from tests.resilience.runs import wait_for

FILES = RunFiles("brightness.json", "brightness", "brightness-")


@dataclass(frozen=True, kw_only=True)
class Brightness(Record):
    """A record of a kind that the package does not know."""

    mean: float

    def as_json(self):
        return {**super().as_json(), "mean": self.mean}

    @classmethod
    def from_json(cls, fields):
        return cls(**vars(Record.from_json(fields)), mean=fields.number("mean"))


@dataclass(frozen=True)
class Averaging:
    """A work: the mean of the pixels. Remembers the sizes of its batches and the names that it saw."""

    seen: list
    refused: tuple = ()
    size: int = 1

    def sized(self, size):
        return replace(self, size=size)

    def __call__(self, batch):
        self.seen.append([item.source.name for item in batch])
        return [
            ImageError("compute", f"{item.source.path!r} is refused.")
            if item.source.name in self.refused
            else float(item.pixels.mean())
            for item in batch
        ]


def record_of(item, mean, seconds):
    return Brightness(input=item.source.path, name=item.source.name, seconds=seconds, mean=mean)


def run_of(folder, work, batch_size=3, shard=WHOLE, force=False, write=record_of):
    stages = Stages(Preparation(DecodePolicy(), Preprocessing((8, 8)), None, False), work, write, batch_size, 2)
    description = RunDescription("none", None, {}, {"work": "brightness"}, "0")
    return Run(folder, FILES, Brightness, description, stages, shard, force)


def test_records_come_in_order_with_batches_of_one_size(tmp_path, workers, sources):
    work = Averaging([])
    records = list(run_of(tmp_path / "out", work, batch_size=4).records(sources, workers))
    assert [record.name for record in records] == [f"{n}.png" for n in range(10)]
    assert [len(names) for names in work.seen] == [4, 4, 2] and all(record.mean > 0 for record in records)


def test_finished_images_are_merged_by_position_and_never_reach_the_work(tmp_path, workers, sources):
    out, odd = tmp_path / "out", sources[1::2]
    first = {record.name: record for record in run_of(out, Averaging([])).records(odd, workers)}
    work = Averaging([], refused=("4.png",))
    records = list(run_of(out, work).records(sources, workers))
    assert [record.name for record in records] == [f"{n}.png" for n in range(10)]
    assert [record.status for record in records] == ["ok", "skipped", "ok", "skipped", "failed", "skipped", "ok",
                                                     "skipped", "ok", "skipped"]  # fmt: skip
    assert list(chain(*work.seen)) == ["0.png", "2.png", "4.png", "6.png", "8.png"]
    assert all(records[place].mean == first[records[place].name].mean for place in (1, 3, 5, 7, 9))


def test_finished_images_at_the_front_do_not_wait_for_the_work(tmp_path, workers, sources):
    out = tmp_path / "out"
    list(run_of(out, Averaging([])).records(sources[:4], workers))
    held = threading.Event()

    class Waiting(Averaging):
        def __call__(self, batch):
            held.wait()
            return super().__call__(batch)

    records = run_of(out, Waiting([])).records(sources, workers)
    assert [next(records).status for _ in range(4)] == ["skipped"] * 4
    held.set()
    assert [record.status for record in records] == ["ok"] * 6


def test_a_file_that_is_gone_and_one_that_is_broken_have_records_in_their_places(tmp_path, workers, sources):
    (tmp_path / "in" / "3.png").write_bytes(b"no image")
    images = [*sources[:5], Source(str(tmp_path / "in" / "gone.png"), "gone.png"), *sources[5:]]
    records = list(run_of(tmp_path / "out", Averaging([])).records(images, workers))
    assert [record.failure and record.failure.kind for record in records] == [
        None, None, None, "decode", None, "io", None, None, None, None, None]  # fmt: skip


def test_stopping_finishes_what_is_in_the_work_and_drops_the_rest(tmp_path, workers, sources):
    stop = threading.Event()

    class Stopping(Averaging):
        def __call__(self, batch):
            stop.set()
            return super().__call__(batch)

    out = tmp_path / "out"
    records = list(run_of(out, Stopping([]), batch_size=2).records(sources, workers, stop))
    assert 0 < len(records) < 10 and {record.status for record in records} == {"ok"}
    again = list(run_of(out, Averaging([])).records(sources, workers))
    assert [record.status for record in again] == ["skipped"] * len(records) + ["ok"] * (10 - len(records))


def test_stopping_while_finished_images_are_reported_ends_at_once(tmp_path, workers, sources):
    out, stop, work = tmp_path / "out", threading.Event(), Averaging([])
    list(run_of(out, Averaging([])).records(sources[:8], workers))
    records = run_of(out, work).records(sources, workers, stop)
    assert next(records).status == "skipped"
    stop.set()
    assert list(records) == [] and work.seen == []


def test_a_damaged_line_is_done_again(tmp_path, workers, sources):
    out = tmp_path / "out"
    list(run_of(out, Averaging([])).records(sources[:2], workers))
    path = out / ".lrp" / "brightness-1-of-1.jsonl"
    path.write_text(path.read_text().replace('"mean": ', '"mean": "x", "other": ').replace('"size": ', '"size": -', 1))
    assert [record.status for record in run_of(out, Averaging([])).records(sources[:2], workers)] == ["ok"] * 2
    assert [record.status for record in run_of(out, Averaging([])).records(sources[:2], workers)] == ["skipped"] * 2


def test_an_image_that_cannot_be_written_fails_and_a_full_disk_ends_the_run(tmp_path, workers, sources):
    def write(item, mean, seconds):
        if item.source.name == "2.png":
            raise ImageError("io", "Its name is too long.")
        return record_of(item, mean, seconds)

    records = list(run_of(tmp_path / "out", Averaging([]), write=write).records(sources, workers))
    assert [record.status for record in records].count("failed") == 1 and records[2].failure.kind == "io"

    def full(item, mean, seconds):
        raise OutputError("The disk is full.")

    with pytest.raises(OutputError):
        list(run_of(tmp_path / "other", Averaging([]), write=full).records(sources, workers))


def test_force_does_all_again_and_shards_share(tmp_path, workers, sources):
    out = tmp_path / "out"
    for number in (1, 2):
        shard = list(run_of(out, Averaging([]), shard=Shard(number, 2)).records(sources, workers))
        assert [record.name for record in shard] == [f"{n}.png" for n in range(number - 1, 10, 2)]
    assert {record.status for record in run_of(out, Averaging([])).records(sources, workers)} == {"skipped"}
    assert {record.status for record in run_of(out, Averaging([]), force=True).records(sources, workers)} == {"ok"}


def test_the_shard_stays_locked_until_what_follows_the_run_is_done(tmp_path, workers, sources):
    out, again = tmp_path / "out", run_of(tmp_path / "out", Averaging([]))
    with ExitStack() as held:
        assert len(list(run_of(out, Averaging([])).records(sources, workers, held=held))) == 10
        with pytest.raises(UsageError, match="Another run is at work"):
            list(again.records(sources, workers))
        assert list(run_of(out, Averaging([]), shard=Shard(2, 2)).records(sources, workers))
    assert {record.status for record in again.records(sources, workers)} == {"skipped"}


def test_the_hash_of_each_images_bytes_comes_with_it(tmp_path, workers, sources):
    content = []

    class Listening(Averaging):
        def __call__(self, batch):
            content.extend(item.content for item in batch)
            return super().__call__(batch)

    list(run_of(tmp_path / "out", Listening([])).records(sources, workers))
    assert content == [hash_bytes(Path(source.path).read_bytes()) for source in sources]


def test_only_a_few_batches_are_under_way(tmp_path, workers):
    """The work waits; meanwhile at most two batches and a few more are decoded or begun."""
    image = photo(tmp_path / "in" / "a.png")
    images = [Source(str(image), f"{n:03}.png") for n in range(200)]
    begun, held = [], threading.Event()

    class Watching(list):
        def __getitem__(self, place):
            begun.append(place)
            return super().__getitem__(place)

    class Waiting(Averaging):
        def __call__(self, batch):
            held.wait()
            return super().__call__(batch)

    def consume():
        list(run_of(tmp_path / "out", Waiting([]), batch_size=4).records(Watching(images), workers))

    thread = threading.Thread(target=consume)
    thread.start()
    try:
        wait_for(lambda: len(begun) >= 10)
        time.sleep(0.2)  # time to go too far, if it did
        assert len(begun) <= 4 + 2 * 4 + 2 + 2
    finally:
        held.set()
        thread.join()
    assert np.unique(begun).size == 200


def test_force_computes_anew_what_is_known_by_its_content(tmp_path, workers, sources):
    def statuses(folder, **keywords):
        run = replace(run_of(tmp_path / "out", Averaging([]), **keywords), files=replace(FILES, named=False))
        called = [Source(source.path, f"{folder}/{source.name}") for source in sources]
        return {record.status for record in run.records(called, workers)}

    assert statuses("a") == {"ok"} and statuses("b") == {"skipped"} and statuses("c", force=True) == {"ok"}
