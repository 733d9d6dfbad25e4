"""What is read, what it is called, and what is refused before anything is computed."""

import os
import shlex
import subprocess

import pytest

from lrpcli.pipeline.kinds import KINDS
from lrpcli.records.record import PRINTED, Outputs
from tests.photos import folder_of_photos, photo
from tests.resilience.runs import TINY_OPTIONS, command, environment, explain, journal, lrp, process, rows


def shell(script, *, cwd, **keywords):
    """A finished bash script, in which "$LRP" is `lrp explain` with a tiny net."""
    line = shlex.join(command("explain", *TINY_OPTIONS))
    return subprocess.run(
        ["bash", "-c", script.replace("$LRP", line)], cwd=cwd, env=environment(), capture_output=True, check=False,
        timeout=300, **keywords,
    )  # fmt: skip


def require_refused(result, message):
    assert result.returncode == 2, result.stderr
    errors = result.stderr.decode()
    assert message in errors and "Traceback" not in errors and "bug" not in errors


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "a.png")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", "a.png", ""),
        ("explain", "", "out"),
        ("explain", "a.png", "-o", ""),
        ("explain", "--files-from", "", "out"),
        ("explain", "a.png", "out", "--base", ""),
        ("explain", "a.png", "out", "--weights", ""),
        ("explain", "a.png", "out", "--model", ""),
        ("explain", "a.png", "out", "--labels", ""),
        ("explain", "a.png", "out", "--config", ""),
        ("explain", "a.png", "out", "--target", ""),
        ("explain", "a.png", "out", "--settings", ""),
        ("evaluate", "a.png", "-o", ""),
        ("evaluate", "", "-o", "out"),
        ("evaluate", "a.png", "-o", "out", "--files-from", ""),
        ("status", ""),
    ],
    ids=" ".join,
)
def test_an_empty_path_or_name_is_exit_2(here, arguments):
    result = lrp(*arguments)
    assert result.exit_code == 2 and "It is empty" in result.stderr, result.output
    assert [path.name for path in here.iterdir()] == ["a.png"]


@pytest.mark.parametrize("command", [("explain", "a.png"), ("evaluate", "a.png", "-o")])
@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("a.png", "'a.png' is not a folder"),
        ("a.png/out", "'a.png' is not a folder"),
        ("a.png/deep/out", "'a.png' is not a folder"),
        ("dangling", "'dangling' is a link to nothing"),
        ("dangling/out", "'dangling' is a link to nothing"),
        ("loop/out", "'loop' is a link to nothing"),
        ("x" * 300, "File name too long"),
    ],
)
def test_an_output_that_cannot_be_made_is_exit_3(here, command, output, message):
    (here / "dangling").symlink_to("nowhere")
    (here / "loop").symlink_to("loop")
    result = lrp(*command, output)
    assert result.exit_code == 3 and message in result.stderr, result.output
    assert "bug" not in result.stderr and not (here / "nowhere").exists()


def test_a_single_input_goes_to_a_folder_that_is_named(here):
    result = explain("a.png")
    assert result.returncode == 0 and result.stdout == b"lrp-out/a.png.png\n"
    assert b"No output folder is named; the results go to lrp-out." in result.stderr
    folder_of_photos(here / "photos", 2)
    quiet = explain("photos", "-q")
    assert quiet.stderr == b"" and (here / "lrp-out" / "cats" / "1.png.npy").exists()
    assert explain("-", stdin=(here / "a.png").read_bytes()).stdout == b"lrp-out/stdin.png\n"


def test_two_configs_are_refused_and_what_takes_them_is_named(here):
    result = explain("a.png", "out", "--config", "epsilon", "--config", "beta-0")
    assert result.returncode == 2 and b"--config is given twice" in result.stderr and b"lrp evaluate" in result.stderr
    assert not (here / "out").exists()
    assert explain("a.png", "out", "--config=epsilon").returncode == 0


def test_loose_files_are_named_below_a_base(here):
    for folder in ("left", "right"):
        photo(here / "in" / folder / "1.png")
    twins = ("in/left/1.png", "in/right/1.png")
    assert b"--base" in explain(*twins, "out").stderr
    result = explain(*twins, "out", "--base", "in")
    assert result.stdout.splitlines() == [b"out/left/1.png.png", b"out/right/1.png.png"]
    (here / "list").write_text(f"{here}/in/left/1.png\n")
    assert explain("--files-from", "list", "--base", "in", "again").stdout == b"again/left/1.png.png\n"
    outside = explain("a.png", "out", "--base", "in")
    assert outside.returncode == 2 and b"'a.png' does not lie below --base 'in'" in outside.stderr


@pytest.mark.parametrize("save", ["map,overlay", "overlay,map", "heatmap,overlay", "layers,heatmap,map,overlay"])
def test_the_overlay_is_printed_whatever_the_order_of_save(here, save):
    assert explain("a.png", "out", "--save", save).stdout == b"out/a.png.png\n"
    assert explain("a.png", "out", "--save", save).stdout == b"out/a.png.png\n", "found done"


def test_without_an_overlay_the_kinds_have_an_order(here):
    assert tuple(KINDS) == PRINTED
    assert explain("a.png", "one", "--save", "map,heatmap").stdout == b"one/a.png.heatmap.png\n"
    assert explain("a.png", "two", "--save", "layers,map").stdout == b"two/a.png.npy\n"
    assert Outputs({"new": "n", "map": "m"}).first == "m" and Outputs({"new": "n"}).first == "n"
    assert Outputs().first is None


