"""`lrp explain --pack tar`: what lies in the tars, and that every command finds it there or says why not."""

import base64
import csv
import io
import itertools
import json
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lrpcli
from lrpcli.records.packed import member_base
from tests.photos import folder_of_photos, photo
from tests.resilience.runs import TINY_OPTIONS, environment, explain, journal, leftovers, lrp, rows, tree

pytest.importorskip("pyarrow")
SMALL = ("--pack", "tar", "--pack-size", "0.6")
NAMES = [b"a.jpg", b"a.png", b"v1.2.png", b"v1.3.png", b"line\nbreak.png", b"caf\xe9.png", b"100%.png",
         b"d.ir/a.png", b"__meta__/x.png", b"x" * 140 + b".png", b"y" * 240 + b".png"]  # fmt: skip


def hostile_photos(folder):
    folder.mkdir(parents=True)
    plain = photo(folder.parent / "plain.png", 1)
    for number, name in enumerate(NAMES):
        place = folder / os.fsdecode(name)
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(photo(plain, number).read_bytes())
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with photos of hostile names, `plain` results and `packed` ones; and what the packed run printed."""
    folder = tmp_path_factory.mktemp("packs")
    source = hostile_photos(folder / "in")
    assert explain(source, folder / "plain", "--target", "top2").returncode == 0
    result = explain(source, folder / "packed", "--target", "top2", *SMALL, "--json")
    assert result.returncode == 0, result.stderr
    return folder, rows(result)


def members(output):
    """Every member of the tars of a folder: its name and content; in their order."""
    found = []
    for path in sorted(output.glob("*.tar")):
        with tarfile.open(path) as archive:
            found += [(member.name, archive.extractfile(member).read()) for member in archive]
    return found


def unpacked_name(member):
    key, dot, ending = member.rpartition("/")[2].partition(".")
    folder = member.rpartition("/")[0]
    return member_base(f"{folder}/{key}" if folder else key) + dot + ending


def test_tars_hold_the_files_of_a_plain_run_once_and_have_the_size_that_was_asked_for(results):
    folder, _ = results
    found = members(folder / "packed")
    assert len(found) == 4 * len(NAMES) == len({name for name, _ in found})
    assert {unpacked_name(name): content for name, content in found} == tree(folder / "plain")
    sizes = [path.stat().st_size for path in (folder / "packed").glob("*.tar")]
    assert len(sizes) > 2 and max(sizes) <= 600_000
    assert sorted(path.name for path in (folder / "packed").iterdir() if path.suffix != ".tar") == [
        ".lrp", "index.parquet"]  # fmt: skip
    assert not leftovers(folder / "packed") and not list((folder / "packed" / ".lrp").glob("open-*"))


def test_the_members_of_an_image_lie_together(results):
    keys = [name.partition(".npy")[0].partition(".png")[0] for name, _ in members(results[0] / "packed")]
    changes = sum(one != other for one, other in itertools.pairwise(keys))
    assert changes + 1 == len(set(keys)) == 2 * len(NAMES)


def test_what_is_printed_says_where_to_find_it(results):
    folder, printed = results
    content = {}
    for path in (folder / "packed").glob("*.tar"):
        data = path.read_bytes()
        for row in printed[:-1]:
            for one in row["explanations"]:
                if one["pack"]["tar"] == str(path):
                    for kind, (offset, size) in one["pack"]["places"].items():
                        content[text(one["outputs"][kind])] = data[offset : offset + size]
                        assert text(one["outputs"][kind]).startswith(f"{path}/")
    assert len(content) == 4 * len(NAMES)
    assert {name.partition(".tar/")[2]: data for name, data in content.items()} == dict(members(folder / "packed"))


def text(path):
    return path if isinstance(path, str) else os.fsdecode(base64.b64decode(path["bytes"]))


READ_SAMPLES = """
import sys, webdataset, pickle
samples = webdataset.WebDataset(sys.argv[1:], shardshuffle=False, empty_check=False).decode("pil")
found = [(one["__key__"], one["npy"], one["png"].tobytes(), sorted(one)) for one in samples]
sys.stdout.buffer.write(pickle.dumps(found))
"""


def test_webdataset_sees_every_map_as_one_sample(results):
    """In a process of its own: it leaves files open."""
    pytest.importorskip("webdataset")
    folder, _ = results
    paths = sorted(map(str, (folder / "packed").glob("*.tar")))
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}
    read = subprocess.run([sys.executable, "-c", READ_SAMPLES, *paths], env=env, capture_output=True, check=True)
    samples = pickle.loads(read.stdout)
    assert len(samples) == len({key for key, *_ in samples}) == 2 * len(NAMES)
    for key, relevance, pixels, fields in samples:
        assert [field for field in fields if not field.startswith("__")] == ["npy", "png"]
        base = member_base(key)
        np.testing.assert_array_equal(relevance, np.load(os.fsencode(folder / "plain" / f"{base}.npy")))
        with Image.open(os.fsencode(folder / "plain" / f"{base}.png")) as picture:
            assert pixels == picture.tobytes()


def test_unpack_gives_exactly_the_files_of_a_plain_run_and_a_folder_that_goes_on_as_one(results, tmp_path):
    folder, _ = results
    before = tree(folder / "packed")
    done = lrp("unpack", folder / "packed", tmp_path / "out", "--print0")
    assert done.exit_code == 0, done.stderr
    assert done.stderr == f"{len(NAMES)} unpacked, 0 failed; results in {tmp_path}/out\n"
    assert len(done.stdout_bytes.split(b"\0")) == 2 * len(NAMES) + 1
    assert tree(tmp_path / "out") == tree(folder / "plain") and tree(folder / "packed") == before
    again = explain(folder / "in", tmp_path / "out", "--target", "top2", "--json")
    assert [row["status"] for row in rows(again)[:-1]] == ["skipped"] * len(NAMES), again.stderr
    assert lrp("unpack", folder / "packed", tmp_path / "out").exit_code == 0, "unpacking twice does no harm"
    assert tree(tmp_path / "out") == tree(folder / "plain")
    described = [(place / ".lrp" / "run.json").read_bytes() for place in (folder / "plain", tmp_path / "out")]
    assert described[0] == described[1]


@pytest.mark.parametrize("packed", ["packed", "plain"])
def test_open_maps_gives_the_maps_whatever_they_are_stored_as(results, packed):
    folder, _ = results
    with lrpcli.open_maps(folder / packed) as maps:
        assert len(maps) == 2 * len(NAMES) == len(list(maps))
        for name in maps:
            np.testing.assert_array_equal(maps[name], np.load(os.fsencode(folder / "plain" / f"{name}.npy")))
            assert maps[name].dtype == np.float32 and maps[name].flags.writeable


def test_the_index_holds_what_the_journals_hold(results):
    import pyarrow.parquet

    folder, _ = results
    table = pyarrow.parquet.read_table(folder / "packed" / "index.parquet").to_pylist()
    lines = [row for row in journal(folder / "packed") if row["type"] == "done"]
    expected = [(text(row["name"]), one) for row in lines for one in row["explanations"]]
    assert len(table) == len(expected) == 2 * len(NAMES)
    for row, (name, one) in zip(table, expected, strict=True):
        assert name in (row["name"], os.fsdecode(b"caf\xe9.png"))
        assert (row["target"], row["label"], row["score"], row["tar"]) == (
            one["target"], one["label"], one["score"], one["pack"]["tar"])  # fmt: skip
        for kind, place in one["pack"]["places"].items():
            assert [row[f"{kind}_offset"], row[f"{kind}_size"]] == place
            assert row[kind].startswith(f"{row['tar']}/")
    # And so a program finds a map with nothing but the index.
    row = table[0]
    data = (folder / "packed" / row["tar"]).read_bytes()[row["map_offset"] :][: row["map_size"]]
    assert np.load(io.BytesIO(data)).shape == (32, 32)


def test_the_table_names_tars_and_places(results):
    folder, _ = results
    done = lrp("table", folder / "packed")
    found = list(csv.DictReader(io.StringIO(done.stdout_bytes.decode(), newline="")))
    assert len(found) == 2 * len(NAMES)
    assert {row["tar"] for row in found} == {str(path) for path in (folder / "packed").glob("*.tar")}
    assert all(row["map"].startswith(row["tar"]) or row["map"].startswith("{") for row in found)
    assert "tar" not in lrp("table", folder / "plain").stdout.splitlines()[0].split(",")


def test_status_counts_what_lies_in_tars(results, tmp_path):
    folder, _ = results
    found = json.loads(lrp("status", folder / "packed", "--json").stdout)
    assert (found["done"], found["missing"], found["open"]) == (len(NAMES), 0, 0)
    whole = sum(path.stat().st_size for path in (folder / "packed").glob("*.tar"))
    assert 0.95 * whole < found["disk"] <= whole


def test_a_report_shows_pictures_and_maps_from_tars_and_leads_to_no_file_that_is_not_there(results, tmp_path):
    folder, _ = results
    source, out = folder / "in", tmp_path / "out"
    for save in ("overlay,map", "map"):
        done = explain(source, out / save, *SMALL, "--save", save)
        assert done.returncode == 0
        made = lrp("report", out / save, "--json")
        assert made.exit_code == 0, made.stderr
        assert json.loads(made.stdout)["pictures"] >= 2 * len(NAMES), "a photo and a map of each image"
        assert b".npy" not in (out / save / "index.html").read_bytes().partition(b"<script")[0]
        for small in (out / save / "lrp-report").rglob("*.webp"):
            with Image.open(small) as picture:
                picture.load()


def test_a_second_run_does_nothing_and_new_images_go_into_another_tar(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    assert explain(source, out, *SMALL).returncode == 0
    before = tree(out)
    assert [row["status"] for row in rows(explain(source, out, *SMALL, "--json"))[:-1]] == ["skipped"] * 3
    assert {name: content for name, content in tree(out).items() if name != "index.parquet"} == {
        name: content for name, content in before.items() if name != "index.parquet"}  # fmt: skip
    photo(source / "new.png", 9)
    last = max(name for name in before if name.endswith(".tar"))
    row = rows(explain(source, out, *SMALL, "--json"))[-2]
    assert row["status"] == "ok" and row["pack"]["tar"] > f"{out}/{last}"
    assert all(tree(out)[name] == content for name, content in before.items() if name != "index.parquet")


def test_a_changed_image_is_a_clash_until_its_tar_is_removed(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 2), tmp_path / "out"
    assert explain(source, out, *SMALL).returncode == 0
    photo(source / "0.png", 77)
    before = tree(out)
    for _ in range(2):
        result = explain(source, out, *SMALL, "--json")
        failed = [row["error"] for row in rows(result)[:-1] if row["status"] == "failed"]
        assert result.returncode == 1 and [error["kind"] for error in failed] == ["clash"]
        assert "has changed, or is asked for otherwise" in failed[0]["message"]
        assert "'lrp-1-of-1-000000.tar'" in failed[0]["message"]
        assert tree(out).keys() == before.keys()
    for path in out.glob("*.tar"):
        path.unlink()
    done = rows(explain(source, out, *SMALL, "--json"))
    assert [row["status"] for row in done[:-1]] == ["ok", "ok"]
    tars = {row["pack"]["tar"] for row in done[:-1]}
    assert f"{out}/lrp-1-of-1-000000.tar" not in tars, "what the old lines say of that name shall not come true"
    assert len(members(out)) == 4


def test_another_image_of_the_same_name_is_a_clash(tmp_path):
    out = tmp_path / "out"
    assert explain(photo(tmp_path / "one" / "a.png", 1), out, *SMALL).returncode == 0
    result = explain(photo(tmp_path / "two" / "a.png", 2), out, *SMALL, "--json")
    assert rows(result)[0]["error"]["kind"] == "clash"
    assert "belongs to the finished result of another image" in rows(result)[0]["error"]["message"]


def test_what_cannot_go_together_is_refused_by_name(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 2), tmp_path / "out"
    for options, message in (
        (("--save", "none"), b"--pack puts files into tar shards, and --save none asks for no files."),
        (("--scale", "run"), b"--scale run may draw finished pictures anew, and tar shards are never written again"),
        (("--pack", "zip"), b"--pack 'zip' is not known."),
        (("--pack-size", "0"), b"0.0 is not in the range"),
    ):
        refused = explain(source, out, *SMALL, *options)
        assert refused.returncode == 2 and message in refused.stderr, refused.stderr
        assert not out.exists()
    assert explain(source, out, *SMALL).returncode == 0
    before = tree(out)
    for options, message in (
        ((), b'output.pack was "tar" and is now absent'),
        ((*SMALL, "--force"), b"tar shards are never written again, so that --force cannot replace what lies there."),
        ((*SMALL, "--dtype", "int16", "--force"), b"tar shards are never written again"),
        ((*SMALL, "--shard", "1/2", "--force"), b"tar shards are never written again"),
    ):
        refused = explain(source, out, *options)
        assert refused.returncode == 2 and message in refused.stderr, refused.stderr
        assert tree(out) == before
    assert explain(source, tmp_path / "plain").returncode == 0
    refused = explain(source, tmp_path / "plain", *SMALL)
    assert refused.returncode == 2 and b'output.pack was absent and is now "tar"' in refused.stderr
    for path in out.glob("*.tar"):
        path.unlink()
    assert explain(source, out, *SMALL, "--force").returncode == 0


def test_a_tar_that_no_journal_knows_is_refused(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 2), tmp_path / "out"
    assert explain(source, out, *SMALL).returncode == 0
    (out / ".lrp" / "journal-1-of-1.jsonl").unlink()
    refused = explain(source, out, *SMALL)
    assert refused.returncode == 2 and b"of which no journal in it says what lies there" in refused.stderr


def test_an_image_that_fails_while_its_files_are_made_leaves_nothing_in_the_tar(tmp_path, monkeypatch):
    from lrpcli.errors import ImageError
    from lrpcli.pipeline import kinds

    def make(product):
        if product.item.source.name == "0.png":
            raise ImageError("compute", "It cannot be drawn.")
        return b"picture"

    monkeypatch.setitem(kinds.KINDS, "overlay", kinds.Kind("overlay", "", make, picture=True))
    source, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    result = explain(source, out, *SMALL)
    assert result.returncode == 1
    assert [name for name, _ in members(out)] == ["2%2Epng.npy", "2%2Epng.png", "cats/1%2Epng.npy", "cats/1%2Epng.png"]


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(tmp_path, monkeypatch):
    source, out = folder_of_photos(tmp_path / "in", 6), tmp_path / "out"
    plain, full = os.write, []

    def write(descriptor, data):
        if len(data) > 10_000 and os.fstat(descriptor).st_size > 150_000:
            full.append(plain(descriptor, data[: len(data) // 2]))
            raise OSError(28, "No space left on device")
        return plain(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    stopped = explain(source, out, *SMALL)
    assert stopped.returncode == 3 and full
    assert b"cannot be written: No space left on device. Free some space" in stopped.stderr
    for path in out.glob("*.tar"):
        with tarfile.open(path) as archive:
            assert archive.getmembers()
    monkeypatch.undo()
    assert explain(source, out, *SMALL).returncode == 0
    assert len(members(out)) == len(dict(members(out))) == 12
    assert explain(source, tmp_path / "plain").returncode == 0
    assert {unpacked_name(name): content for name, content in members(out)} == tree(tmp_path / "plain")


def test_what_a_run_of_another_number_of_shards_left_open_is_finished(tmp_path):
    """A tar that a killed run left, with an image behind the last line, becomes whole; the image is done again."""
    source, out = folder_of_photos(tmp_path / "in", 6), tmp_path / "out"
    assert explain(source, out, "--pack", "tar", "--shard", "1/2").returncode == 0
    (tar,) = out.glob("*.tar")
    opened = out / ".lrp" / "open-1-of-2-000000.tar"
    tar.rename(opened)
    lines = (out / ".lrp" / "journal-1-of-2.jsonl").read_bytes().splitlines(keepends=True)
    assert b'"ended"' in lines[-1] and b'"ok"' in lines[-2]
    (out / ".lrp" / "journal-1-of-2.jsonl").write_bytes(b"".join(lines[:-2]))
    (out / "index.parquet").unlink()
    status = json.loads(lrp("status", out, "--json").stdout)
    assert (status["done"], status["open"], status["missing"]) == (0, 2, 4)
    assert "open     2  (in tars that are not whole yet)" in lrp("status", out).stdout
    done = rows(explain(source, out, "--pack", "tar", "--json"))
    assert sorted(row["status"] for row in done[:-1]) == ["ok"] * 4 + ["skipped"] * 2
    assert not opened.exists() and len(members(out)) == len(dict(members(out))) == 12
    assert sorted(path.name for path in out.glob("*.tar")) == ["lrp-1-of-1-000000.tar", "lrp-1-of-2-000000.tar"]


def test_shards_that_go_on_know_the_tars_of_the_others(tmp_path):
    """Though the same images are divided as before, where the journal of a shard tells it all about its own."""
    source, out = folder_of_photos(tmp_path / "in", 4), tmp_path / "out"
    for status in ("ok", "skipped"):
        for shard in ("1/2", "2/2"):
            result = explain(source, out, *SMALL, "--shard", shard, "--json")
            assert result.returncode == 0, result.stderr
            assert [row["status"] for row in rows(result)[:-1]] == [status] * 2
    assert len(members(out)) == len(dict(members(out))) == 8


def test_a_missing_package_is_one_sentence(tmp_path):
    source = folder_of_photos(tmp_path / "in", 1)
    (tmp_path / "block" / "pyarrow").mkdir(parents=True)
    (tmp_path / "block" / "pyarrow" / "__init__.py").write_text("raise ImportError")
    line = [sys.executable, "-m", "lrpcli", "explain", *TINY_OPTIONS, source, tmp_path / "out", "--pack", "tar"]
    result = subprocess.run(
        list(map(str, line)), env=environment(path=[tmp_path / "block"]), capture_output=True, text=True, check=False
    )
    assert result.returncode == 2 and result.stderr.rstrip().endswith(
        "--pack tar needs the package pyarrow, which is missing. Install it with: pip install 'lrpcli[pack]'."
    )
    assert not Path(tmp_path / "out").exists()


def test_unpack_names_what_it_cannot_give_and_goes_on(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    long = source / ("n" * 251 + ".png")  # a result of it has a name that no file can have
    photo(long, 5)
    assert explain(source, tmp_path / "plain").returncode == 1
    assert explain(source, out, *SMALL).returncode == 0
    done = lrp("unpack", out, tmp_path / "flat")
    assert done.exit_code == 1 and "3 unpacked, 1 failed" in done.stderr and "File name too long" in done.stderr
    assert tree(tmp_path / "flat") == tree(tmp_path / "plain")
    for path in out.glob("*.tar"):
        path.write_bytes(path.read_bytes()[:1024])
    done = lrp("unpack", out, tmp_path / "again")
    assert done.exit_code == 1 and "the tar holds something else there" in done.stderr
    for folder, message in ((tmp_path / "plain", "holds no results that were packed"), (tmp_path / "in", "no journal")):
        refused = lrp("unpack", folder, tmp_path / "x")
        assert refused.exit_code == 2 and message in refused.stderr and not (tmp_path / "x").exists()
    refused = lrp("unpack", out, out)
    assert refused.exit_code == 2 and "Name another folder" in refused.stderr
