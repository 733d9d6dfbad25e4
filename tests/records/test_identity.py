"""How an input is known again."""

import contextlib
import hashlib
import os

import pytest

from lrpcli.paths import STDIN
from lrpcli.records.identity import (
    CHANGED,
    OTHER,
    SAME,
    UNKNOWN,
    Content,
    FileState,
    Unchanged,
    absolute,
    compare,
    hash_bytes,
    read_content,
    recorded_path,
    relation,
)
from lrpcli.records.json_values import Fields

TIME = 1_500_000_000 * 10**9


def made(path, data=b"one", time=TIME):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, ns=(time, time))
    return path


def line(path, /, **changes):
    """What a journal says of a file, the line of a finished image."""
    state = FileState.of(os.fspath(path))
    values = {"input": os.fspath(path), "content": hash_bytes(path.read_bytes()), **state.as_json(), **changes}
    return Fields({key: value for key, value in values.items() if value is not None})


def test_the_hash_is_blake2b_of_all_bytes(tmp_path):
    data = bytes(range(256)) * 12_345  # several chunks
    path = made(tmp_path / "a", data)
    assert read_content(os.fspath(path)).hash == hashlib.blake2b(data, digest_size=16).hexdigest() == hash_bytes(data)
    assert read_content(os.fspath(path)).state == FileState.of(os.fspath(path))
    assert read_content(os.fspath(made(tmp_path / "empty", b""))).hash == hash_bytes(b"")


@pytest.mark.parametrize("lay", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("a"), lambda path: None])
def test_what_is_no_file_has_no_content_and_is_not_waited_for(tmp_path, lay):
    lay(tmp_path / "a")
    assert read_content(os.fspath(tmp_path / "a")) is None and read_content("a\0b") is None


def test_path_size_and_time_are_enough(tmp_path):
    path = made(tmp_path / "a.png")
    assert compare(line(path, content="0" * 32), os.fspath(path)) == SAME
    assert compare(line(path, content=None), os.fspath(path)) == SAME


@pytest.mark.parametrize("same", [True, False])
def test_otherwise_the_content_decides(tmp_path, same):
    """Another path or another time; the same name, size and time say nothing."""
    first = made(tmp_path / "left" / "1.bmp")
    known = line(first)
    second = made(tmp_path / "right" / "1.bmp", b"one" if same else b"two")
    touched = line(first, mtime_ns=5)
    first.write_bytes(b"one" if same else b"two")
    for path, fields, otherwise in ((second, known, OTHER), (first, touched, CHANGED)):
        assert compare(fields, os.fspath(path)) == UNKNOWN
        content = read_content(os.fspath(path))
        assert compare(fields, os.fspath(path), content) == relation(fields, os.fspath(path))
        assert relation(fields, os.fspath(path)) == (SAME if same else otherwise)


def test_what_needs_no_reading(tmp_path):
    path, other = made(tmp_path / "a" / "1.png"), made(tmp_path / "b" / "1.png", b"longer")
    known = line(path)
    assert compare(known, os.fspath(other)) == OTHER
    assert compare(line(path, content=None), os.fspath(made(tmp_path / "c" / "1.png"))) == OTHER
    path.write_bytes(b"longer")
    assert compare(known, os.fspath(path)) == CHANGED
    path.unlink()
    assert compare(known, os.fspath(path)) == CHANGED
    assert compare(known, os.fspath(other)) == OTHER  # that the other's file is gone does not make it this one


@pytest.mark.parametrize("stream", [STDIN, "/dev/fd/7"])
def test_a_stream_is_known_by_its_bytes(stream):
    known = Fields({"input": stream, "content": hash_bytes(b"one")})
    assert FileState.of(stream) is None and recorded_path(known) == stream == absolute(stream)
    assert compare(known, stream) == UNKNOWN
    assert compare(known, stream, Content(hash_bytes(b"one"))) == SAME
    assert compare(known, stream, Content(hash_bytes(b"two"))) == OTHER
    assert relation(known, stream) == SAME  # for a process that cannot read it any more


@pytest.mark.parametrize(
    "damage",
    [{"path": 5}, {"path": {"bytes": 5}}, {"path": "\ud800"}, {"path": []}, {"size": "3"}, {"size": True},
     {"size": 3.0}, {"mtime_ns": None}, {"mtime_ns": [5]}, {"mtime_ns": {}}],
)  # fmt: skip
def test_a_damaged_line_is_a_value_error(tmp_path, damage):
    path = made(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r".*"):
        compare(line(path, **damage), os.fspath(path))


def test_lines_of_early_versions_hold_the_path_as_it_was_given(tmp_path):
    path = made(tmp_path / "in" / "a.png")
    with contextlib.chdir(tmp_path):
        early = Fields({"input": "in/a.png", "size": 3, "mtime_ns": TIME})
        assert compare(early, "./in/a.png") == compare(early, os.fspath(path)) == SAME
        assert compare(early, os.fspath(made(tmp_path / "else" / "a.png"))) == OTHER


def test_absolute_paths(tmp_path):
    (tmp_path / "real" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/inner")
    with contextlib.chdir(tmp_path):
        here = os.getcwd()  # noqa: PTH109
        for path in ("a.png", "./a.png", ".//a.png", f"{here}/a.png", "real/../a.png"):
            assert absolute(path) == f"{here}/a.png"
        assert absolute("link/a.png") == f"{here}/link/a.png"
        assert absolute("link/../a.png") == f"{here}/real/a.png"  # where the file is that is opened
        assert absolute("./-") == f"{here}/-" and absolute("caf\udce9.png") == f"{here}/caf\udce9.png"
    with contextlib.chdir(tmp_path / "real"):
        assert absolute("../a.png") == f"{here}/a.png"


def test_a_file_that_changes_while_it_is_decoded_has_no_hash(tmp_path):
    path = made(tmp_path / "a.png")
    assert Unchanged(os.fspath(path)).hash() == hash_bytes(b"one")
    written, replaced, gone = (Unchanged(os.fspath(path)) for _ in range(3))
    os.utime(path, ns=(TIME + 1, TIME + 1))
    assert written.hash() is None
    made(tmp_path / "other").rename(path)
    assert replaced.hash() is None
    path.unlink()
    assert gone.hash() is None and Unchanged(os.fspath(path)).hash() is None


def test_a_path_below_a_folder_that_is_gone_stays_as_it_is(tmp_path):
    (tmp_path / "gone").mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(os.chdir, os.getcwd())  # noqa: PTH109
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()
        assert absolute("a.png") == "a.png"
