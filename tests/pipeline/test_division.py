"""What a shard reads of the journals: its own lines where nothing else can concern it, all where anything may."""

from contextlib import closing

import pytest

from lrpcli.images.find import Source
from lrpcli.images.sources import SourceList, list_digest
from lrpcli.pipeline.row import Rows
from lrpcli.pipeline.shard import Shard
from lrpcli.records import journal
from lrpcli.records.division import ended_images, journals_to_read
from lrpcli.records.handed import Handed
from lrpcli.records.index import Index
from tests.photos import photo
from tests.pipeline.test_run import FILES, Averaging, run_of

COUNT = 6


@pytest.fixture
def parsed(monkeypatch):
    """Lines of journals that were parsed, as a list that grows."""
    lines = []

    def counting(data, position=0):
        lines.append(data)
        return original(data, position)

    original = journal.parse_line
    monkeypatch.setattr(journal, "parse_line", counting)
    return lines


def sources_in(folder, count=24):
    return [Source(str(photo(folder / f"{n:02}.png", n)), f"{n:02}.png") for n in range(count)]


def work_through(out, sources, workers, count=COUNT):
    """Every shard once; the statuses of all images."""
    return [
        record.status
        for number in range(1, count + 1)
        for record in run_of(out, Averaging([]), shard=Shard(number, count)).records(sources, workers)
    ]


def lines_in(out):
    return sum(path.read_bytes().count(b"\n") for path in (out / ".lrp").glob("*.jsonl"))


def test_every_shard_reads_its_own_journal_alone(tmp_path, workers, parsed):
    sources, out = sources_in(tmp_path / "in"), tmp_path / "out"
    work_through(out, sources, workers)
    there = lines_in(out)
    parsed.clear()
    assert set(work_through(out, sources, workers)) == {"skipped"}
    assert len(parsed) == there, "each line once, by the shard that wrote it"


@pytest.mark.parametrize("change", ["another list", "another count", "a single process", "an older version", "rows"])
def test_all_journals_are_read_where_the_images_were_divided_otherwise(tmp_path, workers, parsed, change):
    sources, out = sources_in(tmp_path / "in"), tmp_path / "out"
    if change == "another list":
        work_through(out, sources[1:], workers)
    elif change == "another count":
        work_through(out, sources, workers, 4)
    elif change == "a single process":
        list(run_of(out, Averaging([])).records(sources, workers))
    else:
        work_through(out, sources[::-1], workers)
        (mark,) = (out / ".lrp").glob("*.divided-*")
        mark.rename(mark.with_name("brightness.divided-rows")) if change == "rows" else mark.unlink()
    statuses = work_through(out, sources, workers)
    assert statuses.count("ok") == (1 if change == "another list" else 0)
    assert statuses.count("skipped") == 24 - statuses.count("ok")


def test_a_folder_that_holds_journals_of_unknown_runs_is_read_whole_for_good(tmp_path):
    (tmp_path / ".lrp").mkdir()
    (tmp_path / ".lrp" / "brightness-1-of-2.jsonl").touch()
    for _ in range(2):
        assert journals_to_read(tmp_path, FILES, "brightness-2-of-2.jsonl", "2-x") is None
    other = tmp_path / "other"
    other.mkdir()
    for _ in range(2):
        assert journals_to_read(other, FILES, "brightness-2-of-2.jsonl", "2-x") == ["brightness-2-of-2.jsonl"]
    assert journals_to_read(other, FILES, "brightness-2-of-2.jsonl", "2-y") is None
    assert journals_to_read(other, FILES, "brightness-2-of-2.jsonl", "2-x") is None


def test_the_last_lines_say_how_many_images_have_ended(tmp_path, workers):
    sources, out = sources_in(tmp_path / "in", 5), tmp_path / "out"
    run = run_of(out, Averaging([])).description.fingerprint
    for number, ended in ((2, 2), (1, 5)):
        shard = run_of(out, Averaging([]), shard=Shard(number, 2))
        records = shard.records(sources, workers)
        next(records)
        assert ended_images(out, FILES, run, 5) == ended - (2 if number == 2 else 3), "it has not ended"
        list(records)
        assert ended_images(out, FILES, run, 5) == ended
    assert ended_images(out, FILES, run, 6) == ended_images(out, FILES, "other", 5) == 0


def test_lists_of_the_same_names_have_the_same_digest():
    def digest(kind, *names):
        sources = kind()
        for name in names:
            sources.append(Source(f"/in/{name}", name))
        return list_digest(sources)

    for kind in (list, SourceList):
        assert digest(kind, "a", "b") == digest(kind, "a", "b")
        others = [digest(kind, *names) for names in (("b", "a"), ("a",), ("ab",), ("a", "b", "c"), ())]
        assert len({digest(kind, "a", "b"), *others}) == 6


def test_the_lines_of_some_images_are_selected_and_read_alone(tmp_path, workers, parsed):
    sources, out = sources_in(tmp_path / "in"), tmp_path / "out"
    work_through(out, sources, workers)
    run = run_of(out, Averaging([])).description.fingerprint
    names = [source.name for source in sources[3:9]]
    with closing(Index(out, FILES, run)) as whole:
        selection = whole.select(names)
        parsed.clear()
        picked = Index(out, FILES, run, journals=sorted(selection.places), lines=selection.lines(out, run))
        with closing(picked) as some:
            assert len(parsed) == 2 * len(names), "begun and done"
            for source in sources:
                known = some.of(source.name)
                assert (known is not None) == (source.name in names)
                assert known is None or known == whole.of(source.name)


@pytest.mark.parametrize(
    "images, batch, workers", [(1, 16, 8), (17, 16, 2), (1000, 16, 4), (10**8, 64, 512), (10**9, 1, 512)]
)
def test_rows_hold_full_batches_and_every_image_once(images, batch, workers):
    rows = Rows.of(Shard(2, 3), images, batch, workers)
    shares = [rows.share(range(images), place) for place in range(rows.count)]
    assert [len(share) for share in shares[:-1]] == [rows.size] * (rows.count - 1)
    assert sum(map(len, shares)) == images and shares[-1][-1] == images - 1
    assert len({rows.shard_of(place) for place in range(rows.count)}) == rows.count
    assert max(rows.shard_of(place).number for place in range(rows.count)) <= 3 * rows.count <= 100_000


def test_rows_of_two_shards_have_different_journals():
    names = [Rows.of(Shard(number, 2), 100, 4, 4).shard_of(place) for number in (1, 2) for place in range(4)]
    assert len(set(names)) == 8


def test_lines_of_a_rows_own_journal_are_handed_over_once(tmp_path, workers):
    """What was selected and what stands from there on may overlap; a beginning that counts twice makes a suspect."""
    sources, out = sources_in(tmp_path / "in", 3), tmp_path / "out"
    list(run_of(out, Averaging([])).records(sources, workers))
    own, run = FILES.journal("1-of-1"), run_of(out, Averaging([])).description.fingerprint
    with closing(Index(out, FILES, run)) as index:
        selection = index.select(source.name for source in sources)
    positions = selection.places[own].tolist()
    assert [line.position for line in Handed(selection, positions[2]).read(out, own, own, run)] == positions
