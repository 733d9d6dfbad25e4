"""A second run: what is skipped, what is done again, and when it is refused."""

import contextlib
import json
import os
import signal

import pytest

from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from tests.photos import folder_of_photos, photo
from tests.resilience.kill_rounds import lines_so_far, rounds
from tests.resilience.runs import (
    TINY_OPTIONS,
    environment,
    explain,
    hostile_decoder,
    hostile_writer,
    journal,
    killed,
    leftovers,
    process,
    require_whole,
    rows,
    started,
    tree,
    wait_for,
)


def statuses(result):
    return {os.path.basename(row["input"]): row["status"] for row in rows(result) if row["type"] == "image"}  # noqa: PTH119


def test_finished_images_are_skipped_and_failed_and_changed_ones_done_again(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 4), tmp_path / "out"
    (source / "bad.png").write_bytes(b"no image")
    first = explain(source, out, "--json")
    assert first.returncode == 1 and "failed" in statuses(first).values()
    before = tree(out)
    photo(source / "bad.png", 9)
    photo(source / "new.png", 10)
    os.utime(source / "0.png", ns=(1, 1))
    (out / "2.png.npy").unlink()
    second = explain(source, out, "--json")
    assert second.returncode == 0
    assert statuses(second) == {
        "0.png": "skipped", "2.png": "ok", "bad.png": "ok", "1.png": "skipped", "3.png": "skipped", "new.png": "ok",
    }  # fmt: skip
    assert {name: tree(out)[name] for name in before} == before
    skipped = next(row for row in rows(second) if row.get("status") == "skipped")
    original = next(row for row in rows(first) if row.get("input") == skipped["input"])
    assert skipped == {**original, "status": "skipped"}
    assert b"6 images: 3 explained, 3 already done" in second.stderr
    third = explain(source, out)
    assert third.returncode == 0 and len(third.stdout.splitlines()) == 6


@pytest.mark.slow
@pytest.mark.parametrize("command", [("explain", "-", "out"), ("evaluate", "-", "-o", "out", "--steps", "2")])
def test_standard_input_is_never_taken_for_a_file_called_dash(tmp_path, command):
    """Its state would say that the image is the one of the last run, whatever comes in this time."""
    photo(tmp_path / "dash.png", 1).rename(tmp_path / "-")
    for seed, statuses in ((2, ["ok"]), (3, ["failed"])):
        content = photo(tmp_path / "in.png", seed).read_bytes()
        result = process(command[0], *TINY_OPTIONS, *command[1:], "--json", cwd=tmp_path, input=content)
        assert [row["status"] for row in rows(result)[:-1]] == statuses, result.stderr
    assert b"clash: " in result.stderr


def test_an_output_folder_may_be_moved_and_the_inputs_called_otherwise(tmp_path):
    source = folder_of_photos(tmp_path / "in", 2)
    explain(source, tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "moved")
    with contextlib.chdir(tmp_path):
        result = explain("in", "moved", "--json")
    assert set(statuses(result).values()) == {"skipped"}
    assert rows(result)[0]["outputs"]["overlay"] == "moved/0.png.png" and rows(result)[0]["input"] == "in/0.png"


def test_other_settings_are_refused_with_what_differs_and_forced_with_force(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 2), tmp_path / "out"
    explain(source, out)
    before = tree(out)
    other = explain(source, out, "--config", "epsilon", "--cmap", "seismic")
    assert other.returncode == 2 and tree(out) == before
    text = other.stderr.decode()
    assert f'explain.config was "{DEFAULT_CONFIG}" and is now "epsilon"' in text and "--force" in text
    assert "rules." not in text
    assert 'output.picture.cmap was "bwr" and is now "seismic"' in text or "more" in text
    forced = explain(source, out, "--config", "epsilon", "--force", "--json")
    assert forced.returncode == 0 and set(statuses(forced).values()) == {"ok"}
    assert tree(out)["0.png.npy"] != before["0.png.npy"]
    assert set(statuses(explain(source, out, "--config", "epsilon", "--json")).values()) == {"skipped"}
    assert set(statuses(explain(source, out, "--config", "epsilon", "--json", "--force")).values()) == {"ok"}


def test_a_forced_run_that_was_killed_mixes_nothing(tmp_path):
    """Results of other settings do not count, even after run.json has been replaced."""
    source, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    explain(source, out)
    description = json.loads((out / ".lrp" / "run.json").read_text())
    explain(source, tmp_path / "other", "--lrn", "identity")
    (out / ".lrp" / "run.json").write_bytes((tmp_path / "other" / ".lrp" / "run.json").read_bytes())
    assert description != json.loads((out / ".lrp" / "run.json").read_text())
    result = explain(source, out, "--lrn", "identity", "--json")
    assert set(statuses(result).values()) == {"ok"} and tree(out) == tree(tmp_path / "other")


