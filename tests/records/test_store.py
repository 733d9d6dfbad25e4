"""Files are whole or not there, and a failure says whether it is this file's or the disk's."""

import errno
import io
import json
import math
import os

import numpy as np
import pytest

from lrpcli.errors import ImageError, OutputError
from lrpcli.records.journal import Journal
from lrpcli.records.json_values import Fields, json_line, json_path
from lrpcli.records.record import FAILED, Failure, Outputs, Record
from lrpcli.records.store import npy_bytes, npz_bytes, write_whole


def test_writes_into_folders_that_it_makes_and_overwrites(tmp_path):
    path = tmp_path / "a" / "b" / "c.bin"
    write_whole(path, b"one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "map.npy"
    write_whole(path, b"old")

    def full(*names, **folders):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="map.npy' cannot be written: No space left on device. Free some space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_too_long_fails_alone(tmp_path):
    with pytest.raises(ImageError, match="File name too long") as caught:
        write_whole(tmp_path / ("x" * 300), b"data")
    assert caught.value.kind == "io"
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be_fails_alone(tmp_path):
    (tmp_path / "cats").write_bytes(b"")
    with pytest.raises(ImageError):
        write_whole(tmp_path / "cats" / "a.png", b"data")


def test_what_lies_at_a_temporary_name_is_not_written_through(tmp_path, monkeypatch):
    monkeypatch.setattr("lrpcli.records.store.secrets.token_hex", lambda count: "0" * 2 * count)
    (tmp_path / "others").write_bytes(b"theirs")
    (tmp_path / "out").mkdir()
    for lay in (os.symlink, os.link):
        lay(tmp_path / "others", tmp_path / "out" / ".lrp-0-0000000000000000.tmp")
        with pytest.raises(ImageError, match="File exists"):
            write_whole(tmp_path / "out" / "a.png", b"data")
        assert (tmp_path / "others").read_bytes() == b"theirs"


def test_arrays_open_again():
    array = np.arange(6, dtype=np.float16).reshape(2, 3)
    np.testing.assert_array_equal(np.load(io.BytesIO(npy_bytes(array)), allow_pickle=False), array)
    archive = np.load(io.BytesIO(npz_bytes({"file": array, "inception_3a/output": array + 1})), allow_pickle=False)
    assert sorted(archive) == ["file", "inception_3a/output"]
    np.testing.assert_array_equal(archive["inception_3a/output"], array + 1)


def test_a_path_that_is_not_utf8_is_base64_in_json():
    name = os.fsdecode(b"caf\xe9.jpg")
    assert json_path("café.jpg") == "café.jpg"
    record = Record(input=name, name=name, status=FAILED, failure=Failure("io", f"{name} is odd"))
    read = json.loads(json_line({**record.as_json(), "outputs": Outputs({"map": name}).as_json()}).encode())
    assert read["input"] == read["outputs"]["map"] == {"bytes": "Y2Fm6S5qcGc="}
    assert read["error"]["message"] == "caf\\udce9.jpg is odd"
    assert Record.from_json(Fields(read)).name == name


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *(("number", value) for value in (math.inf, -math.inf, math.nan, True, "1", None, 10**400)),
        *(("whole", value) for value in (True, 1.0, math.inf, "1", None)),
        *(("path", {"bytes": text}) for text in ("Y2*Fm", "Y2F", "Y2Fm\n", 5)),
    ],
    ids=str,
)
def test_what_a_field_is_not_is_refused(kind, value):
    with pytest.raises(ValueError):
        getattr(Fields({"x": value}), kind)("x")


def test_a_line_of_json_is_one_line_whatever_the_name():
    assert "\n" not in json_line({"input": "a\nb.jpg"})


def test_the_journal_only_grows(tmp_path):
    for number in range(2):
        with Journal(tmp_path, "journal.jsonl") as journal:
            journal.append({"input": f"{number}.jpg"})
    lines = (tmp_path / ".lrp" / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["input"] for line in lines] == ["0.jpg", "1.jpg"]
