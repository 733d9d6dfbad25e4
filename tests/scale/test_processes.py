"""--engine processes: the results of one process, whatever becomes of the others."""

import os
import signal
import subprocess

import pytest

from tests.photos import photo
from tests.resilience.runs import (
    TINY_OPTIONS,
    command,
    environment,
    explain,
    hostile_decoder,
    hostile_writer,
    journal,
    killed,
    leftovers,
    lrp,
    process,
    require_whole,
    started,
    tree,
    wait_for,
)
from tests.scale.engines import (
    SMALL,
    evaluate,
    finished,
    nets_of,
    poison,
    row_journals,
    running_nets,
    shown,
    without_torch,
)

PROCESSES = ("--engine", "processes", "--workers", "2")


@pytest.mark.slow
def test_results_are_those_of_one_process_and_everything_done_loads_no_net(tmp_path, inline):
    source, calm, first = inline
    out = tmp_path / "out"
    result = explain(source, out, *SMALL, *PROCESSES, "--json")
    assert result.returncode == first.returncode == 1
    assert tree(out) == tree(calm) and leftovers(out) == []
    assert shown(result) == shown(first), "in the order of the inputs, too"
    assert row_journals(out) == [f"journal-{n}-of-5.jsonl" for n in range(1, 6)]
    (source / "5bad.png").unlink()
    try:
        done = explain(source, out, *SMALL, *PROCESSES, "--json")
        assert done.returncode == 0 and {row["status"] for row in shown(done)[:-1]} == {"skipped"}
        env = environment(path=[without_torch(tmp_path / "code")])
        again = process("explain", *TINY_OPTIONS, source, out, *SMALL, *PROCESSES, "--json", env=env)
        assert again.returncode == 0 and shown(again)[:-1] == shown(done)[:-1]
        photo(source / "new.png", 99)
        refused = process("explain", *TINY_OPTIONS, source, out, *SMALL, *PROCESSES, env=env)
        assert refused.returncode == 3 and b"torch is imported" in refused.stderr
        more = explain(source, out, *SMALL, *PROCESSES, "--json")
        assert [row["status"] for row in shown(more)[:-1]].count("ok") == 1
    finally:
        (source / "new.png").unlink(missing_ok=True)
        (source / "5bad.png").write_bytes(b"no image")


@pytest.mark.slow
def test_a_net_that_is_killed_is_replaced_and_loses_nothing(tmp_path, inline):
    source, calm, _ = inline
    out, env = tmp_path / "out", environment(path=[hostile_decoder(tmp_path / "code")], SLOW="2")
    slow = photo(source / "slow.png", 50)
    try:
        running = started(source, out, *SMALL, *PROCESSES, env=env)
        wait_for(lambda: finished(out))
        victims = nets_of(running.pid)
        os.kill(victims[0], signal.SIGKILL)
        _, errors = running.communicate(timeout=300)
    finally:
        slow.unlink()
    assert len(victims) == 2 and running.returncode == 1
    assert b"a process with a net died (SIGKILL)" in errors
    found = tree(out)
    assert {name: found[name] for name in tree(calm)} == tree(calm) and leftovers(out) == []


@pytest.mark.slow
def test_an_image_that_kills_two_processes_is_crashed_and_its_neighbours_are_done(tmp_path, inline):
    source, calm, _ = inline
    out, env = tmp_path / "out", environment(path=[hostile_writer(tmp_path / "code")])
    deadly = poison(source)
    try:
        result = process("explain", *TINY_OPTIONS, source, out, *SMALL, *PROCESSES, "--json", env=env)
    finally:
        deadly.unlink()
    assert result.returncode == 1 and result.stderr.count(b"died (SIGKILL)") == 2
    failed = [row for row in shown(result) if row.get("status") == "failed"]
    assert [row["error"]["kind"] for row in failed] == ["decode", "crashed"]
    assert "at last with no other image beside it" in failed[1]["error"]["message"]
    assert tree(out).keys() == tree(calm).keys()


