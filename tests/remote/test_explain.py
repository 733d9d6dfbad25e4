"""`lrp explain` into and out of what lies below a URL."""

import itertools
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

import lrpcli
from tests.photos import folder_of_photos, photo
from tests.remote.places import contents, done, lines, put, table, upload
from tests.remote.server import same_environment
from tests.resilience.runs import explain, lrp, rows, started, tree


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with photos, what a run makes of it, and the run's table."""
    folder = tmp_path_factory.mktemp("photos")
    source = folder_of_photos(folder / "in", 5)
    (source / "broken.jpg").write_bytes(b"\xff\xd8 broken")
    assert explain(source, folder / "out").returncode == 1
    return source, folder / "out"


def test_a_run_into_a_url_leaves_what_a_run_into_a_folder_leaves(photos, place):
    source, expected = photos
    result = explain(source, f"{place}/", "--json")
    assert result.returncode == 1, result.stderr
    assert contents(place) == tree(expected)
    assert table(place) == table(expected)
    named = [row["outputs"]["overlay"] for row in rows(result) if row.get("status") == "ok"]
    assert named == sorted(f"{place}/{path}" for path in tree(expected) if path.endswith(".png"))
    again = explain(source, place, "--json")
    assert [row["status"] for row in rows(again)[:-1]].count("skipped") == 5 and rows(again)[-1]["failed"] == 1
    assert contents(place) == tree(expected) and len(done(place)) == 5


def test_photos_below_a_url_are_explained_like_those_in_a_folder(photos, place, tmp_path):
    source, expected = photos
    upload(source, f"{place}/in")
    result = explain(f"{place}/in", tmp_path / "out", "--json")
    assert result.returncode == 1 and tree(tmp_path / "out") == tree(expected)
    assert [row["input"] for row in rows(result)[:-1]] == [
        f"{place}/in/{name}" for name in ("0.png", "2.png", "4.png", "broken.jpg", "cats/1.png", "cats/3.png")
    ]
    assert f"The image '{place}/in/broken.jpg' " in rows(result)[3]["error"]["message"]
    assert table(tmp_path / "out", "input", "message") == table(expected, "input", "message")
    again = rows(explain(f"{place}/in/", tmp_path / "out", "--json"))
    assert [row["status"] for row in again[:-1]].count("skipped") == 5


def test_everything_may_lie_below_one_url(photos, place):
    source, expected = photos
    upload(source, place)
    for status in ("ok", "skipped"):
        result = explain(place, f"{place}/out", "--json")
        assert [row["status"] for row in rows(result)[:-1]].count(status) == 5, result.stderr
    assert contents(f"{place}/out") == tree(expected)


def test_what_changed_below_a_url_is_done_again(place, tmp_path):
    photo(tmp_path / "a.png", 1), photo(tmp_path / "b.png", 2)
    put(place, {name: (tmp_path / name).read_bytes() for name in ("a.png", "b.png")})
    assert explain(place, tmp_path / "out").returncode == 0
    before = tree(tmp_path / "out")
    put(place, {"a.png": (tmp_path / "b.png").read_bytes(), "b.png": (tmp_path / "b.png").read_bytes()})
    statuses = [row["status"] for row in rows(explain(place, tmp_path / "out", "--json"))[:-1]]
    assert statuses == ["ok", "skipped"]  # b.png was put again, and is the same
    after = tree(tmp_path / "out")
    assert after["a.png.npy"] == after["b.png.npy"] == before["b.png.npy"] != before["a.png.npy"]


def test_a_result_that_is_gone_is_made_again(photos, memory):
    import fsspec

    explain(photos[0], memory)
    files, path = fsspec.core.url_to_fs(memory)
    files.rm_file(f"{path}/cats/1.png.npy")
    assert "done     4" in lrp("status", memory).output and "missing  1" in lrp("status", memory).output
    statuses = {row["input"][-10:]: row["status"] for row in rows(explain(photos[0], memory, "--json"))[:-1]}
    assert statuses["cats/1.png"] == "ok" and list(statuses.values()).count("skipped") == 4
    assert contents(memory) == tree(photos[1])


