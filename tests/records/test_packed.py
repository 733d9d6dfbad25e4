"""Names in tar shards, where a member lies, and reading one however the tar was tampered with."""

import errno
import io
import os
import re
import tarfile
from contextlib import closing, nullcontext
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpcli.errors import ImageError
from lrpcli.records import status
from lrpcli.records.json_values import Fields
from lrpcli.records.packed import (
    END,
    Packed,
    StoredFile,
    TarName,
    member_base,
    member_header,
    member_key,
    padding,
    tar_size,
)
from lrpcli.records.tar_store import OpenTar

NAMES = st.binary(min_size=1, max_size=300).filter(lambda data: b"\0" not in data).map(os.fsdecode)
HOSTILE = ["a.jpg", ".a", "a..b", "d.ir/a.jpg", "__meta__/a.jpg", "__x__", "100%.png", "a%2Ejpg", "line\nbreak.png",
           "\x1b[2J.png", "caf\udce9.jpg", "猫.jpg", "x" * 99 + ".png", "y" * 251 + ".png", "z" * 700,
           "d/" * 80 + "a.b", "-rf.png", "=1+1.png", " .png", "\u2028.png"]  # fmt: skip
TAR = "lrp-1-of-1-000000.tar"


def webdataset_takes_apart(name):
    """What webdataset.tariterators does: key and ending, None where it passes the member over."""
    found = re.match(r"^((?:.*/|)[^.]+)[.]([^/]*)$", name)
    if found is None or re.match(r"__[^/]*__($|/)", name):
        return None
    return found[1], found[2]


@given(NAMES)
def test_a_key_is_the_name_again_and_programs_that_read_tars_see_nothing_odd_in_it(base):
    key = member_key(base)
    assert member_base(key) == unquote(key, errors="surrogateescape") == base
    key.encode("utf-8")
    assert not re.search(r"[\x00-\x1f\x7f]", key)
    if not base.endswith("/"):
        for ending in ("npy", "heatmap.png"):
            assert webdataset_takes_apart(f"{key}.{ending}") == (key, ending)


@given(NAMES, NAMES)
def test_two_names_have_two_keys(one, other):
    assert (member_key(one) == member_key(other)) == (one == other)


@pytest.mark.parametrize("base", HOSTILE, ids=range(len(HOSTILE)))
def test_any_name_goes_through_a_tar(tmp_path, base):
    data, tars = b"content", tmp_path / TAR
    name = f"{member_key(base)}.npy"
    header = member_header(name, len(data))
    assert len(header) % 512 == 0 and header == member_header(name, len(data))
    tars.write_bytes(header + data + padding(len(data)) + END)
    with tarfile.open(tars) as archive:
        (member,) = archive.getmembers()
        assert member.name == name and member.isreg() and archive.extractfile(member).read() == data
    stored = StoredFile(str(tmp_path), f"{base}.npy", TAR, name, len(header), len(data))
    assert stored.read() == data


def two_members(folder):
    """A tar with two members, and where they are."""
    content = b""
    places = []
    for name, data in (("a%2Ejpg.npy", b"first" * 200), ("b%2Ejpg.npy", b"other" * 200)):
        content += member_header(name, len(data))
        places.append(StoredFile(str(folder), name, TAR, name, len(content), len(data)))
        content += data + padding(len(data))
    (folder / TAR).write_bytes(content + END)
    return places, content + END


