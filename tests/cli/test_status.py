"""lrp status: counts, names, rate, time left and disk, once or until a run ends."""

import fcntl
import json
import os
import signal
import subprocess
import termios
import threading
from contextlib import contextmanager

import pytest

from lrpcli.cli import status as status_command
from lrpcli.cli.quantities import duration, size
from lrpcli.records.journal import Journal
from lrpcli.records.status import StatusReader, read_status
from tests.cli.terminals import on_terminal, read_all
from tests.photos import folder_of_photos
from tests.records.results import begin, describe, explained, failed, start, write
from tests.resilience.runs import command, environment, explain, lrp, process, started, wait_for

JOURNAL = "journal-1-of-1.jsonl"


def status(output, *options):
    done = lrp("status", output, "--json", *options)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def held(output, name=JOURNAL):
    """As long as it lasts a run is at work, as far as anybody can tell."""
    with (output / ".lrp" / name).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def files_of(output, *names):
    for name in names:
        for ending in (".281.png", ".281.npy"):
            (output / f"{name}{ending}").write_bytes(b"x" * 5000)


def test_the_first_failed_images_are_named_with_their_kinds(tmp_path):
    describe(tmp_path)
    names = [f"{number}.jpg" for number in range(8)]
    write(tmp_path, begin(9), *(failed(name, "timeout" if name == "1.jpg" else "decode") for name in names))
    lines = lrp("status", tmp_path).stdout.splitlines()
    place = lines.index("Failed:")
    assert lines[place + 1 : place + 4] == ["  decode   in/0.jpg", "  timeout  in/1.jpg", "  decode   in/2.jpg"]
    assert lines[-1] == f"  and 3 more: lrp status {tmp_path} --failed"
    assert "failed   8  (7 decode, 1 timeout)" in lines


def test_all_failed_images_one_path_a_line_as_its_bytes(tmp_path):
    describe(tmp_path)
    names = ["a.jpg", os.fsdecode(b"caf\xe9.jpg"), "two\nlines.jpg", "猫.jpg"]
    write(tmp_path, begin(5), *(failed(name) for name in names), explained("fine.jpg"))
    piped = process("status", tmp_path, "--failed")
    assert piped.stdout == b"".join(b"in/" + os.fsencode(name) + b"\n" for name in names)
    null = process("status", tmp_path, "--failed", "--print0")
    assert null.stdout == b"".join(b"in/" + os.fsencode(name) + b"\0" for name in names)
    failures = status(tmp_path, "--failed")["failures"]
    assert failures[0] == {"input": "in/a.jpg", "error": {"kind": "decode", "message": "It cannot be decoded."}}
    assert "failures" not in status(tmp_path)


def test_failed_images_on_a_terminal_have_their_kinds_and_no_escapes(tmp_path, monkeypatch):
    describe(tmp_path)
    write(tmp_path, begin(2), failed("a\x1b[2J.jpg"), failed("b.jpg", "timeout"))
    monkeypatch.setattr(status_command, "on_terminal", lambda: True)
    assert lrp("status", tmp_path, "--failed").stdout.splitlines() == [
        "decode   in/a\\x1b[2J.jpg", "timeout  in/b.jpg"]  # fmt: skip


def test_images_whose_name_belongs_to_another_are_named_too(tmp_path):
    source = tmp_path / "in"
    folder_of_photos(source, 1)
    folder_of_photos(tmp_path / "other", 1)
    (tmp_path / "other" / "0.png").write_bytes((source / "0.png").read_bytes() + b"more")
    explain(source / "0.png", tmp_path / "out")
    assert explain(tmp_path / "other" / "0.png", tmp_path / "out").returncode == 1
    assert lrp("status", tmp_path / "out", "--failed").stdout == f"{tmp_path}/other/0.png\n"
    assert status(tmp_path / "out")["errors"] == {"clash": 1}


def test_the_list_of_failed_images_is_one_to_try_again(tmp_path):
    source = folder_of_photos(tmp_path / "in", 1)
    (source / "bad.png").write_bytes(b"x")
    explain(source, tmp_path / "out")
    listed = lrp("status", tmp_path / "out", "--failed", "--print0").stdout_bytes
    (tmp_path / "list").write_bytes(listed)
    again = explain("-0", "--files-from", tmp_path / "list", tmp_path / "again")
    assert again.returncode == 1 and b"1 image: 0 explained, 1 failed" in again.stderr


