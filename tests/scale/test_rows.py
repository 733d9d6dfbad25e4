"""The run that has others work on rows: order, attempts, and memory, with crews that only write journals."""

import doctest
import threading
import tracemalloc
from contextlib import ExitStack, closing

import pytest

from lrpcli.errors import ImageError, StoppedError, UsageError
from lrpcli.images.find import Source
from lrpcli.images.sources import SourceList
from lrpcli.pipeline import row as rows_of_a_run
from lrpcli.pipeline.finished import NetFacts
from lrpcli.pipeline.settings import FlowSettings
from lrpcli.pipeline.shard import WHOLE, Shard
from lrpcli.records.handed import HOPELESS, Handed, note_attempt
from lrpcli.records.index import Selection
from lrpcli.records.journal import RunLine
from lrpcli.records.record import Record
from lrpcli.records.resume import CRASHED, SUSPECT, TODO, Resume
from lrpcli.records.status import read_status
from lrpcli.scale import Assignment, EngineSettings, Job, devices
from lrpcli.scale.devices import count_gpus
from lrpcli.scale.processes import Plan
from lrpcli.scale.row_worker import LoadedRun
from lrpcli.scale.rows import RowsExecution
from tests.photos import photo
from tests.pipeline.test_run import FILES, Averaging, Brightness, run_of

DESCRIPTION = run_of(None, Averaging([])).description
LOADED = LoadedRun(FILES, Brightness, DESCRIPTION, 4, NetFacts(None))


def sources_of(image, count):
    """Many names for one photo."""
    sources = SourceList()
    for number in range(count):
        sources.append(Source(str(image), f"{number:06}.png"))
    return sources


class WritingCrew:
    """Writes into the journals of rows what a crew would, at once; `first_last` leaves the first row to the end."""

    def __init__(self, out, count=4, first_last=False):
        self.out, self.count = out, count
        self.given, self.waiting, self.first_last, self.stopped = [], [], first_last, False

    def grow(self, rows):
        self.count = min(self.count, rows)

    @property
    def idle(self):
        return 0 if self.stopped else self.count - len(self.waiting)

    @property
    def busy(self):
        return bool(self.waiting)

    def give(self, row):
        self.given.append(row.shard.number)
        self.waiting.append(row)

    def wait(self, seconds):
        later = self.first_last and len(self.waiting) > 1
        row = self.waiting.pop(1 if later else 0) if self.waiting else None
        if row is not None and not self.stopped:
            self.work(row)
        return [] if row is None else [row]

    def work(self, row):
        with resume_of(self.out, row) as resume:
            write_row(resume, row)

    def stop(self):
        self.stopped = True


def resume_of(out, row):
    return Resume(out, FILES, Brightness, DESCRIPTION.fingerprint, row.shard.name, handed=row.handed)


def write_row(resume, row, names=None):
    line = RunLine(row.shard.number, row.shard.count, row.images, len(row.sources))
    resume.begin_run(line)
    for source in row.sources:
        if names is None or source.name in names:
            need = resume.look(source.path, source.name)
            if need == TODO:
                resume.take(source.path, source.name)
                resume.begin(source.name)
                resume.end(Brightness(input=source.path, name=source.name, mean=1.0))
            else:
                resume.end(resume.record(source.path, source.name, need))


def execution_of(out, sources, crew, shard=WHOLE, **flow):
    settings = FlowSettings(**flow)
    engine = EngineSettings("processes")
    return RowsExecution(Assignment(Job("", ()), "", sources, shard, out, FILES, settings, engine), crew, LOADED)


@pytest.mark.parametrize("first_last", [False, True])
def test_records_come_in_order_and_a_second_run_finds_them_done(tmp_path, first_last):
    sources, out = sources_of(photo(tmp_path / "a.png"), 50), tmp_path / "out"
    for status in ("ok", "skipped"):
        crew, counted = WritingCrew(out, first_last=first_last), []
        records = list(execution_of(out, sources, crew).records(threading.Event(), counted.append))
        assert [record.name for record in records] == [source.name for source in sources]
        assert {record.status for record in records} == {status} and crew.given == list(range(1, len(crew.given) + 1))
        assert counted == [50 if status == "ok" else 0]