@pytest.mark.parametrize(
    "damage",
    [
        lambda tar, first: tar.unlink(),
        lambda tar, first: tar.write_bytes(b""),
        lambda tar, first: tar.write_bytes(first[: len(first) // 3]),
        lambda tar, first: tar.write_bytes(first[512:]),
        lambda tar, first: tar.write_bytes(bytes(512) + first),
        lambda tar, first: tar.write_bytes(first.replace(b"a%2Ejpg", b"c%2Ejpg")),
        lambda tar, first: (tar.rename(tar.with_name("t")), tar.symlink_to(tar.with_name("t"))),
        lambda tar, first: (tar.unlink(), os.mkfifo(tar)),
        lambda tar, first: (tar.unlink(), tar.mkdir()),
    ],
    ids=["gone", "empty", "cut", "shifted", "moved", "renamed member", "link", "pipe", "folder"],
)
def test_a_tar_that_is_another_one_is_an_error_and_never_another_content(tmp_path, damage):
    (first, _), content = two_members(tmp_path)
    assert first.read() == b"first" * 200
    damage(tmp_path / TAR, content)
    with pytest.raises(ImageError, match=rf"The file '{tmp_path}/{TAR}/a%2Ejpg\.npy' cannot be read: "):
        first.read()


def test_a_member_is_found_at_its_own_place_alone(tmp_path):
    (first, second), _ = two_members(tmp_path)
    for changed in (
        StoredFile(first.output, first.path, TAR, first.member, second.offset, first.size),
        StoredFile(first.output, first.path, TAR, second.member, first.offset, first.size),
        StoredFile(first.output, first.path, TAR, first.member, first.offset, first.size - 1),
        StoredFile(first.output, first.path, TAR, first.member, 1 << 60, first.size),
        StoredFile(first.output, first.path, TAR, first.member, first.offset, 1 << 60),
        StoredFile(first.output, first.path, "../" + TAR, first.member, first.offset, first.size),
    ):
        with pytest.raises(ImageError):
            changed.read()


def test_a_tar_that_is_not_whole_is_read_where_it_is_written(tmp_path):
    (first, _), content = two_members(tmp_path)
    assert tar_size(tmp_path, TAR) == (len(content), True)
    (tmp_path / ".lrp").mkdir()
    (tmp_path / TAR).rename(tmp_path / ".lrp" / "open-1-of-1-000000.tar")
    assert first.read() == b"first" * 200 and tar_size(tmp_path, TAR) == (len(content), False)
    assert tar_size(tmp_path, "lrp-1-of-1-000001.tar") is None


@pytest.mark.parametrize(
    "name",
    [
        "lrp-1-of-1-1.tar",
        "lrp-1-of-1-0000001.tar",
        "lrp-0-of-1-000001.tar",
        "../lrp-1-of-1-000001.tar",
        "a.tar",
        "lrp-1-of-1-000001.tar\n",
        "lrp-1-of-1-00000\u0661.tar",
        "lrp-01-of-1-000001.tar",
        "",
    ],
)
def test_other_files_are_no_tar_shards(name):
    assert TarName.of(name) is None


def test_names_of_tar_shards_there_and_back():
    name = TarName("3-of-100000", 1234567)
    assert TarName.of(name.name) == name == TarName.of(name.open_name, open_=True)
    assert TarName.of(name.open_name) is TarName.of(name.name, open_=True) is None


PATHS = {"map": "cats/a.jpg.npy", "overlay": "cats/a.jpg.png"}
GOOD = {"tar": TAR, "key": "cats/a%2Ejpg", "places": {"map": [512, 10], "overlay": [1536, 600]}}


def test_where_files_are_packed_there_and_back():
    packed = Packed.from_json(Fields(GOOD), PATHS)
    assert packed.as_json() == GOOD and packed.end == 1536 + 1024
    assert packed.member(PATHS["map"]) == "cats/a%2Ejpg.npy"


@pytest.mark.parametrize(
    "change",
    [{"tar": "../" + TAR}, {"tar": "/etc/passwd"}, {"tar": ""}, {"tar": 3}, {"key": "dogs/a%2Ejpg"}, {"key": 1},
     {"key": "cats/a.jpg"}, {"key": {"bytes": "!"}}, {"places": {}}, {"places": []}, {"places": {"map": [512, 10]}},
     {"places": {"map": [512, 10], "heatmap": [1536, 600]}}, {"places": {"map": [0, 10], "overlay": [1536, 600]}},
     {"places": {"map": [-512, 10], "overlay": [1536, 600]}}, {"places": {"map": [513, 10], "overlay": [1536, 6]}},
     {"places": {"map": [512, -1], "overlay": [1536, 600]}}, {"places": {"map": [512], "overlay": [1536, 600]}},
     {"places": {"map": [512, 10, 1], "overlay": [1536, 6]}}, {"places": {"map": [True, 1], "overlay": [1536, 6]}},
     {"places": {"map": "512", "overlay": [1536, 600]}}],
    ids=str,
)  # fmt: skip
def test_a_journal_that_lies_about_where_files_are_is_refused(change):
    with pytest.raises(ValueError, match="."):
        Packed.from_json(Fields({**GOOD, **change}), PATHS)


@pytest.mark.parametrize("line", [{}, {"outputs": None}, {"outputs": None, "explanations": [{"outputs": None}]}])
def test_a_line_without_files_lies_in_no_tar_whatever_it_says_of_packs(tmp_path, line):
    fields = Fields({"pack": {"tar": TAR}, **line})
    assert status._size(fields, tmp_path) == 0 and not status._in_open_tar(fields, tmp_path)


def test_a_header_is_what_the_standard_library_writes():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("é" * 80 + ".npy")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    header = member_header("é" * 80 + ".npy", 3)
    assert buffer.getvalue().startswith(header + b"abc")


def ended_tar(output):
    """An open tar with one image of 1024 bytes that counts, and more behind it."""
    tar = OpenTar(output, TarName("1-of-1", 0), 0)
    tar.write(bytes(1024))
    tar.end = 1024
    tar.write(b"an image without a line" * 200)
    return tar


def test_a_tar_gets_its_name_once_all_of_it_has_reached_the_disk(tmp_path, monkeypatch):
    done, replace = [], os.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append(f"{os.fstat(file).st_size} bytes reached the disk"))
    monkeypatch.setattr(os, "replace", lambda *names, **folders: (done.append("named"), replace(*names, **folders)))
    with closing(ended_tar(tmp_path)) as tar:
        tar.commit()
    assert done == ["2048 bytes reached the disk", "named"]
    assert (tmp_path / "lrp-1-of-1-000000.tar").read_bytes() == bytes(2048)


@pytest.mark.parametrize(("number", "named"), [(errno.EIO, False), (errno.EINVAL, True)])
def test_a_tar_that_does_not_reach_the_disk_gets_no_name(tmp_path, monkeypatch, number, named):
    """EINVAL is what a file system says that knows nothing of it."""

    def fail(file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with closing(ended_tar(tmp_path)) as tar, nullcontext() if named else pytest.raises(OSError, match="Input/output"):
        tar.commit()
    assert (tmp_path / "lrp-1-of-1-000000.tar").exists() == named