def test_damaged_journals_and_descriptions(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 2), tmp_path / "out"
    explain(source, out)
    path = out / ".lrp" / "journal-1-of-1.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    garbage = [b"[" * 100_000 + b"\n", b'{"type": "done", "name": {"bytes": 5}}\n', b"\xff\xfe\n", b"[]\n", b"7\n"]
    path.write_bytes(b"".join([*garbage, *lines[:-1], lines[-1][:40]]))
    assert sorted(statuses(explain(source, out, "--json")).values()) == ["ok", "skipped"]
    assert set(statuses(explain(source, out, "--json")).values()) == {"skipped"}
    (out / ".lrp" / "run.json").write_text("{")
    result = explain(source, out)
    assert result.returncode == 2 and b"is damaged" in result.stderr and b"--force" in result.stderr


def test_one_scale_for_all_redraws_when_a_new_image_changes_it(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    explain(source, out, "--scale", "run")
    assert set(statuses(explain(source, out, "--scale", "run", "--json")).values()) == {"skipped"}
    largest = max((row for row in journal(out) if row.get("type") == "done"), key=lambda row: row["relevance"]["max"])
    (source / largest["name"]).unlink()
    assert set(statuses(explain(source, out, "--scale", "run", "--json")).values()) <= {"ok", "skipped"}
    result = explain(source, out, "--scale", "run", "--shard", "1/2")
    assert result.returncode == 2 and b"--scale run" in result.stderr


def test_fail_fast_stops_at_the_first_failure_and_the_rest_is_no_suspect(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 12), tmp_path / "out"
    (source / "00bad.png").write_bytes(b"no image")
    result = explain(source, out, "--fail-fast", "--json", "-b", "2")
    assert result.returncode == 1 and len(rows(result)) == 3  # 0.png, 00bad.png and the summary
    assert b"11 left" in result.stderr
    last = {row["name"]: row["type"] for row in journal(out) if "name" in row}
    assert last["00bad.png"] == "done" and set(last.values()) == {"done", "drop"}


@pytest.mark.slow
def test_temporary_files_of_a_killed_run_go_and_those_of_others_stay(tmp_path):
    env = environment(path=[hostile_writer(tmp_path / "code")])
    source, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    photo(source / "stuck.png", 7)
    process = started(source, out, "-b", "1", env=env)
    wait_for(lambda: out.exists() and list(out.glob(".lrp-*.tmp")) and (out / "0.png.png").exists())
    killed(process)
    other, unlike = out / ".lrp-2-of-3-0123456789abcdef.tmp", out / ".lrp-notes.tmp"
    for path in (other, unlike):
        path.write_bytes(b"half")
    result = explain(source, out, "--json", "-b", "1")
    assert result.returncode == 0, result.stderr
    assert [path.name for path in sorted(leftovers(out))] == sorted([other.name, unlike.name])
    other.unlink(), unlike.unlink()
    require_whole(out)


@pytest.mark.slow
def test_what_a_killed_run_only_decoded_is_no_suspect(tmp_path):
    env = environment(path=[hostile_decoder(tmp_path / "code")], SLOW="1000")
    source, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    photo(source / "slow.png", 7)
    for _ in range(2):
        process = started(source, out, "-b", "1", env=env)
        wait_for(lambda: any(row["type"] == "done" and row["name"] == "cats/1.png" for row in lines_so_far(out)))
        killed(process)
    assert not any(row.get("name") == "slow.png" for row in journal(out))


@pytest.mark.slow
def test_an_image_that_kills_every_run_while_it_is_written_is_crashed_and_the_others_are_done(tmp_path):
    env = environment(path=[hostile_writer(tmp_path / "code")])
    source, out = folder_of_photos(tmp_path / "in", 5), tmp_path / "out"
    photo(source / "deadly.png", 7)
    codes = [process("explain", *TINY_OPTIONS, source, out, "-b", "64", env=env).returncode for _ in range(6)]
    assert codes == [-signal.SIGKILL] * 5 + [1]
    found = statuses(process("explain", *TINY_OPTIONS, source, out, "-b", "64", "--json"))
    assert found.pop("deadly.png") == "ok" and set(found.values()) == {"skipped"}
    require_whole(out)


def test_an_image_that_ends_three_runs_alone_is_passed_over_and_its_neighbours_are_done(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    explain(source, out)
    path = out / ".lrp" / "journal-1-of-1.jsonl"
    run = journal(out)[0]["run"]
    for alone in (False, False, True, True, True):
        line = {"type": "start", "name": "2.png", "run": run, "time": 9e9, **({"alone": True} if alone else {})}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
    result = explain(source, out, "--json")
    found = {row["name"] if "name" in row else os.path.basename(row["input"]): row for row in rows(result)[:-1]}  # noqa: PTH119
    assert found["2.png"]["error"]["kind"] == "crashed"
    assert "was tried alone by 3 runs, and each of them was ended" in found["2.png"]["error"]["message"]
    assert [found[name]["status"] for name in ("0.png", "1.png")] == ["skipped"] * 2


@pytest.mark.slow
def test_two_runs_on_one_shard_at_once_are_refused(tmp_path):
    env = environment(path=[hostile_decoder(tmp_path / "code")], SLOW="1000")
    source, out = folder_of_photos(tmp_path / "in", 1), tmp_path / "out"
    photo(source / "slow.png", 7)
    process = started(source, out, "-b", "1", env=env)
    try:
        wait_for((out / "0.png.png").exists)
        second = explain(source, out)
        assert second.returncode == 2 and b"Another run is at work" in second.stderr
        beside = explain(source, out, "--shard", "1/2", "--json")
        assert beside.returncode == 0, beside.stderr
    finally:
        killed(process)


@pytest.mark.slow
def test_three_rounds_of_sigkill_then_a_rerun_equal_an_undisturbed_run(tmp_path):
    report = rounds(tmp_path, count=3, images=40, batch="4")
    assert report["killed"] == 3 and report["twice"] == 0 and report["complete"] and report["equal"], report