@pytest.mark.slow
def test_processes_die_with_a_run_that_is_killed_and_the_next_run_goes_on(tmp_path, inline):
    source, calm, first = inline
    out = tmp_path / "out"
    running = started(source, out, *SMALL, *PROCESSES)
    wait_for(lambda: len(finished(out)) >= 2)
    nets = nets_of(running.pid)
    killed(running)
    wait_for(lambda: not set(nets) & set(running_nets()))
    before = finished(out)
    again = explain(source, out, *SMALL, *PROCESSES, "--json")
    assert len(nets) == 2 and again.returncode == 1 and tree(out) == tree(calm)
    assert [row["status"] for row in shown(again)[:-1]].count("skipped") == len(before)
    assert sorted(finished(out)) == sorted(set(finished(out))), "no image was done twice"
    assert shown(again)[-1]["errors"] == shown(first)[-1]["errors"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_in_order(tmp_path, inline, number):
    source, calm, _ = inline
    out = tmp_path / "out"
    running = started(source, out, *SMALL, *PROCESSES)
    wait_for(lambda: finished(out))
    running.send_signal(number)
    _, errors = running.communicate(timeout=300)
    assert running.returncode == -number and b"left; " in errors and b"Traceback" not in errors
    require_whole(out)
    assert explain(source, out, *SMALL, *PROCESSES).returncode == 1 and tree(out) == tree(calm)


@pytest.mark.slow
def test_the_reader_of_standard_output_goes_away(tmp_path, inline):
    source, _, _ = inline
    line = command("explain", *TINY_OPTIONS, source, tmp_path / "out", *SMALL, *PROCESSES)
    running = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    running.stdout.readline()
    running.stdout.close()
    _, errors = running.communicate(timeout=300)
    assert running.returncode == -signal.SIGPIPE and errors.count(b"\n") <= 2
    require_whole(tmp_path / "out")


@pytest.mark.slow
def test_fail_fast_stops_at_the_first_failure_in_the_order_of_the_inputs(tmp_path, inline):
    source, _, _ = inline
    result = explain(source, tmp_path / "out", *SMALL, *PROCESSES, "--fail-fast", "--json")
    found = [row["status"] for row in shown(result)[:-1]]
    assert result.returncode == 1 and found == ["ok"] * (len(found) - 1) + ["failed"]
    require_whole(tmp_path / "out")


@pytest.mark.slow
def test_shards_divide_and_force_computes_anew(tmp_path, inline):
    source, calm, _ = inline
    out = tmp_path / "out"
    explain(source, out, *SMALL, *PROCESSES, "--shard", "1/2")
    explain(source, out, *SMALL, "--shard", "2/2")
    assert tree(out).keys() == tree(calm).keys()
    again = explain(source, out, *SMALL, *PROCESSES, "--force", "--json")
    assert [row["status"] for row in shown(again)[:-1]].count("ok") == 9 and tree(out) == tree(calm)


@pytest.mark.slow
def test_evaluations_are_those_of_one_process(tmp_path, inline):
    source, _, _ = inline
    calm, out = tmp_path / "calm", tmp_path / "out"
    first = evaluate(source, "-o", calm)
    result = evaluate(source, "-o", out, *PROCESSES)
    assert first.exit_code == result.exit_code == 1 and result.stdout == first.stdout
    assert tree(out) == tree(calm)
    (source / "5bad.png").unlink()
    try:
        evaluate(source, "-o", out, *PROCESSES)
        before = tree(out)
        again = evaluate(source, "-o", out, *PROCESSES, "--json")
        assert again.exit_code == 0 and tree(out) == before and "9 already done" in again.stderr
        (out / "results.json").write_text("{}")
        assert evaluate(source, "-o", out, *PROCESSES).exit_code == 0 and tree(out) == before
    finally:
        (source / "5bad.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--workers", "2"), "--workers counts the nets of --engine processes or ray"),
        (("--ray-address", "auto"), "--ray-address goes with --engine ray"),
        (("--engine", "processses"), "Did you mean 'processes'?"),
        ((*PROCESSES, "--scale", "run"), "--scale run needs all images in one process"),
        ((*PROCESSES, "--workers", "0"), "0 is not in the range"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, options, message):
    result = explain(photo(tmp_path / "a.png"), tmp_path / "out", *options)
    assert result.returncode == 2 and message.encode() in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_stream_is_read_by_one_process_alone(tmp_path):
    stdin = photo(tmp_path / "a.png").read_bytes()
    result = explain("-", tmp_path / "out", *PROCESSES, stdin=stdin)
    assert result.returncode == 2 and b"The stream '-' can be read by this process alone" in result.stderr