def test_two_runs_of_one_shard_do_not_work_at_once(tmp_path):
    sources, out = sources_of(photo(tmp_path / "a.png"), 50), tmp_path / "out"
    with ExitStack() as held:
        list(execution_of(out, sources, WritingCrew(out)).records(threading.Event(), held=held))
        with pytest.raises(UsageError, match="Another run is at work"):
            list(execution_of(out, sources, WritingCrew(out)).records(threading.Event()))
        other = execution_of(out, sources, WritingCrew(out), shard=Shard(2, 2))
        assert len(list(other.records(threading.Event()))) == 25


def test_a_run_that_is_stopped_shows_what_was_done_in_order(tmp_path):
    sources, out = sources_of(photo(tmp_path / "a.png"), 64), tmp_path / "out"
    stop, names = threading.Event(), []
    for record in execution_of(out, sources, WritingCrew(out, first_last=True)).records(stop):
        names.append(record.name)
    assert names == [source.name for source in sources]
    stopping = WritingCrew(tmp_path / "other", first_last=True)
    original = stopping.work

    def work(row):
        original(row)
        if len(stopping.given) > 6:
            stop.set()

    stopping.work = work
    names = [record.name for record in execution_of(tmp_path / "other", sources, stopping).records(stop)]
    assert 0 < len(names) < 64 and names == sorted(names) and names[0] != "000000.png"


