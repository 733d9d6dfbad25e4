"""How a run ends: the exit codes, over real processes, and what is left when it is stopped."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.photos import folder_of_photos, photo
from tests.resilience.kill_rounds import lines_so_far
from tests.resilience.runs import (
    TINY_OPTIONS,
    command,
    environment,
    explain,
    hostile_decoder,
    journal,
    process,
    require_whole,
    rows,
    started,
    tree,
    wait_for,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1,200 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def slow_run(tmp_path, *options, **keywords):
    """A run that has begun, with most of a minute of decoding before it."""
    source, out = folder_of_photos(tmp_path / "in", 4), tmp_path / "out"
    for number in range(40):
        photo(source / f"slow{number:02}.png", number)
    env = environment(path=[hostile_decoder(tmp_path / "code")], SLOW="1")
    running = started(source, out, "-b", "2", "-j", "1", *options, env=env, **keywords)
    wait_for(lambda: any(row["type"] == "done" for row in lines_so_far(out)))
    return running, source, out


ENDS = [
    ("done", ["good", "OUT"], 0),
    ("an image failed", ["mixed", "OUT"], 1),
    ("a misspelt option", ["good", "OUT", "--stile", "contour"], 2),
    ("a missing input", ["absent", "OUT"], 2),
    ("a full standard output", ["good", "OUT"], 3),
    ("an output that cannot be made", ["good", "/proc/none/out"], 3),
]


@pytest.mark.parametrize(("case", "arguments", "code"), ENDS, ids=[end[0] for end in ENDS])
def test_exit_codes_of_real_processes(tmp_path, case, arguments, code):
    photo(tmp_path / "good" / "a.png")
    photo(tmp_path / "mixed" / "a.png")
    (tmp_path / "mixed" / "b.png").write_bytes(b"no image")
    arguments = [str(tmp_path / "out") if word == "OUT" else word for word in arguments]
    line = command("explain", *TINY_OPTIONS, *arguments)
    with Path("/dev/full" if "full" in case else os.devnull).open("wb") as stdout:
        result = subprocess.run(
            line, stdout=stdout, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(), check=False
        )
    assert result.returncode == code, result.stderr
    assert b"Traceback" not in result.stderr and b"This is a bug" not in result.stderr
    if code == 3:
        assert b"cannot be written" in result.stderr


FULL = "Error: Standard output cannot be written: No space left on device.\n"
LINES = [["explain", *TINY_OPTIONS, "a.png", "out"], ["evaluate", *TINY_OPTIONS, "a.png", "-o", "out", "--steps", "2"],
         ["models", "list"], ["configs", "show", "composite"], ["env"], ["--help"], ["explain", "--help"],
         ["--version"]]  # fmt: skip


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line[0]}_{line[-1]}")
def test_a_full_standard_output_is_told_in_one_sentence(tmp_path, line, unbuffered):
    """Whether the text fails when it is written or, from a buffer, at the very end."""
    photo(tmp_path / "a.png")
    with Path("/dev/full").open("wb") as stdout:
        result = subprocess.run(command(*map(str, line)), stdout=stdout, stderr=subprocess.PIPE, cwd=tmp_path,
                                env=environment(PYTHONUNBUFFERED=unbuffered), text=True, check=False)  # fmt: skip
    assert result.returncode == 3 and result.stderr.endswith(FULL), result.stderr
    assert "Traceback" not in result.stderr and "ignored" not in result.stderr


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line[0]}_{line[-1]}")
def test_a_closed_standard_output_is_no_error(tmp_path, line):
    photo(tmp_path / "a.png")
    closing = ["bash", "-c", '"$@" >&-', "-", *command(*map(str, line))]
    result = subprocess.run(closing, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(), text=True, check=False)
    assert result.returncode == 0 and "rror" not in result.stderr, result.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_ends_in_order_and_is_raised_again(tmp_path, number):
    running, _, out = slow_run(tmp_path, "--json")
    running.send_signal(number)
    output, errors = running.communicate(timeout=300)
    assert running.returncode == -number, errors
    assert b"Traceback" not in errors and b" left; " in errors
    assert b'"type": "summary"' in output.splitlines()[-1]
    require_whole(out)
    written = journal(out)
    last = {row["name"]: row["type"] for row in written if "name" in row}
    assert set(last.values()) == {"done"}, "what was in the work is finished, and nothing else was begun"
    done = sum(kind == "done" for kind in last.values())
    assert 0 < done < 40 and len(output.splitlines()) == done + 1
    status = process("status", out)
    assert f"missing  {44 - done}".encode() in status.stdout


def test_the_second_signal_ends_at_once(tmp_path):
    env = environment(path=[hostile_decoder(tmp_path / "code")])
    photo(tmp_path / "in" / "a.png")
    photo(tmp_path / "in" / "hang.png")
    running = started(tmp_path / "in", tmp_path / "out", "-b", "1", env=env)
    wait_for(lambda: any(row["type"] == "done" for row in lines_so_far(tmp_path / "out")))
    # Of two signals at once the second may come before the first is handled.
    running.send_signal(signal.SIGTERM)
    wait_for(lambda: not _catches(running.pid, signal.SIGTERM) or running.poll() is not None)
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=300) == -signal.SIGTERM
    running.communicate()


def _catches(pid, number):
    caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_a_closed_pipe_ends_by_sigpipe_and_a_rerun_goes_on(tmp_path):
    source, out = folder_of_photos(tmp_path / "in", 6), tmp_path / "out"
    line = " ".join(map(repr, command("explain", *TINY_OPTIONS, source, out, "-b", "1")))
    result = subprocess.run(["bash", "-c", f"{line} | head -n 1 >/dev/null; echo ${{PIPESTATUS[0]}}"],
                            capture_output=True, env=environment(), check=True)  # fmt: skip
    assert result.stdout == b"141\n" and b"Traceback" not in result.stderr, result.stderr
    require_whole(out)
    assert explain(source, out).returncode == 0


def test_a_shell_loop_stops_on_ctrl_c(tmp_path):
    """As on a terminal, the whole foreground group gets SIGINT; the shell sees that lrp died of it and stops too."""
    source, out = folder_of_photos(tmp_path / "in", 2), tmp_path / "out"
    photo(source / "slow.png")
    env = environment(path=[hostile_decoder(tmp_path / "code")], SLOW="1000")
    line = " ".join(map(repr, command("explain", *TINY_OPTIONS, source, out, "-b", "1")))
    loop = f"for f in 1 2 3; do echo round $f; {line}; done; echo after"
    with subprocess.Popen(["bash", "-c", loop], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
                          process_group=0) as shell:  # fmt: skip
        wait_for(lambda: any(row["type"] == "done" for row in lines_so_far(out)))
        os.killpg(shell.pid, signal.SIGINT)
        output, errors = shell.communicate(timeout=300)
    assert shell.returncode == -signal.SIGINT
    assert output.count(b"round") == 1 and b"after" not in output, output
    assert b"Traceback" not in errors


def test_a_full_disk_is_exit_3_with_whole_files_and_goes_on_when_there_is_room(tmp_path, small_disk):
    source = folder_of_photos(tmp_path / "in", 60)
    result = explain(source, small_disk / "out", "--json")
    assert result.returncode == 3, result.stderr
    assert b"No space left on device" in result.stderr or b"disk is full" in result.stderr
    require_whole(small_disk / "out")
    told = sum(row.get("status") == "ok" for row in rows(result))
    assert 0 < told < 60
    shutil.copytree(small_disk / "out", tmp_path / "out")
    again = explain(source, tmp_path / "out", "--json")
    assert again.returncode == 0
    assert sum(row.get("status") == "skipped" for row in rows(again)) > 0
    require_whole(tmp_path / "out")
    assert len(tree(tmp_path / "out")) == 120


def test_a_folder_that_may_not_be_written_is_exit_3(tmp_path):
    """Root may write anywhere until it gives that right up."""
    source, out = folder_of_photos(tmp_path / "in", 1), tmp_path / "out"
    out.mkdir(mode=0o555)
    line = command("explain", *TINY_OPTIONS, source, out)
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root cannot give up its rights here")
        line = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override", *line]
    result = subprocess.run(line, capture_output=True, env=environment(), check=False)
    assert result.returncode == 3, result.stderr
    assert (
        b"Permission denied" in result.stderr
        and b"Name an output folder that can be made and written to" in result.stderr
    )
    assert list(out.iterdir()) == []


def test_a_read_only_disk_is_exit_3_and_nothing_changes(tmp_path, small_disk):
    source, out = folder_of_photos(tmp_path / "in", 3), small_disk / "out"
    assert explain(source, out).returncode == 0
    photo(source / "new.png", 9)
    before = tree(out)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    result = explain(source, out)
    assert result.returncode == 3 and b"Read-only file system" in result.stderr
    assert tree(out) == before


def test_workers_end_when_the_run_is_killed(tmp_path):
    running, _, _ = slow_run(tmp_path)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    every = [
        pid for task in Path(f"/proc/{running.pid}/task").iterdir() for pid in (task / "children").read_text().split()
    ]
    assert children or every
    running.kill()
    running.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() and _is_alive(pid) for pid in every))


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_python_that_decodes_imports_no_torch():
    code = "import sys; import lrpcli.pipeline.worker, lrpcli.pipeline.decode; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0
