"""Shards that pack and are killed: every image lies in one tar, once, and is written down once."""

import json
import os
import subprocess
import sys
import tarfile

import pytest

from lrpcli.records.description import EXPLAIN_FILES
from lrpcli.records.explained import Explained
from lrpcli.records.resume import CLASHED, Resume
from lrpcli.records.stores import NewFile, Place
from tests.records.results import description, explained, start, write
from tests.resilience.runs import environment

RUN = description().fingerprint


def test_shards_that_are_killed_at_random_hold_every_image_once():
    """In a process of its own, as forks of one with threads may hang. By hand: tests.records.pack_kills 20 8"""
    pytest.importorskip("pyarrow")
    line = [sys.executable, "-m", "tests.records.pack_kills", "8", "3", "90"]
    result = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
    found = json.loads(result.stdout or "{}")
    assert found.pop("killed", 0) >= 4 and found.pop("tars") >= 9, result.stderr
    assert found == {
        "exit": 0, "images": 90, "done twice": 0, "members": 180, "equal": True, "left open": 0,
        "rows in the index": 90,
    }  # fmt: skip


@pytest.fixture
def kills():
    pytest.importorskip("pyarrow")
    from tests.records import pack_kills

    return pack_kills


def packed(kills, folder, names, shards=1):
    """A run of the first shard; the files in all tars that are whole, by their paths."""
    (folder / "in").mkdir(exist_ok=True)
    for name in names:
        (folder / "in" / name).write_text(name)
    kills.pack(folder, names, 1, shards)
    return contents(kills, folder / "out")


def contents(kills, out):
    found = []
    for tar in out.glob("*.tar"):
        with tarfile.open(tar) as archive:
            found += [(kills.unpacked(member.name), archive.extractfile(member).read()) for member in archive]
    assert len(found) == len(dict(found)), "each of them once"
    return dict(found)


@pytest.mark.parametrize("shards", [1, 2], ids=["its own run goes on", "another number of shards"])
def test_an_open_tar_that_lost_its_end_is_not_filled_up(tmp_path, kills, shards):
    """As after a power failure: journals speak of what has not reached the disk. Zeros are nobody's map."""
    names = ["a.jpg", "b.jpg", "c.jpg"][: 1 + shards]
    expected = packed(kills, tmp_path, names, shards)
    (tar,) = (tmp_path / "out").glob("*.tar")
    opened = tmp_path / "out" / ".lrp" / tar.name.replace("lrp-", "open-")
    tar.rename(opened)
    os.truncate(opened, opened.stat().st_size // 2)
    found = packed(kills, tmp_path, names)
    assert {path.partition(".")[0] for path in found} == {name[0] for name in names}
    assert found.items() >= expected.items() and not opened.exists()


def test_what_was_made_of_an_image_last_is_kept(tmp_path, kills):
    """Files of a suspect that was tried alone have other last digits than those of its batch."""
    store = kills.TarStore(Place(tmp_path))
    with (
        Resume(tmp_path, EXPLAIN_FILES, Explained, RUN, "1-of-1") as resume,
        store.opened(resume.tars, force=False),
    ):
        description().write(tmp_path, EXPLAIN_FILES)
        record = explained("a.jpg")
        for content in (b"alone", b"in its batch"):
            files = [NewFile(kind, path, content) for kind, path in record.outputs[0].paths.items()]
            store.put("a.jpg", "a.jpg.281", files)
        with store.kept(record) as kept:
            resume.end(kept)
    assert set(contents(kills, tmp_path).values()) == {b"in its batch"}


def test_an_image_that_lies_in_a_tar_is_no_suspect(tmp_path, kills):
    """Begun in two killed runs while its tar was elsewhere, which is back now: it would come to lie in another one."""
    packed(kills, tmp_path, ["a.jpg"])
    write(tmp_path / "out", start("a.jpg"), start("a.jpg"))
    with Resume(tmp_path / "out", EXPLAIN_FILES, Explained, RUN, "1-of-1") as resume:
        assert resume.look(str(tmp_path / "in" / "a.jpg"), "a.jpg") == CLASHED