@pytest.mark.slow
def test_what_loading_refuses_is_said_as_by_one_process(tmp_path):
    line = ("explain", *TINY_OPTIONS, "--target", "unknown", photo(tmp_path / "a.png"), tmp_path / "out")
    inline, elsewhere = lrp(*line), lrp(*line, *PROCESSES)
    assert elsewhere.exit_code == inline.exit_code == 2 and elsewhere.stderr == inline.stderr


@pytest.mark.slow
def test_an_output_that_cannot_be_written_is_exit_3(tmp_path, inline):
    source, _, _ = inline
    out = tmp_path / "out"
    (out / ".lrp").mkdir(parents=True)
    (out / ".lrp" / "journal-2-of-5.jsonl").symlink_to(tmp_path / "elsewhere")
    result = explain(source, out, *SMALL, *PROCESSES)
    assert result.returncode == 3 and b"links inside an output folder are not followed" in result.stderr


def test_a_process_that_cannot_load_is_given_up_at_once(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "sitecustomize.py").write_text(
        "import os, sys\nif any('lrpcli.scale.processes' in word for word in sys.orig_argv): os.kill(os.getpid(), 9)\n"
    )
    env = environment(path=[tmp_path / "code"])
    image = photo(tmp_path / "a.png")
    result = process("explain", *TINY_OPTIONS, image, tmp_path / "out", *PROCESSES, env=env)
    assert result.returncode == 3 and b"The process that loads the net died 2 times: SIGKILL" in result.stderr


@pytest.mark.slow
def test_a_process_that_cannot_load_beside_one_that_works_is_said_once_that_one_has_ended(tmp_path, inline):
    source, _, _ = inline
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if any('lrpcli.scale.processes' in word for word in sys.orig_argv):\n"
        "    try: os.close(os.open(os.environ['MARKER'], os.O_CREAT | os.O_EXCL))\n"
        "    except FileExistsError: os.kill(os.getpid(), 9)\n"
    )
    env = environment(path=[tmp_path / "code"], MARKER=str(tmp_path / "marker"))
    out = tmp_path / "out"
    result = process("explain", *TINY_OPTIONS, source, out, *SMALL, *PROCESSES, env=env)
    assert result.returncode == 3 and b"The process that loads the net died 2 times: SIGKILL" in result.stderr
    assert b"handle is closed" not in result.stderr
    ends = [journal(out, name)[-1]["type"] for name in row_journals(out)]
    assert "start" not in ends, "what was in the work was finished"


@pytest.mark.slow
def test_tars_are_in_the_way_of_force_as_in_one_process(tmp_path):
    pytest.importorskip("pyarrow", reason="packing needs pyarrow")
    source, out = tmp_path / "in", tmp_path / "out"
    photo(source / "a.png")
    assert explain(source, out, "--pack", "tar").returncode == 0
    before = tree(out)
    assert explain(source, out, "--force").returncode == 1  # a clash for each image
    refused = explain(source, out, "--force", *PROCESSES)
    assert refused.returncode == 2 and b"tar shards are never written again" in refused.stderr
    assert tree(out) == before
