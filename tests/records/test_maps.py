"""lrpcli.open_maps: maps by name and by path, whatever they are stored as, and why there is none."""

import multiprocessing
import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import lrpcli
from lrpcli.errors import ImageError, LrpError, MissingMap, UsageError
from lrpcli.images.placement import Placement
from lrpcli.records.description import EXPLAIN_FILES
from lrpcli.records.index import Index
from lrpcli.records.map_values import stored
from lrpcli.records.store import npy_bytes
from tests.photos import folder_of_photos, photo
from tests.records.results import begin, describe, description, explained, failed, start, write
from tests.resilience.runs import explain


def relevance(number):
    return np.full((4, 5), number, np.float32)


def results(output, names, *lines, **changes):
    """A folder with a map for each name; the map's values are its number."""
    describe(output)
    for number, name in enumerate(names):
        path = output / f"{name}.281.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(npy_bytes(relevance(number)))
    write(output, begin(len(names)), *(explained(name, **changes) for name in names), *lines)
    return output


def message(maps, key):
    with pytest.raises(KeyError) as raised:
        maps[key]
    assert isinstance(raised.value, (MissingMap, LrpError))
    return str(raised.value)


@pytest.mark.parametrize("options", [(), ("--dtype", "float16"), ("--dtype", "int16"), ("--channels", "keep"),
                                     ("--map-space", "image"), ("--target", "top2")], ids=str)  # fmt: skip
@pytest.mark.parametrize("pack", [(), ("--pack", "tar")], ids=["files", "tar"])
def test_maps_of_a_run_by_name_and_path(tmp_path, monkeypatch, options, pack):
    if pack:
        pytest.importorskip("pyarrow")
    source = folder_of_photos(tmp_path / "in", 2)
    exact = [option for option in options if option not in ("--dtype", "float16", "int16")]
    assert explain(source, tmp_path / "plain", *exact).returncode == 0
    assert explain(source, tmp_path / "out", *options, *pack).returncode == 0
    maps = lrpcli.open_maps(tmp_path / "out")
    suffixes = (".top1", ".top2") if "top2" in options else ("",)
    assert list(maps) == [f"{name}{suffix}" for name in ("0.png", "cats/1.png") for suffix in suffixes]
    monkeypatch.chdir(tmp_path)
    for name in ("0.png", "cats/1.png"):
        for suffix in suffixes:
            expected = np.load(tmp_path / "plain" / f"{name}{suffix}.npy")
            found = maps[name + suffix]
            tolerance = {"float16": 1e-3, "int16": 1.53e-5}.get(options[1] if options else "", 0)
            assert found.shape == expected.shape and found.dtype == np.float32
            assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
            assert maps.record(name + suffix).outputs.paths["map"] == f"{name}{suffix}.npy"
        for key in (source / name, f"in/{name}", f"./in/../in/{name}", os.fsencode(source / name)):
            if len(suffixes) == 1:
                np.testing.assert_array_equal(maps[key], maps[name])
            else:
                assert message(maps, key).endswith(
                    f"has maps of 2 classes. Give one: '{name}.top1', '{name}.top2'."
                )  # fmt: skip


def test_a_key_that_is_a_name_and_a_path_is_the_name(tmp_path, monkeypatch):
    photo(tmp_path / "b" / "a.png", 1), photo(tmp_path / "a.png", 2)
    monkeypatch.chdir(tmp_path)
    assert explain(tmp_path / "b", tmp_path / "out").returncode == 0
    assert explain("a.png", tmp_path / "out", "--base", "..").returncode == 0
    with lrpcli.open_maps("out") as maps:
        names = list(maps)
        assert len(names) == 2 and names[0] == "a.png"
        np.testing.assert_array_equal(maps["a.png"], np.load("out/a.png.npy"))
        np.testing.assert_array_equal(maps[tmp_path / "a.png"], np.load(f"out/{names[1]}.npy"))


def test_every_image_without_a_map_has_its_reason(tmp_path):
    run = description(other=1).fingerprint
    out = results(tmp_path, ["a.jpg"], failed("bad.jpg"), start("begun.jpg"), explained("two.jpg", targets=(1, 2)))
    write(out, explained("old.jpg"), run=run)
    write(out, explained("same.jpg", input="in/twice.jpg"), explained("other.jpg", input="in/twice.jpg"))
    write(out, {"type": "done", "name": "torn.jpg", "status": "ok"})
    with lrpcli.open_maps(out) as maps:
        assert message(maps, "bad.jpg") == "The image 'bad.jpg' failed (decode): It cannot be decoded."
        assert message(maps, "in/bad.jpg").endswith("nor the path of an input that was explained.")
        assert message(maps, "begun.jpg") == "The image 'begun.jpg' is not finished. Run lrp explain again."
        assert "made with other settings than the last run's" in message(maps, "old.jpg")
        assert message(maps, "two.jpg").endswith("has maps of 2 classes. Give one: 'two.jpg.1', 'two.jpg.2'.")
        assert message(maps, "in/twice.jpg").endswith("several names. Give one: 'same.jpg', 'other.jpg'.")
        assert "is damaged. Run lrp explain again." in message(maps, "torn.jpg")
        for unknown in ("c.jpg", "", "a.jpg.282", "a", "a.jpg.281.npy", "/", "..", "\0", "\udcff", "x" * 5000):
            assert "has no map for " in message(maps, unknown)
        for odd in (1, None, ("a.jpg",)):
            assert "is no name of a map" in message(maps, odd)
            assert odd not in maps
        assert "a.jpg" in maps and "a.jpg.281" in maps and "bad.jpg" not in maps and maps.get("bad.jpg") is None
        assert list(maps) == ["a.jpg.281", "two.jpg.1", "two.jpg.2", "same.jpg.281", "other.jpg.281"]
        assert len(maps) == 5