def test_rate_and_time_left_are_those_of_the_journal(tmp_path):
    """30 of 90 images in 10 seconds, when a run of twice as many images was twice as fast before."""
    describe(tmp_path)
    write(tmp_path, begin(180), start("x"), *(explained(f"{number}") for number in range(60)), time=5.0)
    journal = [begin(90), start("0"), {"type": "skip", "name": "59"}]
    write(tmp_path, *journal, time=1000.0)
    for number in range(30):
        write(tmp_path, explained(str(number)), time=1001 + (number + 1) / 3)
    idle = status(tmp_path)
    assert idle["rate"] == pytest.approx(3, rel=1e-3) and idle["seconds_left"] is None and not idle["running"]
    with held(tmp_path):
        running = status(tmp_path)
        assert running["running"] and running["rate"] == pytest.approx(3, rel=1e-3)
        assert running["seconds_left"] == pytest.approx((90 - 31) / 3, rel=1e-3)
        assert "left     about 20 s" in lrp("status", tmp_path).stdout


def test_of_several_shards_the_rates_of_those_at_work_add_up_and_the_last_counts(tmp_path):
    describe(tmp_path)
    for number, seconds in ((1, 1.0), (2, 2.0), (3, 0.1)):
        name = f"journal-{number}-of-3.jsonl"
        write(tmp_path, begin(30, number, 3, 10), start("x"), journal=name, time=99.0)
        for image in range(4):
            write(tmp_path, explained(f"{number}-{image}"), journal=name, time=100 + (image + 1) * seconds)
    with held(tmp_path, "journal-1-of-3.jsonl"), held(tmp_path, "journal-2-of-3.jsonl"):
        known = status(tmp_path)
    assert known["rate"] == pytest.approx(1 + 0.5) and known["seconds_left"] == pytest.approx(12)
    assert [shard["running"] for _, shard in sorted(known["journals"].items())] == [True, True, False]


def test_shards_one_after_another_are_no_faster_than_one(tmp_path):
    describe(tmp_path)
    for number, begun in ((1, 100.0), (2, 110.0), (3, 5000.0), (4, 5005.0)):  # the last two side by side for a while
        name = f"journal-{number}-of-4.jsonl"
        write(tmp_path, begin(40, number, 4, 10), start("x"), journal=name, time=begun)
        for image in range(10):
            write(tmp_path, explained(f"{number}-{image}"), journal=name, time=begun + image + 1)
    assert status(tmp_path)["rate"] == pytest.approx(40 / (9 + 9 + 14))  # from the first image on


def test_images_that_were_divided_otherwise_count_too(tmp_path):
    describe(tmp_path)
    files_of(tmp_path, *"abcd")
    write(tmp_path, begin(6), explained("a"), explained("b"), failed("e"), time=1.0)
    name = "journal-1-of-3.jsonl"
    write(tmp_path, begin(6, 1, 3, 2), {"type": "skip", "name": "a"}, explained("d"), journal=name, time=2.0)
    write(tmp_path, begin(9, 1, 2, 5), explained("c"), journal="journal-1-of-2.jsonl", time=0.5)  # of other images
    known = status(tmp_path)
    assert (known["images"], known["done"], known["failed"], known["missing"]) == (6, 3, 1, 2)
    assert list(known["journals"]) == ["1-of-3"] and not known["running"]
    assert lrp("status", tmp_path, "--failed").stdout == "in/e\n"
    with held(tmp_path):
        assert status(tmp_path)["running"]
        assert "also at work: 1-of-1, whose images are divided otherwise: 3 of 6" in lrp("status", tmp_path).stdout


def test_watching_waits_for_the_next_shard(tmp_path, monkeypatch):
    describe(tmp_path)
    files_of(tmp_path, *"ab")
    write(tmp_path, begin(2, 1, 2, 1), explained("a"), journal="journal-1-of-2.jsonl", time=1.0)
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 3:
            write(tmp_path, begin(2, 2, 2, 1), explained("b"), journal="journal-2-of-2.jsonl", time=2.0)

    monkeypatch.setattr(status_command.time, "sleep", sleep)
    done = lrp("status", tmp_path, "--watch", "--json")
    assert [json.loads(line)["done"] for line in done.stdout.splitlines()] == [1, 1, 1, 2]
    write(tmp_path, begin(3, 1, 3, 1), journal="journal-1-of-3.jsonl", time=3.0)
    looks.extend([0] * 9)
    done = lrp("status", tmp_path, "--watch", "--json")
    assert len(done.stdout.splitlines()) == status_command.PATIENCE + 1  # nobody comes


def test_a_clock_that_jumped_back_gives_no_rate(tmp_path):
    describe(tmp_path)
    write(tmp_path, begin(3), start("a"), time=1000.0)
    write(tmp_path, explained("a"), time=10.0)
    known = status(tmp_path)
    assert known["rate"] is None and "rate" not in lrp("status", tmp_path).stdout


def test_disk_is_what_du_says(tmp_path):
    describe(tmp_path)
    files_of(tmp_path, "a", "b", "of-another-image")
    write(tmp_path, begin(3), explained("a"), explained("b"), failed("c"))
    counted = subprocess.run(["du", "-B1", "-c", *(str(path) for path in tmp_path.glob("[ab].*"))], capture_output=True,
                             text=True, check=True)  # fmt: skip
    assert status(tmp_path)["disk"] == int(counted.stdout.splitlines()[-1].split()[0]) > 4 * 5000


