"""What a person sees on a terminal, and what a pipe gets."""

import json
import os
import re
import signal
import subprocess
import termios

import pytest

from lrpcli.cli.columns import width
from lrpcli.cli.explain_console import class_lines, usual_width
from lrpcli.cli.waiting import say_loading_at_once, shown
from lrpcli.models.zoo import list_entries
from lrpcli.records.explained import ExplainedClass, RelevanceRange
from lrpcli.records.record import Outputs
from tests.cli.terminals import COLOUR, as_if_on_terminal, on_terminal, read_all, widest
from tests.photos import folder_of_photos, photo
from tests.resilience.runs import TINY_OPTIONS, command, environment, lrp, process

NET = """
import torch
def make():
    print("made")
    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 10))
"""
LONG = "a-photo-whose-name-is-so-long-that-no-terminal-has-the-room-for-anything-beside-it"
NAMES = ("a.png", "猫の写真.png", "e\u0301te\u0301.png", "two words.png")


@pytest.fixture(scope="module")
def explained(tmp_path_factory):
    """A folder with photos of several names, and where their results are."""
    place = tmp_path_factory.mktemp("explained")
    for number, name in enumerate((*NAMES, f"{LONG}.png")):
        photo(place / "in" / name, number)
    (place / "in" / "broken.png").write_bytes(b"no image")
    labels = place / "labels.txt"
    labels.write_text("\n".join(["tabby", "猫", "a class of a name that is much longer than others", *"defghij"]))
    return place


def explain_in(place, *more, columns=80, **streams):
    os.chdir(place)
    return on_terminal("explain", *TINY_OPTIONS, "--labels", "labels.txt", "in", "out", "--force", *more,
                       columns=columns, **streams)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 200])
def test_class_score_and_kept_share_are_lined_up_behind_whole_paths(explained, columns):
    done = explain_in(explained, columns=columns, stderr=False)
    assert done.code == 1
    described = [line for line in done.lines if "kept" in line]
    assert len(described) == len(NAMES) + 1 and widest(described) <= columns
    assert len({width(line[: line.index("kept")]) for line in described}) == 1  # the numbers are in one column
    assert all(re.search(r"  +\d+%  kept +-?\d+%$", line) for line in described)
    for name in (*NAMES, f"{LONG}.png"):
        assert f"out/{name}.png" in "\n".join(done.lines), "paths are never cut, for they are copied"


@pytest.mark.slow
def test_a_pipe_gets_paths_alone_whatever_standard_error_is(explained):
    os.chdir(explained)
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (40, 80))
    line = command("explain", *TINY_OPTIONS, "in", "out", "--force")
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=follower, env=environment(TERM="xterm")) as running:
        os.close(follower)
        paths = running.stdout.read().decode().splitlines()
    os.close(leader)
    assert sorted(paths) == sorted(f"out/{name}.png" for name in (*NAMES, f"{LONG}.png"))


@pytest.mark.slow
def test_a_pipe_gets_paths_alone_also_where_code_makes_the_net(tmp_path):
    """Whose prints go to standard error, which is a terminal here."""
    photo(tmp_path / "a.png")
    (tmp_path / "net.py").write_text(NET)
    leader, follower = os.openpty()
    line = command("explain", "--model", "net.py:make", "--input-shape", "3,8,8", "--preprocessing", "unit", "a.png",
                   "out")  # fmt: skip
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=follower, env=environment(), cwd=tmp_path) as running:
        os.close(follower)
        paths = running.stdout.read()
    os.close(leader)
    assert (running.returncode, paths) == (0, b"out/a.png.png\n")


def one_class(label="tabby", score=0.5, kept=0.5):
    return ExplainedClass(Outputs({"map": "a.npy"}), 1, label, score, RelevanceRange(1, 2, 0, 1, kept=kept), 1.0)


def colours(parts):
    return [part.colour for line in parts for part in line if part.colour]


def test_what_speaks_against_a_map_has_a_colour():
    plain = colours(class_lines("a.png", one_class(), 10, 80))
    assert len(plain) == 1  # the class
    assert len(colours(class_lines("a.png", one_class(score=0.1), 10, 80))) == 2
    assert len(colours(class_lines("a.png", one_class(kept=-0.1), 10, 80))) == 2
    wrong, little = (colours(class_lines("a.png", one_class(kept=kept), 10, 80))[1] for kept in (-0.1, 0.1))
    assert wrong != little


def test_a_start_without_a_total_has_no_kept_share():
    (line,) = class_lines("a.png", one_class(kept=None), 10, 80)
    assert "kept" not in "".join(part.text for part in line)


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
    ids=str,
)
def test_colours_are_where_terminal_and_no_color_allow_them(variables, coloured):
    assert bool(COLOUR.search(on_terminal("models", "list", **variables).raw)) == coloured
    assert bool(COLOUR.search(on_terminal("status", "absent", **variables).raw)) == coloured