def test_other_settings_are_refused_and_forced(photos, place):
    assert explain(photos[0], place, "--save", "map").returncode == 1
    result = explain(photos[0], place, "--save", "map", "--config", "epsilon")
    assert result.returncode == 2
    assert f"The output folder '{place}' holds results that were made otherwise: explain.config was" in str(
        result.stderr, "utf-8"
    )
    forced = explain(photos[0], place, "--save", "map", "--config", "epsilon", "--force")
    assert forced.returncode == 1 and len(done(place)) == 10
    assert explain(photos[0], place, "--save", "map").returncode == 2


def test_shards_share_a_url(photos, place, tmp_path):
    for number, output in itertools.product((1, 2, 3), (place, tmp_path / "out")):
        assert explain(photos[0], output, "--shard", f"{number}/3").returncode in (0, 1)
    assert contents(place) == tree(tmp_path / "out") and table(place) == table(tmp_path / "out")
    status = json.loads(lrp("status", place, "--json").stdout)
    assert (status["images"], status["done"], status["failed"], status["shards"]) == (6, 5, 1, 3)
    assert sorted(status["journals"]) == ["1-of-3", "2-of-3", "3-of-3"] and not status["running"]
    assert [row["status"] for row in rows(explain(photos[0], place, "--json"))[:-1]].count("skipped") == 5


def test_fail_fast_stops_and_the_rest_is_done_later(memory, tmp_path):
    source = folder_of_photos(tmp_path / "in", 3)
    (source / "00.png").write_bytes(b"")
    assert explain(source, memory, "--fail-fast", "-b", "1", "-j", "1").returncode == 1
    assert len(done(memory)) < 3
    (source / "00.png").unlink()
    assert explain(source, memory).returncode == 0 and sorted(set(done(memory))) == ["0.png", "2.png", "cats/1.png"]


def test_maps_of_a_url_are_those_of_a_folder(photos, place):
    explain(photos[0], place)
    with lrpcli.open_maps(place) as maps, lrpcli.open_maps(photos[1]) as expected:
        assert list(maps) == list(expected) and len(maps) == 5
        for name in maps:
            np.testing.assert_array_equal(maps[name], expected[name])
        assert maps.record("cats/1.png") == expected.record("cats/1.png")
        assert repr(maps) == f"open_maps('{place}')"
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(maps))["0.png"], expected["0.png"])
        with pytest.raises(lrpcli.LrpError, match="failed"):
            maps["broken.jpg"]


def test_maps_of_inputs_below_a_url_are_found_by_its_parts(photos, memory, tmp_path):
    upload(photos[0], memory)
    explain(memory, tmp_path / "out")
    maps = lrpcli.open_maps(tmp_path / "out")
    np.testing.assert_array_equal(maps[f"{memory}/cats/1.png"], maps["cats/1.png"])


def test_a_folder_that_is_copied_to_or_from_a_url_goes_on(photos, memory, tmp_path):
    source, expected = photos
    upload(expected, memory)
    assert table(memory) == table(expected)
    assert [row["status"] for row in rows(explain(source, memory, "--json"))[:-1]].count("skipped") == 5
    copy = tmp_path / "copy"
    for key, content in contents(memory, journals=True).items():
        (copy / key).parent.mkdir(parents=True, exist_ok=True)
        (copy / key).write_bytes(content)
    assert table(copy) == table(expected)
    counts = [json.loads(lrp("status", where, "--json").stdout) for where in (copy, memory)]
    assert counts[0].pop("disk") >= counts[1].pop("disk") and counts[0] == counts[1]
    assert [row["status"] for row in rows(explain(source, copy, "--json"))[:-1]].count("skipped") == 5
    assert tree(copy) == tree(expected) and table(copy) == table(expected)
    assert not list((copy / ".lrp" / "journal-1-of-1").glob("*"))  # they are in the journal itself now