def peak_of(folder, image, count, monkeypatch):
    """Bytes of memory that a run of so many rows of one image takes at most, beside the list of its images."""
    monkeypatch.setattr(rows_of_a_run, "MOST_BATCHES", 1)
    one = LoadedRun(FILES, Brightness, DESCRIPTION, 1, NetFacts(None))
    sources, crew = sources_of(image, count), WritingCrew(folder, first_last=True)
    execution = execution_of(folder, sources, crew)
    execution.loaded = one
    tracemalloc.start()
    try:
        records = sum(1 for _ in execution.records(threading.Event()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert records == len(crew.given) == count
    crew.given.clear()
    return peak


def test_a_thousand_tiny_rows_take_no_memory_of_the_run(tmp_path, monkeypatch):
    """Even where the first row is the last to be done, so that none of the others can be shown before."""
    image = photo(tmp_path / "a.png")
    small, large = (peak_of(tmp_path / str(count), image, count, monkeypatch) for count in (250, 1000))
    assert large - small < 750 * 600, "a place and a size for each row, and what the test itself remembers"


def test_status_counts_the_rows_as_shards(tmp_path, monkeypatch):
    monkeypatch.setattr("lrpcli.records.status.EXPLAIN_FILES", FILES)
    out = tmp_path / "out"
    list(execution_of(out, sources_of(photo(tmp_path / "a.png"), 50), WritingCrew(out)).records(threading.Event()))
    status = read_status(out)
    assert (status.images, status.done, status.missing) == (50, 50, 0) and status.shards == len(status.journals)


def row_of(tmp_path, count=4, since=0):
    out = tmp_path / "out"
    (out / ".lrp").mkdir(parents=True, exist_ok=True)
    sources = list(sources_of(photo(tmp_path / "a.png"), count))
    whole = rows_of_a_run.Whole(count, sources)
    return out, rows_of_a_run.Row(Shard(2, 3), sources, 12, whole, Handed(Selection({}), since))


def kill(resume):
    """What is left of a process that is killed: its journal."""
    resume._under_way.clear()
    resume.__exit__()


def needs(resume, row):
    return [resume.look(source.path, source.name) for source in row.sources]


def test_what_killed_a_process_once_is_tried_alone_and_twice_is_crashed(tmp_path):
    out, row = row_of(tmp_path)
    first = resume_of(out, row)
    first.begin_run(RunLine(2, 3, 12, 4))
    for source in row.sources[:2]:
        first.begin(source.name)
    kill(first)
    second = resume_of(out, row)
    assert needs(second, row) == [SUSPECT, SUSPECT, TODO, TODO]
    second.begin_run(RunLine(2, 3, 12, 4))
    second.begin(row.sources[0].name, alone=True)
    second.survive(row.sources[0].name)
    second.begin(row.sources[1].name, alone=True)
    kill(second)
    with resume_of(out, row) as third:
        assert needs(third, row) == [TODO, CRASHED, TODO, TODO]
        record = third.record(row.sources[1].path, row.sources[1].name, CRASHED)
        assert record.failure.kind == "crashed" and "at last with no other image" in record.failure.message


def test_what_earlier_runs_began_is_no_suspect_of_this_one(tmp_path):
    out, row = row_of(tmp_path)
    with resume_of(out, row) as first:
        first.begin_run(RunLine(2, 3, 12, 4))
        first.begin(row.sources[0].name)
        first._under_way.clear()
    size = (out / ".lrp" / FILES.journal("2-of-3")).stat().st_size
    _, later = row_of(tmp_path, since=size)
    with resume_of(out, later) as second:
        assert needs(second, later) == [TODO] * 4


def test_processes_that_die_without_a_cause_are_not_replaced_for_ever(tmp_path):
    out, row = row_of(tmp_path)
    for _ in range(HOPELESS):
        died = resume_of(out, row)
        died.begin_run(RunLine(2, 3, 12, 4))
        for source in row.sources:
            died.begin(source.name, alone=True)
            died.survive(source.name)
        for source in row.sources:
            died.begin(source.name)
        kill(died)
    with pytest.raises(StoppedError, match="3 processes in a row died over the same images"):
        resume_of(out, row)
    _, later = row_of(tmp_path, since=(out / ".lrp" / FILES.journal("2-of-3")).stat().st_size)
    with resume_of(out, later) as resume:
        assert needs(resume, later) == [TODO] * 4, "the next run begins anew"


def test_attempts_that_lead_on_may_be_as_many_as_it_takes(tmp_path):
    out, row = row_of(tmp_path, 8)
    for source in row.sources:
        died = resume_of(out, row)
        died.begin_run(RunLine(2, 3, 12, 8))
        died.begin(source.name)
        died.end(Record.failed(source.path, source.name, ImageError("compute", "It failed.")))
        kill(died)
    resume_of(out, row).__exit__()


def test_processes_that_die_while_they_load_are_not_replaced_for_ever(tmp_path):
    (tmp_path / ".lrp").mkdir()
    for _ in range(HOPELESS):
        note_attempt(tmp_path, "journal-1-of-2.jsonl", 0)
    with pytest.raises(StoppedError, match="3 processes in a row died while they loaded the net"):
        note_attempt(tmp_path, "journal-1-of-2.jsonl", 0)
    size = (tmp_path / ".lrp" / "journal-1-of-2.jsonl").stat().st_size
    note_attempt(tmp_path, "journal-1-of-2.jsonl", size)


def test_examples_of_how_devices_are_shared():
    assert doctest.testmod(devices) == (0, 8)


def test_plans_divide_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr("lrpcli.scale.processes.usable_cpus", lambda: 16)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    sources = sources_of(photo(tmp_path / "a.png"), 5)

    def plan(workers=None, **flow):
        engine = EngineSettings("processes", workers)
        return Plan.of(Assignment(Job("", ()), "", sources, WHOLE, tmp_path, FILES, FlowSettings(**flow), engine))

    assert plan() == Plan(2, 8, 8) and plan(device="cpu") == Plan(4, 4, 4)
    assert plan(workers=99) == Plan(5, 3, 3), "no more nets than images"
    assert plan(workers=3, jobs=2) == Plan(3, 5, 1)


def test_gpus_are_counted_without_torch(tmp_path):
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert count_gpus({}, tmp_path) == 2 and count_gpus({}, tmp_path / "none") == 0
    assert count_gpus({"CUDA_VISIBLE_DEVICES": "1"}, tmp_path) == 1
    assert count_gpus({"CUDA_VISIBLE_DEVICES": "0,-1,1"}, tmp_path) == 1


def test_the_rows_of_an_execution_are_closed_early(tmp_path):
    sources, out = sources_of(photo(tmp_path / "a.png"), 50), tmp_path / "out"
    crew = WritingCrew(out)
    with closing(execution_of(out, sources, crew).records(threading.Event())) as records:
        assert next(records).name == "000000.png"
    assert crew.stopped and not crew.busy
