"""What somebody may have laid into an output folder is neither followed nor waited for, and ends no run."""

import io
import os
import resource
import signal
import socket
import time
import zipfile
from contextlib import closing

import numpy as np
import pytest

from lrpcli.errors import ImageError, LrpError, OutputError
from lrpcli.records import folder
from lrpcli.records.description import EVALUATE_FILES, EXPLAIN_FILES, RunDescription, read_description
from lrpcli.records.explained import Explained
from lrpcli.records.folder import FOLDER, leads_inside, open_regular
from lrpcli.records.index import Index
from lrpcli.records.journal import Journal
from lrpcli.records.resume import Resume
from lrpcli.records.status import read_status
from lrpcli.records.store import TEMPORARY, npz_bytes, remove_leftovers, write_whole

JOURNAL = EXPLAIN_FILES.journal("1-of-1")


def a_link(path, target):
    path.symlink_to(target)


def a_dangling_link(path, target):
    path.symlink_to(target.with_name("nowhere"))


def a_link_to_itself(path, target):
    path.symlink_to(path.name)


def a_pipe(path, target):
    os.mkfifo(path)


def a_folder(path, target):
    path.mkdir()


def a_socket(path, target):
    with closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(os.fspath(path))


LAID = [a_link, a_dangling_link, a_link_to_itself, a_pipe, a_folder, a_socket]


@pytest.fixture
def secret(tmp_path):
    path = tmp_path / "secret"
    path.write_text("nobody writes here\n")
    return path


def out_with(tmp_path, name, lay, secret):
    """A folder in which something lies where a file should be; the folder is short, as a socket's path must be."""
    os.chdir(tmp_path)
    (tmp_path / "out" / FOLDER).mkdir(parents=True)
    lay((tmp_path / "out" / FOLDER / name).relative_to(tmp_path), secret)
    return tmp_path / "out"


@pytest.fixture(autouse=True)
def back():
    before = os.getcwd()  # noqa: PTH109
    yield
    os.chdir(before)


@pytest.mark.parametrize("lay", LAID)
@pytest.mark.parametrize("files", [EXPLAIN_FILES, EVALUATE_FILES])
def test_what_is_no_regular_file_is_refused_as_a_journal(tmp_path, secret, lay, files):
    name = files.journal("1-of-1")
    out = out_with(tmp_path, name, lay, secret)
    for attempt in (
        lambda: Resume(out, files, Explained, "r", "1-of-1"),
        lambda: Journal(out, name),
        lambda: Index(out, files, "r"),
        lambda: read_status(out),
    ):
        with pytest.raises(OutputError, match=rf"'{name}' is a|Is a directory"):
            attempt()
    assert secret.read_text() == "nobody writes here\n" and not secret.with_name("nowhere").exists()


@pytest.mark.parametrize("lay", LAID)
def test_what_is_no_regular_file_is_refused_as_a_description(tmp_path, secret, lay):
    out = out_with(tmp_path, "run.json", lay, secret)
    with pytest.raises(OutputError, match="'run.json' is a"):
        read_description(out, EXPLAIN_FILES)
    description = RunDescription("net", None, {}, {}, "1")
    try:
        description.write(out, EXPLAIN_FILES)  # it replaces what is there, or says that it cannot
    except LrpError as error:
        assert lay is a_folder and isinstance(error, OutputError)
    else:
        assert read_description(out, EXPLAIN_FILES).model == "net"
    assert secret.read_text() == "nobody writes here\n"


@pytest.mark.parametrize("lay", [a_link, a_dangling_link, a_pipe, a_socket])
def test_the_folder_of_journals_is_a_folder_itself(tmp_path, lay):
    os.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "out").mkdir()
    lay((tmp_path / "out" / FOLDER).relative_to(tmp_path), elsewhere)
    out = tmp_path / "out"
    for attempt in (
        lambda: Journal(out, JOURNAL),
        lambda: EXPLAIN_FILES.journals_in(out),
        lambda: read_description(out, EXPLAIN_FILES),
        lambda: RunDescription("net", None, {}, {}, "1").write(out, EXPLAIN_FILES),
        lambda: read_status(out),
    ):
        with pytest.raises(OutputError):
            attempt()
    assert list(elsewhere.iterdir()) == [] and remove_leftovers(out, "1-of-1", FOLDER) == 0


def test_a_journal_with_a_second_name_is_read_and_not_written(tmp_path):
    """Copies made of hard links share their files: what one run wrote would be in both."""
    with Journal(tmp_path, JOURNAL) as journal:
        journal.append({"type": "start", "name": "a", "time": 1})
    os.link(tmp_path / FOLDER / JOURNAL, tmp_path / "copy")
    with pytest.raises(OutputError, match="has another name elsewhere"):
        Journal(tmp_path, JOURNAL)
    with closing(Index(tmp_path, EXPLAIN_FILES, "r")) as index:
        assert index.of("a") is not None


