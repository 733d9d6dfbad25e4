"""Evaluations under hostile decoders, kills, forced restarts and company: the numbers of an undisturbed run."""

import json
import signal
import subprocess

import pytest

from tests.photos import folder_of_photos, photo
from tests.resilience.kill_rounds import evaluation_rounds
from tests.resilience.runs import (
    TINY_OPTIONS,
    command,
    environment,
    hostile_decoder,
    killed,
    lrp,
    process,
    rows,
    wait_for,
)

OPTIONS = (*TINY_OPTIONS, "--region", "8", "--steps", "12", "--config", "epsilon", "--config", "beta-1")


def evaluate(*arguments, env=None, options=OPTIONS):
    result = lrp("evaluate", *options, *arguments, env=env)
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout_bytes, result.stderr_bytes)


def started(*arguments, env=None, options=OPTIONS):
    line = command("evaluate", *options, *map(str, arguments))
    return subprocess.Popen(line, env=env or environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def results(folder):
    return json.loads((folder / "results.json").read_text())


def lines(out, name="evaluate-1-of-1.jsonl"):
    try:
        content = (out / ".lrp" / name).read_bytes()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in content.splitlines() if line.endswith(b"}") and line.startswith(b"{")]


def done(out):
    return [line["name"] for line in lines(out) if line["type"] == "done"]


def numbers(out):
    """Everything of results.json: means, curves and intervals, in full."""
    return {key: value for key, value in results(out).items() if key != "settings"}


@pytest.mark.slow
def test_a_dying_a_hanging_and_a_truncated_image_cost_their_own_rows_alone(tmp_path):
    env = environment(path=[hostile_decoder(tmp_path / "code")], MARKER=str(tmp_path / "marker"))
    source = tmp_path / "in"
    for number, name in enumerate(["a", "b", "hang", "k", "once", "segfault", "x"]):
        photo(source / f"{name}.png", number)
    (source / "cut.png").write_bytes((source / "a.png").read_bytes()[:300])
    result = evaluate(source, "-o", tmp_path / "out", "--json", "--timeout", "7.5", "-j", "2", env=env)
    assert result.returncode == 1, result.stderr
    *images, summary = rows(result)
    found = {row["input"].rpartition("/")[2]: row for row in images}
    assert [name for name, row in found.items() if row["status"] == "ok"] == [
        "a.png",
        "b.png",
        "k.png",
        "once.png",
        "x.png",
    ]
    kinds = {name: row["error"]["kind"] for name, row in found.items() if row["status"] == "failed"}
    assert kinds == {"cut.png": "decode", "hang.png": "timeout", "segfault.png": "crashed"}
    assert summary["errors"] == {"crashed": 1, "decode": 1, "timeout": 1}
    for name in kinds:
        (source / name).unlink()
    assert evaluate(source, "-o", tmp_path / "calm").returncode == 0
    assert numbers(tmp_path / "out") == numbers(tmp_path / "calm")


@pytest.mark.slow
def test_three_kills_and_a_rerun_give_the_numbers_of_an_undisturbed_run(tmp_path):
    report = evaluation_rounds(tmp_path, count=3, images=12)
    assert report["killed"] >= 2, report
    assert {**report, "killed": 3, "reruns": 1} == {
        "killed": 3, "reruns": 1, "exit": 0, "rows": 12, "equal": True, "leftovers": 0}  # fmt: skip