def test_a_pipe_gets_no_colours():
    for line in (("models", "list"), ("status", "absent")):
        done = process(*line, env=environment(TERM="xterm"))
        assert b"\x1b" not in done.stdout + done.stderr


def slow_torch(folder):
    """A folder for PYTHONPATH whose torch never gets ready."""
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text("import time\nwhile True: time.sleep(1)\n")
    return folder


def test_what_is_loaded_is_said_before_torch_and_before_the_options_are_read(tmp_path):
    photo(tmp_path / "a.png")
    leader, follower = os.openpty()
    env = environment(path=[slow_torch(tmp_path)])
    line = command("explain", "--model", "cifar10", tmp_path / "a.png", tmp_path / "out")
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=follower, env=env) as running:
        os.close(follower)
        written = b""
        while b"loading cifar10 ..." not in written:
            written += os.read(leader, 4096)
        running.kill()
    os.close(leader)


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        (("explain", "a.jpg"), {}, "loading caffenet-small ..."),
        (("explain", "--model", "cifar10", "a.jpg"), {}, "loading cifar10 ..."),
        (("evaluate", "--model=net.onnx"), {}, "loading net.onnx ..."),
        (("tune",), {"LRP_MODEL": "alexnet"}, "loading alexnet ..."),
        (("explain", "--model", "\x1b[2J"), {}, ""),
        (("explain", "-q"), {}, ""),
        (("explain", "-vq"), {}, ""),
        (("explain", "--help"), {}, ""),
        (("explain", "--show-settings"), {}, ""),
        (("explain",), {"_LRP_COMPLETE": "bash_complete"}, ""),
        (("status", "out"), {}, ""),
        ((), {}, ""),
    ],
)
def test_what_is_said_at_once(monkeypatch, words, environment, said):
    written = []
    monkeypatch.setattr("os.isatty", lambda number: True)
    monkeypatch.setattr("os.get_terminal_size", lambda number: os.terminal_size((80, 24)))
    monkeypatch.setattr("os.write", lambda number, data: written.append(data.decode()))
    say_loading_at_once(["/usr/bin/lrp", *words], environment)
    assert "".join(written) == said and shown == ([len(said)] if said else [])
    shown.clear()


def test_a_program_of_another_name_says_nothing(monkeypatch):
    monkeypatch.setattr("os.isatty", lambda number: True)
    say_loading_at_once(["/usr/bin/pytest", "explain"], {})
    assert shown == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [("explain", "in", "out", "--force"), ("explain", "absent", "out"), ("models", "labels", "cifar10")],
    ids=" ".join,
)  # fmt: skip
def test_the_line_about_loading_is_erased(explained, arguments):
    os.chdir(explained)
    done = on_terminal(*arguments)
    assert "loading" in done.text and not any("loading" in line for line in done.lines)


TABLES = {
    "models list": ("models", "list"),
    "configs list": ("configs", "list"),
    "configs show NAME": ("configs", "show", "epsilon-over-beta-0"),
    "configs show NAME --model M": ("configs", "show", "epsilon-over-beta-0", "--model", "caffenet-small"),
    "models show": ("models", "show", "caffenet"),
}


@pytest.mark.parametrize("columns", [30, 60, 80, 200])
@pytest.mark.parametrize("arguments", TABLES.values(), ids=TABLES)
def test_tables_fit_the_terminal_and_names_stay_whole(monkeypatch, arguments, columns):
    piped = lrp(*arguments).stdout
    as_if_on_terminal(monkeypatch, columns)
    done = lrp(*arguments)
    assert done.exit_code == 0
    too_long = [line for line in done.stdout.splitlines() if widest([line]) > columns]
    assert all(len(line.split()) <= 2 for line in too_long), "only what is copied, such as hashes, takes more"
    names = {line.split()[0] for line in piped.splitlines() if line and not line.startswith(" ")}
    assert names - {"name", "layer"} <= set(done.stdout.split())


def test_a_narrow_table_says_what_it_leaves_out_and_a_wide_one_leaves_nothing_out(monkeypatch):
    piped = lrp("models", "list").stdout.splitlines()
    assert len(piped) == 1 + len(list_entries())
    as_if_on_terminal(monkeypatch, 60)
    narrow = lrp("models", "list").stdout.splitlines()
    assert "Left out for want of room: sources; --json has all." in narrow
    for entry in list_entries():
        assert f"    {entry.title}" in narrow
    as_if_on_terminal(monkeypatch, 200)
    assert lrp("models", "list").stdout.splitlines() == piped


