"""Runs that are killed in the midst of their work: what the next ones try, do, and pass over."""

import contextlib
from dataclasses import dataclass

import pytest

from lrpcli.images.find import Discovery
from lrpcli.records.resume import BEGUN, DEATHS
from tests.photos import photo
from tests.pipeline.test_run import FILES, Averaging, record_of, run_of
from tests.resilience.runs import journal

JOURNAL = FILES.journal("1-of-1")
KILLS = BEGUN + DEATHS
"""So many runs in a row an image may end before it is `crashed`."""


class Killed(BaseException):
    """What SIGKILL is in these tests; `journal` is what it leaves."""


@dataclass(frozen=True)
class Deadly(Averaging):
    """A work that is killed when `kills` says so of the names in a batch."""

    kills: object = None
    folder: object = None

    def __call__(self, batch):
        answers = super().__call__(batch)
        if self.kills(self.seen[-1]):
            raise Killed((self.folder / ".lrp" / JOURNAL).read_bytes())
        return answers


def photos(tmp_path, count):
    for number in range(count):
        if not (tmp_path / "in" / f"{number}.png").exists():
            photo(tmp_path / "in" / f"{number}.png", number)
    return list(Discovery([str(tmp_path / "in")]))


def attempt(out, sources, workers, kills, batch_size=4, **keywords):
    """The records of a run, None if it was killed, and the names in its batches; a kill leaves what SIGKILL would."""
    seen = []
    run = run_of(out, Deadly(seen, kills=kills, folder=out), batch_size=batch_size, **keywords)
    try:
        return list(run.records(sources, workers)), seen
    except Killed as killed:
        (out / ".lrp" / JOURNAL).write_bytes(killed.args[0])
        return None, seen


def never(names):
    return False


def of(*names):
    return lambda batch: not set(names).isdisjoint(batch)


def statuses(records):
    return {record.name: record.failure.kind if record.failure else record.status for record in records}


def test_one_kill_costs_nothing_but_the_work_that_was_under_way(tmp_path, workers, sources):
    records, seen = attempt(tmp_path / "out", sources, workers, of("4.png"))
    assert records is None and seen == [[f"{n}.png" for n in range(4)], [f"{n}.png" for n in range(4, 8)]]
    started = {row["name"] for row in journal(tmp_path / "out", JOURNAL) if row["type"] == "start"}
    assert started == {f"{n}.png" for n in range(8)}, "8.png and 9.png were decoded, but could not end the run"
    done = {row["name"] for row in journal(tmp_path / "out", JOURNAL) if row["type"] == "done"}
    records, seen = attempt(tmp_path / "out", sources, workers, never)
    left = [source.name for source in sources if source.name not in done]
    assert [name for batch in seen for name in batch] == left and {len(batch) for batch in seen[:-1]} <= {4}
    assert set(statuses(records).values()) <= {"ok", "skipped"} and len(records) == 10


def test_what_was_under_way_in_two_kills_is_tried_alone_and_then_done_in_full_batches(tmp_path, workers, sources):
    """So a suspect costs one image, and the results are those of an undisturbed run to the last digit."""
    for _ in range(2):
        assert attempt(tmp_path / "out", sources, workers, of("0.png"))[0] is None
    records, seen = attempt(tmp_path / "out", sources, workers, never)
    assert seen == [*([f"{n}.png"] for n in range(4)), *([f"{n}.png" for n in part] for part in
                    (range(4), range(4, 8), range(8, 10)))]  # fmt: skip
    assert set(statuses(records).values()) == {"ok"}
    alone = [row["name"] for row in journal(tmp_path / "out", JOURNAL) if row.get("alone")]
    assert alone == [f"{n}.png" for n in range(4)]


def test_a_work_that_tries_an_image_alone_is_not_filled_up(tmp_path, workers, sources):
    sizes = []

    @dataclass(frozen=True)
    class Sized(Averaging):
        def __call__(self, batch):
            sizes.append(self.size)
            return super().__call__(batch)

    for _ in range(BEGUN):
        attempt(tmp_path / "out", sources, workers, of("0.png"))
    list(run_of(tmp_path / "out", Sized([]), batch_size=4).records(sources, workers))
    assert sizes == [1] * 4 + [4] * 3


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_only_an_image_that_ends_every_run_is_crashed_and_its_neighbours_are_done(tmp_path, workers, batch_size):
    sources, deadly = photos(tmp_path, 6), of("2.png")
    for _ in range(KILLS):
        assert attempt(tmp_path / "out", sources, workers, deadly, batch_size)[0] is None
    records, seen = attempt(tmp_path / "out", sources, workers, deadly, batch_size)
    expected = {f"{n}.png": "ok" for n in range(6)}
    assert {**statuses(records), **{name: "ok" for name, kind in statuses(records).items() if kind == "skipped"}} == {
        **expected, "2.png": "crashed"}  # fmt: skip
    crashed = next(record for record in records if record.failure)
    assert "was tried alone by 3 runs" in crashed.failure.message and not any("2.png" in batch for batch in seen)