def test_a_forced_run_that_was_killed_reports_no_numbers_of_other_settings(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    assert evaluate(source, "-o", out).returncode == 0
    assert evaluate(source, "-o", tmp_path / "other", "--seed", "7").returncode == 0
    # Killed after the new description was written and before any image was measured anew.
    (out / ".lrp" / "evaluate.json").write_bytes((tmp_path / "other" / ".lrp" / "evaluate.json").read_bytes())
    result = evaluate(source, "-o", out, "--seed", "7", "--json")
    assert [row["status"] for row in rows(result)[:-1]] == ["ok"] * 3
    assert numbers(out) == numbers(tmp_path / "other")


@pytest.mark.slow
def test_two_evaluations_into_one_output_are_refused_and_shards_are_not(tmp_path):
    env = environment(path=[hostile_decoder(tmp_path / "code")], SLOW="1000")
    source, out = folder_of_photos(tmp_path / "in", 1), tmp_path / "out"
    photo(source / "slow.png", 7)
    running = started(source, "-o", out, "-j", "1", env=env)
    try:
        wait_for(lambda: lines(out))
        second = evaluate(source, "-o", out)
        assert second.returncode == 2 and b"Another run is at work" in second.stderr
        assert evaluate(source, "-o", out, "--shard", "1/2").returncode == 0
    finally:
        killed(running)


def test_the_shard_that_ends_last_writes_the_results_of_all(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 5), tmp_path / "out"
    (source / "bad.png").write_bytes(b"no image")
    whole = evaluate(source, "-o", tmp_path / "whole", "-b", "8", "--images", "6")
    first = evaluate(source, "-o", out, "--shard", "1/2", "-b", "8", "--images", "6")
    assert b"3 of all 6 images have ended, and the shard that ends last writes the results" in first.stderr
    assert first.stdout == b"" and not (out / "results.json").exists()
    second = evaluate(source, "-o", out, "--shard", "2/2", "-b", "8", "--images", "6")
    assert whole.returncode == 1 and {first.returncode, second.returncode} == {0, 1}
    ours, theirs = numbers(out), numbers(tmp_path / "whole")
    assert ours["images"] == theirs["images"] == 5
    assert ours["methods"][0]["metrics"]["auc"]["mean"] == pytest.approx(theirs["methods"][0]["metrics"]["auc"]["mean"])
    counted = json.loads(lrp("status", out, "--json").stdout)
    assert (counted["images"], counted["done"], counted["failed"], counted["missing"]) == (6, 5, 1, 0)


@pytest.mark.slow
def test_fail_fast_and_ctrl_c_leave_what_is_measured(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 6), tmp_path / "out"
    (source / "00bad.png").write_bytes(b"no image")
    stopped = evaluate(source, "-o", out, "--fail-fast", "--json")
    assert stopped.returncode == 1 and b"left" in stopped.stderr and not (out / "results.json").exists()
    assert rows(stopped)[-1]["results"] is None
    (source / "00bad.png").unlink()
    env = environment(path=[hostile_decoder(tmp_path / "code")], SLOW="1000")
    photo(source / "slow.png", 7)
    running = started(source, "-o", out, "--timeout", "0", "-j", "1", "-b", "4", env=env)
    try:
        wait_for(lambda: len(set(done(out))) >= 6)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=300)
    finally:
        killed(running)
    assert running.returncode == -signal.SIGINT and b"left" in errors
    (source / "slow.png").unlink()
    again = evaluate(source, "-o", out, "--json")
    assert [row["status"] for row in rows(again)[:-1]] == ["skipped"] * 6


def test_a_changed_image_of_another_shard_does_not_count_as_measured(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 4), tmp_path / "out"
    for shard in ("1/2", "2/2"):
        assert evaluate(source, "-o", out, "--shard", shard).returncode == 0
    before = (out / "results.json").read_bytes()
    photo(source / "2.png", 77)  # of the second shard
    again = evaluate(source, "-o", out, "--shard", "1/2")
    assert b"3 of all 4 images have ended" in again.stderr and (out / "results.json").read_bytes() == before
    assert evaluate(source, "-o", out, "--shard", "2/2").returncode == 0
    assert (out / "results.json").read_bytes() != before


def test_an_image_of_another_shard_that_failed_and_was_mended_has_not_ended(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 4), tmp_path / "out"
    (source / "2.png").write_bytes(b"no image")  # of the second shard
    assert evaluate(source, "-o", out, "--shard", "2/2").returncode == 1
    photo(source / "2.png", 77)
    first = evaluate(source, "-o", out, "--shard", "1/2")
    assert b"3 of all 4 images have ended" in first.stderr and not (out / "results.json").exists()


def test_damage_to_a_description_is_told_and_an_empty_list_of_controls_is_the_default(tmp_path):
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    (tmp_path / "settings.toml").write_text("control = []\n")
    assert evaluate(path, "-o", out, "--settings", tmp_path / "settings.toml").returncode == 0
    assert [method["name"] for method in results(out)["methods"]] == ["epsilon", "beta-1", "random"]
    described = out / ".lrp" / "evaluate.json"
    described.write_text(described.read_text().replace('"methods": [', '"methods": ["x", '))
    refused = evaluate(path, "-o", out)
    assert refused.returncode == 2 and b"methods was" in refused.stderr, refused.stderr


@pytest.mark.parametrize(
    "damage", [{"epsilon": {"morf": ["x"]}}, {"epsilon": {"morf": [0.5] * 13, "lerf": [0.5] * 13}}]
)
def test_a_damaged_or_incomplete_record_is_measured_again(tmp_path, damage):
    source, out = folder_of_photos(tmp_path / "in", 2), tmp_path / "out"
    evaluate(source, "-o", out)
    whole, path = numbers(out), out / ".lrp" / "evaluate-1-of-1.jsonl"
    changed = lines(out)
    next(line for line in changed if line["type"] == "done").update(curves=damage)
    path.write_text("".join(json.dumps(line) + "\n" for line in changed))
    result = evaluate(source, "-o", out, "--json")
    assert sorted(row["status"] for row in rows(result)[:-1]) == ["ok", "skipped"], result.stderr
    assert numbers(out) == whole


@pytest.mark.slow
def test_explanations_and_evaluations_share_an_output(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 2), tmp_path / "out"
    assert process("explain", *TINY_OPTIONS, source, out).returncode == 0
    assert evaluate(source, "-o", out).returncode == 0
    assert {"run.json", "evaluate.json"} <= {path.name for path in (out / ".lrp").iterdir()}
    again = process("explain", *TINY_OPTIONS, source, out, "--json")
    assert [row["status"] for row in rows(again)[:-1]] == ["skipped"] * 2