@pytest.mark.slow
def test_a_real_terminal_of_60_columns_has_a_table_that_fits(tmp_path):
    done = on_terminal("models", "list", columns=60)
    assert done.code == 0 and 20 < widest(done.lines) <= 60


def test_configs_in_a_pipe_have_a_line_each():
    lines = lrp("configs", "list").stdout.splitlines()
    assert len(lines) == len(json.loads(lrp("configs", "list", "--json").stdout))


def test_ctrl_c_while_a_model_is_loaded_erases_the_line(tmp_path):
    photo(tmp_path / "a.png")
    leader, follower = os.openpty()
    env = environment(path=[slow_torch(tmp_path)])
    line = command("models", "show", "cifar10")
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=follower, env=env) as running:
        os.close(follower)
        written = b""
        while b"loading" not in written:
            written += os.read(leader, 4096)
        running.send_signal(signal.SIGINT)
        written += read_all(leader)
    assert running.returncode == -signal.SIGINT
    assert written.decode().rstrip("\r").rpartition("\r")[2].strip() == ""


def test_labels_are_listed_and_searched():
    every = lrp("models", "labels", "caffenet-small").stdout.splitlines()
    rows = json.loads(lrp("models", "labels", "caffenet-small", "--json").stdout)
    assert [line.split("\t")[0] for line in every] == [str(number) for number in range(len(rows))]
    assert all(line.split("\t")[1].startswith(row["label"]) for line, row in zip(every, rows, strict=True))
    found = lrp("models", "labels", "caffenet-small", "CAT").stdout.splitlines()
    assert found == [line for line in every if "cat" in line.partition("\t")[2].lower()] and found
    one = lrp("models", "labels", "cifar10", "frog", "--json")
    assert json.loads(one.stdout) == [{"index": 6, "label": "frog", "synonyms": ["frog"], "synset": None}]


def test_labels_of_a_file_and_of_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = tmp_path / "names.txt"
    names.write_text("\n".join([f"n0000000{number} name {number}, other" for number in range(10)]))
    listed = lrp("models", "labels", *TINY_OPTIONS[1:], "--labels", names)
    assert listed.exit_code == 0 and listed.stdout.splitlines()[3] == "3\tname 3, other"
    by_synset = lrp("models", "labels", *TINY_OPTIONS[1:], "n00000004", "--labels", names, "--json")
    assert json.loads(by_synset.stdout)[0]["synset"] == "n00000004"
    (tmp_path / "net.py").write_text(NET)
    code = lrp("models", "labels", "net.py:make", "--input-shape", "3,8,8", "--labels", names, "name 7")
    assert code.stdout.splitlines() == ["7\tname 7, other"]


def test_labels_that_are_not_known_are_a_sentence():
    unknown = lrp("models", "labels", *TINY_OPTIONS[1:])
    assert unknown.exit_code == 2 and "are not known" in unknown.stderr and "--labels FILE" in unknown.stderr
    none = lrp("models", "labels", "cifar10", "frogg")
    assert none.exit_code == 2 and "Did you mean 'frog'?" in none.stderr
    nothing = lrp("models", "labels", "cifar10", "zzz")
    assert nothing.exit_code == 2 and "lists all" in nothing.stderr


@pytest.mark.parametrize("words", [(), ("explain",), ("models",), ("models", "show"), ("help",)], ids=" ".join)
def test_help_is_what_the_option_prints(words):
    helped, asked = lrp("help", *words), lrp(*words, "--help")
    assert helped.exit_code == asked.exit_code == 0 and helped.stdout == asked.stdout


def test_help_of_nothing_known_is_a_sentence():
    wrong = lrp("help", "models", "labls")
    assert wrong.exit_code == 2 and "models labls'. Did you mean 'labels'?" in wrong.stderr
    further = lrp("help", "explain", "it")
    assert further.exit_code == 2 and "explain' has no commands" in further.stderr


def test_one_image_alone_goes_to_the_usual_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of_photos(tmp_path, 1)
    done = lrp("explain", *TINY_OPTIONS, "0.png")
    assert done.exit_code == 0 and done.stdout == "lrp-out/0.png.png\n"
    assert "the results go to lrp-out" in done.stderr


@pytest.mark.parametrize(
    ("widths", "usual"),
    [([], 0), ([5], 5), ([5, 40], 40), ([10] * 19 + [90], 50), ([60] * 19 + [90], 60), ([10, 90, 90], 90)],
)
def test_a_few_long_names_move_nothing_to_the_right(widths, usual):
    assert usual_width(["x" * columns for columns in widths]) == usual