def test_a_crashed_image_never_stands_in_the_way_of_others_and_comes_back_when_it_is_mended(tmp_path, workers):
    sources, deadly, out = photos(tmp_path, 3), of("1.png"), tmp_path / "out"
    for _ in range(KILLS):
        attempt(out, sources, workers, deadly)
    assert statuses(attempt(out, sources, workers, deadly)[0])["1.png"] == "crashed"
    more = photos(tmp_path, 6)
    found = statuses(attempt(out, more, workers, deadly)[0])
    assert found == {"0.png": "skipped", "1.png": "crashed", "2.png": "skipped",
                     "3.png": "ok", "4.png": "ok", "5.png": "ok"}  # fmt: skip
    assert attempt(out, more, workers, deadly)[0] is None, "nothing else is to be done, so it is tried"
    assert statuses(attempt(out, more, workers, deadly)[0])["1.png"] == "crashed"
    records, seen = attempt(out, more, workers, never)
    assert statuses(records)["1.png"] == "ok" and seen == [["1.png"], ["1.png"]]
    assert set(statuses(attempt(out, more, workers, never)[0]).values()) == {"skipped"}


def test_what_has_died_alone_is_not_forced_beside_others(tmp_path, workers):
    """Reported as crashed, and ended one more run since: one beginning, but no fewer deaths."""
    sources, out = photos(tmp_path, 3), tmp_path / "out"
    for _ in range(KILLS):
        attempt(out, sources, workers, of("1.png"))
    assert statuses(attempt(out, sources, workers, of("1.png"))[0])["1.png"] == "crashed"
    assert attempt(out, sources, workers, of("1.png"))[1] == [["1.png"]]
    records, seen = attempt(out, sources, workers, never, force=True)
    assert seen == [["1.png"], ["0.png", "1.png", "2.png"]] and set(statuses(records).values()) == {"ok"}


def test_force_tries_a_crashed_image_at_once(tmp_path, workers):
    sources, out = photos(tmp_path, 3), tmp_path / "out"
    for _ in range(KILLS):
        attempt(out, sources, workers, of("1.png"))
    records, _ = attempt(out, sources, workers, never, force=True)
    assert set(statuses(records).values()) == {"ok"}


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("kills", range(1, KILLS))
def test_kills_from_outside_at_the_same_image_lose_nothing(tmp_path, workers, batch_size, kills):
    """As when a run is killed each time as soon as it computes anything."""
    sources, out = photos(tmp_path, 6), tmp_path / "out"
    for _ in range(kills):
        assert attempt(out, sources, workers, of("0.png"), batch_size)[0] is None
    records, _ = attempt(out, sources, workers, never, batch_size)
    assert set(statuses(records).values()) == {"ok"}
    calm = run_of(tmp_path / "calm", Averaging([])).records(sources, workers)
    assert [(record.name, record.mean) for record in records] == [(record.name, record.mean) for record in calm]


def test_suspects_that_ended_fewer_runs_are_tried_first(tmp_path, workers, sources):
    out = tmp_path / "out"
    for _ in range(BEGUN):
        attempt(out, sources, workers, of("0.png"))
    assert attempt(out, sources, workers, of("1.png"))[1] == [["0.png"], ["1.png"]]
    _, seen = attempt(out, sources, workers, of("1.png"))
    assert seen == [["2.png"], ["3.png"], ["0.png", "1.png", "2.png", "3.png"]] or seen[:3] == [
        ["2.png"], ["3.png"], ["1.png"]]  # fmt: skip


def test_a_suspect_that_is_gone_or_fails_is_a_failure_of_its_own(tmp_path, workers, sources):
    out = tmp_path / "out"
    for _ in range(BEGUN):
        attempt(out, sources, workers, of("0.png"))
    (tmp_path / "in" / "0.png").write_bytes(b"no image")
    work = Averaging([], refused=("1.png",))
    found = statuses(run_of(out, work, batch_size=4).records(sources, workers))
    assert found == {f"{n}.png": {0: "decode", 1: "compute"}.get(n, "ok") for n in range(10)}


def test_a_writer_that_ends_the_run_is_found_too(tmp_path, workers):
    """What is under way while files are written is one image when it is tried alone."""
    sources, out = photos(tmp_path, 4), tmp_path / "out"

    def write(item, mean, seconds):
        if item.source.name == "3.png":
            raise Killed((out / ".lrp" / JOURNAL).read_bytes())
        return record_of(item, mean, seconds)

    for _ in range(KILLS):
        assert attempt(out, sources, workers, never, write=write)[0] is None
    found = statuses(attempt(out, sources, workers, never, write=write)[0])
    assert found.pop("3.png") == "crashed" and set(found.values()) <= {"ok", "skipped"}


def test_an_orderly_end_leaves_no_suspects(tmp_path, workers, sources):
    out = tmp_path / "out"
    for _ in range(KILLS):
        with contextlib.closing(run_of(out, Averaging([]), batch_size=4).records(sources, workers)) as records:
            assert all(next(records) for _ in range(3))
    last = {row["name"]: row["type"] for row in journal(out, JOURNAL) if "name" in row}
    assert "drop" in last.values() and "start" not in last.values()
    records, _ = attempt(out, sources, workers, never)
    assert not any("alone" in row for row in journal(out, JOURNAL)) and len(records) == 10
    assert set(statuses(records).values()) <= {"ok", "skipped"}


def test_memory_that_is_full_while_an_image_is_written_is_its_own_failure(tmp_path, workers, sources):
    def write(item, mean, seconds):
        if item.source.name == "3.png":
            raise MemoryError
        return record_of(item, mean, seconds)

    found = {record.name: record for record in run_of(tmp_path / "out", Averaging([]), write=write).records(
        sources, workers)}  # fmt: skip
    assert found.pop("3.png").failure.message.startswith("Writing the results of the image ")
    assert {record.status for record in found.values()} == {"ok"}