def test_one_object_is_an_input_and_a_list_may_name_some(place, tmp_path):
    content = photo(tmp_path / "a.png").read_bytes()
    put(place, {"x/a.png": content, "x/b.png": content})
    assert explain(f"{place}/x/a.png", tmp_path / "one").returncode == 0
    assert sorted(tree(tmp_path / "one")) == ["a.png.npy", "a.png.png"]
    (tmp_path / "list").write_text(f"{place}/x/b.png\n{tmp_path}/a.png\n")
    result = explain("--files-from", tmp_path / "list", "-o", tmp_path / "two")
    assert result.returncode == 0, result.stderr
    name = f"{place.partition('://')[2]}/x/b.png"
    assert {f"{name}.npy", f"{name}.png"} < set(tree(tmp_path / "two")) and len(tree(tmp_path / "two")) == 4
    based = explain("--files-from", tmp_path / "list", "--base", place, "-o", tmp_path / "three")
    assert based.returncode == 2 and b"does not lie below --base" in based.stderr
    based = explain(f"{place}/x/b.png", "--base", f"{place}/", "-o", tmp_path / "three")
    assert based.returncode == 0 and sorted(tree(tmp_path / "three")) == ["x/b.png.npy", "x/b.png.png"]


def test_a_url_of_a_file_is_a_path(photos, tmp_path):
    result = explain(f"file://{photos[0]}", f"file://{tmp_path}/out")
    assert result.returncode == 1 and tree(tmp_path / "out") == tree(photos[1])
    assert lrp("status", f"file://{tmp_path}/out").output == lrp("status", tmp_path / "out").output
    assert len(lrpcli.open_maps(f"file://{tmp_path}/out")) == 5
    assert explain(photos[0], f"file://{tmp_path}/a%20b").returncode == 2


def test_two_runs_at_once_leave_one_consistent_record_each(s3, photos, tmp_path):
    place = f"s3://bucket/{tmp_path.name}"
    runs = [started(photos[0], place, "-q", env=same_environment(**s3)) for _ in range(2)]
    said = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [1, 1], said
    assert contents(place) == tree(photos[1]) and table(place) == table(photos[1])
    assert set(done(place)) == {"0.png", "2.png", "4.png", "cats/1.png", "cats/3.png"}
    status = json.loads(lrp("status", place, "--json").stdout)
    assert (status["images"], status["done"], status["failed"], status["missing"]) == (6, 5, 1, 0)


def test_of_two_runs_that_begin_at_once_the_later_one_needs_the_settings_of_the_first(memory, tmp_path, monkeypatch):
    """The other one writes its settings down right after this one has looked for them."""
    source = folder_of_photos(tmp_path / "in", 1)
    assert explain(source, memory).returncode == 0
    described = contents(memory, journals=True)[".lrp/run.json"]
    monkeypatch.setattr("lrpcli.pipeline.run.require_same_run", lambda *_: None)
    result = explain(source, memory, "--config", "epsilon")
    assert result.returncode == 2 and b"holds results that were made otherwise" in result.stderr
    assert contents(memory, journals=True)[".lrp/run.json"] == described


def test_a_run_stops_once_another_one_with_other_settings_begins(memory, tmp_path, monkeypatch):
    from lrpcli.records import segments

    monkeypatch.setattr(segments, "SECONDS", 0.01)
    source = folder_of_photos(tmp_path / "in", 3)
    put(memory, {".lrp/run.json": b""})
    original = segments.PieceJournal._put

    def meanwhile(journal, ending):
        put(memory, {".lrp/run.json": described.replace(b'"epsilon"', b'"flat"')})
        original(journal, ending)

    explain(source, f"{memory}-other", "--config", "epsilon")
    described = contents(f"{memory}-other", journals=True)[".lrp/run.json"]
    assert b'"epsilon"' in described
    monkeypatch.setattr(segments.PieceJournal, "_put", meanwhile)
    result = explain(source, memory, "--config", "epsilon", "--force")
    assert result.returncode == 3
    assert b"Another run began to work on" in result.stderr and not lines(memory)


def test_watching_shows_a_run_until_it_ends(photos, memory):
    explain(photos[0], memory)
    assert isinstance(lrp("status", memory, "--watch").output, str)
    assert json.loads(lrp("status", memory, "--watch", "--json").stdout)["done"] == 5


def test_help_does_not_import_fsspec(photos, tmp_path):
    code = (
        "import sys; from lrpcli.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "print('fsspec' in sys.modules)"
    )
    for words in (["--help"], ["explain", "--help"], ["status", str(photos[1])]):
        found = subprocess.run(
            [sys.executable, "-c", code, *words], capture_output=True, check=False, env=same_environment(), text=True
        )
        assert found.stdout.splitlines()[-1] == "False", found.stderr