@pytest.mark.parametrize("inner", ["cats", "cats/big", "cats/big/../small"])
def test_no_folder_between_output_and_a_file_is_a_link(tmp_path, inner):
    (tmp_path / "home").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / "cats").symlink_to("../home", target_is_directory=True)
    with pytest.raises(ImageError, match="link|leads out") as caught:
        write_whole(out / inner / "a.png", b"data", root=out)
    assert caught.value.kind == "io" and list((tmp_path / "home").iterdir()) == []
    leftover = tmp_path / "home" / TEMPORARY.format(owner="1", unique="0" * 16)
    leftover.touch()
    assert remove_leftovers(out, "1", "cats") == 0 and leftover.exists()


def test_output_itself_may_be_a_link_and_so_may_what_lay_at_a_files_name(tmp_path, secret):
    (tmp_path / "disk").mkdir()
    out = tmp_path / "out"
    out.symlink_to("disk", target_is_directory=True)
    (tmp_path / "disk" / "a.png").symlink_to(secret)
    write_whole(out / "a.png", b"data", root=out)
    write_whole(out / "cats" / "b.png", b"data", root=out)
    assert (tmp_path / "disk" / "cats" / "b.png").read_bytes() == b"data"
    assert secret.read_text() == "nobody writes here\n" and not (tmp_path / "disk" / "a.png").is_symlink()


NAMES = ["x" * 256 + "/a.png", "d/" * 3000 + "a.png", "x" * 5000, "a\0b/c.png", "../../a.png", "/etc/a.png", "", ".",
         "..", "a/../../../b.png", "a//b", "/", "caf\udce9/a.png", "file/a.png", "loop/a.png"]  # fmt: skip


@pytest.mark.parametrize("files", [EXPLAIN_FILES, EVALUATE_FILES])
def test_no_name_in_a_journal_leads_out_of_output_or_ends_a_run(tmp_path, files):
    out = tmp_path / "deep" / "out"
    around = [folder / TEMPORARY.format(owner=files.owner("1-of-1"), unique="0" * 16)
              for folder in (tmp_path, tmp_path / "deep", out / "d", out)]  # fmt: skip
    with Journal(out, files.journal("1-of-1")) as journal:
        for name in NAMES:
            journal.append({"type": "start", "name": name, "time": 1})
    for path in around:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (out / "file").touch()
    (out / "loop").symlink_to("loop")
    with Resume(out, files, Explained, "r", "1-of-1") as resume:
        needs = [resume.look(f"in/{name}", name) for name in NAMES]
    assert len(needs) == len(NAMES)
    assert [path.exists() for path in around] == [True, True, True, False]
    assert remove_leftovers(out, "1-of-1", "x" * 300) == 0


@pytest.mark.parametrize("lay", [a_link, a_pipe])
def test_what_is_laid_at_a_name_while_it_is_opened_is_neither_followed_nor_waited_for(tmp_path, monkeypatch, lay):
    """Between the look at a file and its opening."""
    (tmp_path / "secret").write_text("theirs")
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "name"
    path.touch()
    require = folder._require_regular

    def lay_it(status, name):
        require(status, name)
        path.unlink()
        lay(path, tmp_path / "secret")
        monkeypatch.setattr(folder, "_require_regular", require)

    def waited(*_):
        raise TimeoutError

    monkeypatch.setattr(folder, "_require_regular", lay_it)
    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(60)
    try:
        with pytest.raises(OSError, match="link|symbolic|pipe"):
            os.close(open_regular(tmp_path / "out", "", "name", os.O_RDONLY))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_which_paths_stay_inside():
    assert [leads_inside(path) for path in ("a", "a/b", "a..b/..c", "./a", "caf\udce9")] == [True] * 5
    assert [leads_inside(path) for path in ("", "/a", "..", "a/../b", "a/..", "a\0")] == [False] * 6


def test_a_process_that_may_open_few_files_reads_thousands_of_journals(tmp_path):
    count = 2000
    for number in range(count):
        with Journal(tmp_path, f"journal-{number + 1}-of-{count}.jsonl") as journal:
            journal.append({"type": "run", "part": [number + 1, count], "images": count, "share": 1, "run": "r",
                            "time": 1})  # fmt: skip
            journal.append({"type": "done", "name": f"{number}.png", "status": "ok", "time": 2, "run": "r"})
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = len(os.listdir("/proc/self/fd" if os.path.exists("/proc/self/fd") else "/dev/fd"))  # noqa: PTH110, PTH208
    resource.setrlimit(resource.RLIMIT_NOFILE, (held + 32, before[1]))
    try:
        with Resume(tmp_path, EXPLAIN_FILES, Explained, "r", f"1-of-{count}") as resume:
            assert all(resume._index.of(f"{number}.png") for number in range(0, count, 7))
        assert read_status(tmp_path).done == count
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_same_arrays_are_the_same_archive_at_any_time(monkeypatch):
    arrays = {"conv1": np.arange(6.0), "pool/1": np.ones((2, 3), np.float16)}
    first = npz_bytes(arrays)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    monkeypatch.setattr(time, "localtime", lambda *when: time.gmtime(2e9))
    assert npz_bytes(arrays) == first
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 & 0o777 for entry in archive.infolist()} == {0o644}