def test_an_image_that_failed_after_it_was_finished_has_no_map(tmp_path):
    out = results(tmp_path, ["a.jpg"], failed("a.jpg"))
    assert message(lrpcli.open_maps(out), "a.jpg").startswith("The image 'a.jpg' failed")


def test_files_that_are_gone_or_damaged_are_errors_of_their_own(tmp_path):
    out = results(tmp_path, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    (out / "a.jpg.281.npy").unlink()
    (out / "b.jpg.281.npy").write_bytes(b"no map")
    (out / "c.jpg.281.npy").unlink()
    (out / "c.jpg.281.npy").symlink_to(out / "d.jpg.281.npy")
    with lrpcli.open_maps(out) as maps:
        for name, words in (("a.jpg", "No such file"), ("b.jpg", "cannot be read"), ("c.jpg", "is a link")):
            assert name in maps
            with pytest.raises(ImageError, match=words) as raised:
                maps[name]
            assert not isinstance(raised.value, KeyError) and f"{name}.281.npy" in str(raised.value)


def test_folders_without_maps_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder, said in (("empty", "holds no journal of lrp explain"), ("absent", "does not exist")):
        with pytest.raises(UsageError, match=said):
            lrpcli.open_maps(tmp_path / folder)
    assert explain(photo(tmp_path / "a.png"), tmp_path / "out", "--save", "overlay").returncode == 0
    with pytest.raises(UsageError, match="holds no maps: it was made with --save overlay"):
        lrpcli.open_maps(tmp_path / "out")


def test_a_lookup_reads_a_line_or_two_however_many_there_are(tmp_path, monkeypatch):
    out = results(tmp_path, [f"{number}.jpg" for number in range(300)])
    maps = lrpcli.open_maps(out)
    read = []
    plain = Index._line_at
    monkeypatch.setattr(Index, "_line_at", lambda self, place: read.append(place) or plain(self, place))
    for key in ("7.jpg", "7.jpg.281", str(Path.cwd() / "in/7.jpg"), "in/7.jpg"):
        read.clear()
        assert (maps[key] == relevance(7)).all() and len(read) <= 3, key


def read_many(maps, seed):
    numbers = np.random.default_rng(seed).integers(0, 300, 400)
    return all((maps[f"{number}.jpg"] == relevance(number)).all() for number in numbers)


def in_a_child(maps, seed, answers):
    answers.put(read_many(maps, seed))


@pytest.mark.skipif(sys.platform == "darwin", reason="forks of a process with threads may hang there")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_threads_and_forked_processes_share_it_and_it_can_be_pickled(tmp_path, monkeypatch):
    out = results(tmp_path, [f"{number}.jpg" for number in range(300)])
    maps = lrpcli.open_maps(out)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read_many, [maps] * 8, range(8)))
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    children = [context.Process(target=in_a_child, args=(maps, seed, answers)) for seed in range(3)]
    for child in children:
        child.start()
    assert read_many(maps, 9) and all(answers.get(timeout=300) for _ in children)
    for child in children:
        child.join()
    again = pickle.loads(pickle.dumps(maps))
    monkeypatch.chdir("/")
    assert list(again) == list(maps) and (again["3.jpg"] == relevance(3)).all()
    maps.close()
    assert (maps["3.jpg"] == relevance(3)).all(), "what is closed opens again"


def test_descriptors_do_not_add_up(tmp_path):
    out = results(tmp_path, [f"{number}.jpg" for number in range(20)])
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("nobody says here which files are open")
    before = len(list(descriptors.iterdir()))
    with lrpcli.open_maps(out) as maps:
        for _ in range(5):
            assert len(dict(maps)) == 20
    assert len(list(descriptors.iterdir())) == before


def test_a_map_of_a_placement_goes_on_the_photo(tmp_path):
    """What the record says of the grid's place is what library users need beside the map."""
    out = tmp_path / "out"
    assert explain(photo(tmp_path / "a.png"), out).returncode == 0
    index = Index(out, EXPLAIN_FILES, None)
    placement = Placement.from_dict(index.of("a.png").line.fields.inner("placement").values)
    index.close()
    assert placement.to_image(lrpcli.open_maps(out)["a.png"]).shape == (40, 48)


def test_whole_numbers_that_are_no_map_are_refused(tmp_path):
    out = results(tmp_path, ["a.jpg"])
    (out / "a.jpg.281.npy").write_bytes(npy_bytes(np.zeros((4, 5), np.int16)))
    with pytest.raises(ImageError, match="it does not hold a map"):
        lrpcli.open_maps(out)["a.jpg"]
    (out / "a.jpg.281.npy").write_bytes(npy_bytes(stored(relevance(3), "int16")))
    np.testing.assert_allclose(lrpcli.open_maps(out)["a.jpg"], relevance(3), rtol=1e-6)