@pytest.mark.parametrize("tool", ["explain", "evaluate"])
def test_folders_of_results_are_no_inputs(here, tool):
    folder_of_photos(here / "in", 2)
    assert explain("in", "in/old").returncode == 0
    assert lrp("evaluate", *TINY_OPTIONS, "in", "-o", "in/measured", "--steps", 2, "--images", 1).exit_code == 0
    result = lrp("explain", *TINY_OPTIONS, "in", "new", "--json")
    assert "Skipped: 2 folders of results." in result.stderr
    assert [row["input"] for row in rows(result)[:-1]] == ["in/0.png", "in/cats/1.png"]
    for folder in ("in/old", "in/measured"):
        refused = lrp(tool, *TINY_OPTIONS, folder, "-o", "other")
        assert refused.exit_code == 2 and f"The folder '{folder}' holds results" in refused.stderr


def test_damaged_jpegs_fail_and_can_be_accepted(here):
    whole = photo(here / "in" / "a.jpg", size=(160, 120)).read_bytes()
    (here / "in" / "b.jpg").write_bytes(whole[: len(whole) * 2 // 3] + b"\xff\xd9")
    result = explain("in", "out", "--json")
    assert result.returncode == 1
    good, bad, _ = rows(result)
    assert good["status"] == "ok" and bad["error"]["kind"] == "decode"
    assert "libjpeg says: Corrupt JPEG data: premature end of data segment" in bad["error"]["message"]
    assert explain("in", "accepted", "--truncated", "accept").returncode == 0


def test_lists_are_read_with_a_mark_and_refused_in_utf_16(here):
    (here / "list").write_bytes(b"\xef\xbb\xbfa.png\r\n")
    assert explain("--files-from", "list", "out").stdout == b"out/a.png.png\n"
    (here / "list").write_bytes("a.png\r\n".encode("utf-16"))
    refused = explain("--files-from", "list", "out2")
    assert refused.returncode == 2 and b"UTF-16" in refused.stderr and not (here / "out2").exists()
    assert explain("--files-from", here, "out2").returncode == 2
    assert explain("--files-from", "/dev/zero", "out2").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("- - -o out", "Standard input is named twice"),
        ("- /dev/stdin -o out", "Standard input is named twice"),
        ("--files-from - - -o out", "Standard input is named twice"),
        ("/dev/fd/3 /proc/self/fd/3 -o out 3< a.png", "The stream '/dev/fd/3' is named twice"),
        ("/dev/fd/77 out", "The stream '/dev/fd/77' is closed"),
        ("- out <&-", "Standard input is closed"),
        ("/dev/stdin out <&-", "Standard input is closed"),
        ("--files-from - out <&-", "Standard input is closed"),
        ("--files-from /dev/stdin out <&-", "Standard input is closed"),
    ],
)
def test_streams_that_cannot_be_read_are_exit_2(here, arguments, message):
    require_refused(shell(f"$LRP {arguments}", cwd=here), message)
    assert not (here / "out").exists()


def test_evaluate_reads_standard_input_once(here):
    (here / "list").write_text("a.png\n")
    for arguments in (("-", "-"), ("-", "--files-from", "-")):
        with (here / "list").open("rb") as stdin:
            require_refused(process("evaluate", *TINY_OPTIONS, *arguments, "-o", "out", stdin=stdin), "named twice")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("$LRP - out < a.png", ["stdin.png"]),
        ("cat a.png | $LRP /dev/stdin out", ["stdin.png"]),
        ("$LRP /dev/fd/0 out < a.png", ["stdin.png"]),
        ("cat a.png | $LRP /proc/self/fd/0 out", ["stdin.png"]),
        ("$LRP /dev/fd/7 out 7< a.png", ["7.png"]),
        ("$LRP --files-from <(ls *.png) out", ["a.png.png"]),
        ("$LRP a.png out <&-", ["a.png.png"]),
        ("ls *.png | $LRP --files-from /dev/stdin out", ["a.png.png"]),
    ],
)
def test_streams_that_the_shell_names(here, script, names):
    result = shell(script, cwd=here)
    assert result.returncode == 0, result.stderr
    assert result.stdout.decode().split() == [f"out/{name}" for name in names]


@pytest.mark.slow
def test_process_substitutions_are_read_once_each(here):
    photo(here / "b.png", 1)
    result = shell("$LRP <(cat a.png) <(cat b.png) out --json", cwd=here)
    assert result.returncode == 0, result.stderr
    one, two, _ = rows(result)
    assert one["input"].startswith("/dev/fd/") and one["input"] != two["input"]
    for row, name in ((one, "a.png"), (two, "b.png")):
        alone = rows(explain(name, name[0], "--json"))[0]["relevance"]
        assert row["relevance"] == pytest.approx(alone, rel=1e-3)
    assert all("size" not in line for line in journal(here / "out") if line["type"] == "done")


@pytest.mark.slow
def test_an_endless_stream_is_stopped_at_its_limit(here):
    result = shell("$LRP - out --max-pixels 1000 --json < /dev/zero", cwd=here)
    assert result.returncode == 1
    error = rows(result)[0]["error"]
    assert error["kind"] == "too_large" and f"longer than {8 * 1000 + 2**24} bytes" in error["message"]


def test_a_pipe_in_the_file_system_is_not_opened(here):
    os.mkfifo(here / "pipe")
    result = explain("pipe", "out")
    assert result.returncode == 1 and b"is a named pipe and is not opened" in result.stderr
    assert b"standard input (-)" in result.stderr


def test_what_cannot_be_checked_is_told_once(here, monkeypatch):
    monkeypatch.setattr("lrpcli.images.jpeg.why_unchecked", lambda: "libjpeg is strange")
    result = explain("a.png", "out")
    assert result.stderr.count(b"JPEGs that are damaged inside are not recognised here: libjpeg is strange.") == 1
    assert b"Warning" not in explain("a.png", "out", "--truncated", "accept").stderr