def test_files_that_are_gone_are_missing_and_take_no_room(tmp_path):
    describe(tmp_path)
    files_of(tmp_path, "a")
    write(tmp_path, begin(2), explained("a"), explained("b"))
    known = status(tmp_path)
    assert (known["done"], known["missing"]) == (1, 1) and known["disk"] > 0


def test_following_a_journal_finds_what_reading_it_again_would(tmp_path):
    describe(tmp_path)
    files_of(tmp_path, *"abcd")
    write(tmp_path, begin(6), start("a"), explained("a"), failed("b"), time=1.0)
    with StatusReader(tmp_path) as reader:
        assert reader.follow() and reader.status == read_status(tmp_path)
        write(
            tmp_path,
            {"type": "skip", "name": "c"},
            explained("d"),
            failed("e", "timeout"),
            failed("f", "clash"),
            time=9.0,
        )
        with (tmp_path / ".lrp" / JOURNAL).open("ab") as torn:
            torn.write(b'{"type": "done", "name": "x", "sta')
        assert reader.follow()
        again = read_status(tmp_path)
        assert reader.status == again and again.errors == {"decode": 1, "timeout": 1, "clash": 1}
        assert [image.path for image in reader.failed_images()] == ["in/b", "in/e", "in/f"]
        write(tmp_path, begin(2), time=20.0)
        assert not reader.follow(), "a run has begun, and all is to be read again"


def test_a_new_shard_is_noticed(tmp_path):
    describe(tmp_path)
    write(tmp_path, begin(2, 1, 2, 1), journal="journal-1-of-2.jsonl")
    with StatusReader(tmp_path) as reader:
        assert reader.follow()
        write(tmp_path, begin(2, 2, 2, 1), journal="journal-2-of-2.jsonl")
        assert not reader.follow()


def test_a_run_begins_also_while_somebody_looks_whether_one_does(tmp_path):
    describe(tmp_path)
    write(tmp_path, begin(1))
    looked = held(tmp_path)
    looked.__enter__()
    timer = threading.Timer(0.05, looked.__exit__, (None, None, None))
    timer.start()
    Journal(tmp_path, JOURNAL, alone=True).close()
    timer.join()


def test_watching_shows_the_status_until_no_run_is_at_work(tmp_path, monkeypatch):
    describe(tmp_path)
    files_of(tmp_path, *"ab")
    write(tmp_path, begin(2), start("a"), explained("a"))
    run = held(tmp_path)
    run.__enter__()
    looks = []

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            write(tmp_path, explained("b"))
            run.__exit__(None, None, None)

    monkeypatch.setattr(status_command.time, "sleep", sleep)
    done = lrp("status", tmp_path, "--watch", "--json")
    shown = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["done"], one["running"]) for one in shown] == [(1, True), (1, True), (2, False)] and looks == [
        2.0,
        2.0,
    ]
    once = lrp("status", tmp_path, "--watch")
    assert once.exit_code == 0 and once.stdout.count("images ") == 1


@pytest.mark.slow
def test_watching_on_a_terminal_ends_with_the_run(tmp_path):
    source = folder_of_photos(tmp_path / "in", 5)
    with started(source, tmp_path / "out", "-b", "1") as run:
        wait_for((tmp_path / "out" / ".lrp" / JOURNAL).exists)
        shown = on_terminal("status", tmp_path / "out", "--watch", columns=60)
        run.communicate()
    assert shown.code == 0 and "done     5" in shown.text


def test_ctrl_c_ends_watching_by_its_signal_and_without_a_word(tmp_path):
    describe(tmp_path)
    write(tmp_path, begin(2), start("a"))
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (40, 80))
    with held(tmp_path):
        line = command("status", tmp_path, "--watch")
        with subprocess.Popen(line, stdout=follower, stderr=follower, env=environment(TERM="xterm")) as running:
            os.close(follower)
            shown = b""
            while b"missing" not in shown:
                shown += os.read(leader, 4096)
            running.send_signal(signal.SIGINT)
            shown += read_all(leader)
    assert running.returncode == -signal.SIGINT and b"Traceback" not in shown and b"Error" not in shown


@pytest.mark.parametrize("options", [("--print0",), ("--failed", "--watch")], ids=" ".join)
def test_options_that_do_not_go_together(tmp_path, options):
    done = lrp("status", tmp_path, *options)
    assert done.exit_code == 2 and "--failed" in done.stderr


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (999_940, "999.9 kB"), (999_960, "1.0 MB"),
     (85_300_000_000, "85.3 GB"), (3e18, "3000.0 PB")],
)  # fmt: skip
def test_sizes_for_people(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.6, "1 min"), (61, "1 min 1 s"), (3600, "1 h"), (86400 * 3 + 7200 + 5, "3 d 2 h")],
)
def test_times_for_people(seconds, text):
    assert duration(seconds) == text
