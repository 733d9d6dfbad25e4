"""Decoders that hang, die and chatter: the image fails, its neighbours do not."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.photos import photo
from tests.resilience.runs import (
    environment,
    explain,
    hostile_decoder,
    journal,
    killed,
    rows,
    started,
    wait_for,
)


@pytest.mark.slow
def test_a_hanging_and_a_dying_decoder_cost_their_own_images_alone(tmp_path):
    env = environment(path=[hostile_decoder(tmp_path / "code")], MARKER=str(tmp_path / "marker"))
    for number, name in enumerate(["a", "b", "hang", "k", "noisy", "once", "segfault", "x", "y", "z"]):
        photo(tmp_path / "in" / f"{name}.png", number)
    result = explain(tmp_path / "in", tmp_path / "out", "--json", "--timeout", "7.5", "-j", "2", "-b", "4", env=env)
    assert result.returncode == 1, result.stderr
    *images, summary = rows(result)
    assert [row["status"] for row in images] == ["ok"] * 2 + ["failed"] + ["ok"] * 3 + ["failed"] + ["ok"] * 3
    hang, dead = images[2]["error"], images[6]["error"]
    assert hang["kind"] == "timeout"
    assert (
        "hang.png' took more than 7.5 s to decode and was given up. The decoder wrote: about to hang. If it"
        in (hang["message"])
    )
    assert dead["kind"] == "crashed"
    assert (
        "segfault.png' ended the process that decoded it, 2 times: SIGSEGV. The decoder wrote: about to \\x1b[31mdie"
        in (dead["message"])
    )
    assert summary["errors"] == {"crashed": 1, "timeout": 1}
    assert b"\x1b" not in result.stderr and b"Traceback" not in result.stderr
    notes = {row["name"]: row.get("note") for row in journal(tmp_path / "out") if row["type"] == "done"}
    assert notes["noisy.png"] == "libfake: odd \\x1b[2Jtag" and notes["once.png"] is None


def test_what_libtiff_writes_is_part_of_the_message(tmp_path):
    path = photo(tmp_path / "in" / "broken.tif")
    with Image.open(path) as image:
        image.save(path, compression="tiff_lzw")
    content = bytearray(path.read_bytes())
    content[8:200] = b"\xff" * 192
    path.write_bytes(content)
    result = explain(path, tmp_path / "out", "--json")
    message = rows(result)[0]["error"]["message"]
    assert result.returncode == 1 and "The decoder wrote: " in message and "not yet in table" in message, message
    # Only our own line: the library's text went into the message, not to the terminal.
    assert [line[:7] for line in result.stderr.splitlines()[:1]] == [b"decode:"]


def test_a_crashed_image_is_tried_again_by_the_next_run(tmp_path):
    path = photo(tmp_path / "in" / "segfault.png")
    hostile = environment(path=[hostile_decoder(tmp_path / "code")])
    assert json.loads(explain(path, tmp_path / "out", "--json", env=hostile).stdout.splitlines()[0])["error"][
        "kind"
    ] == ("crashed")
    assert rows(explain(path, tmp_path / "out", "--json"))[0]["status"] == "ok"


def test_an_image_that_takes_20_gb_to_decode_is_too_large_and_its_neighbours_are_done(tmp_path):
    env = environment(path=[hostile_decoder(tmp_path / "code")])
    for number, name in enumerate(["a", "greedy", "z"]):
        photo(tmp_path / "in" / f"{name}.png", number)
    result = explain(tmp_path / "in", tmp_path / "out", "--json", "-j", "1", env=env)
    *images, summary = rows(result)
    assert result.returncode == 1 and [row["status"] for row in images] == ["ok", "failed", "ok"]
    assert images[1]["error"]["kind"] == "too_large" and "needs more memory than" in images[1]["error"]["message"]
    assert summary["errors"] == {"too_large": 1}


@pytest.mark.slow
@pytest.mark.parametrize("timeout", ["0", "500"])
@pytest.mark.parametrize("name", ["hang.png", "slow.png"])
def test_a_decoder_at_work_ends_when_its_run_is_killed(tmp_path, timeout, name):
    """Neither one that computes nor one that sleeps is left, whether or not it has a time limit."""
    env = environment(path=[hostile_decoder(tmp_path / "code")], SLOW="1000", TOUCH=str(tmp_path / "begun"))
    photo(tmp_path / "in" / name)
    running = started(tmp_path / "in", tmp_path / "out", "--timeout", timeout, "-j", "2", env=env)
    wait_for((tmp_path / "begun").exists)
    children = [Path(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if parent(path) == running.pid]
    assert children
    killed(running)
    wait_for(lambda: not any(parent(Path("/proc", child, "stat")) for child in children))


def parent(stat):
    """The parent of a process that is no zombie, by its /proc/PID/stat; 0 if it is gone."""
    try:
        state, number = stat.read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return 0
    return 0 if state == "Z" else int(number)
