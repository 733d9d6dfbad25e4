"""Whatever a file says or is called, a terminal shows it as text, in the line where it belongs."""

import csv
import io
import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image

import lrpcli.cli
from tests.attacks.test_attacks import CONTROL
from tests.models.files import TINY, random_blobs, write_safetensors
from tests.photos import folder_of_photos, photo
from tests.resilience.runs import TINY_OPTIONS, environment, explain, lrp, process

HOSTILE = "\x1b[31m\x9b2J\x1b]8;;http://x\x07\u202e\u2066\x7f\rx\nError: forged"
"""Colours, a cleared screen, a link, text turned round, and a line that looks like one of ours."""


def require_harmless(result):
    text = result.stdout + result.stderr
    assert text and not CONTROL.search(text), text
    assert not re.search("^Error: forged", text, re.MULTILINE), text
    assert "This is a bug" not in text
    return result


def test_one_module_alone_writes_to_the_streams():
    folder = Path(lrpcli.cli.__file__).parent
    writers = re.compile(r"\bprint\(|\becho\(|std(out|err)\.(buffer|write)")
    found = {path.name for path in folder.glob("*.py") if writers.search(path.read_text(encoding="utf-8"))}
    assert found == {"terminal.py"}


@pytest.mark.parametrize(
    "arguments",
    [
        (HOSTILE,),
        (f"--{HOSTILE}",),
        ("explain", f"--{HOSTILE}"),
        ("explain", HOSTILE, "out"),
        ("explain", "in", "out", "--style", HOSTILE),
        ("explain", "in", "out", "-b", HOSTILE),
        ("explain", "in", "out", "--model", HOSTILE),
        ("explain", "in", "out", "--model", f"{HOSTILE}.safetensors"),
        ("explain", "in", "out", "--settings", HOSTILE),
        ("explain", "--files-from", HOSTILE, "out"),
        ("explain", HOSTILE, "out", "-vv"),
        ("status", HOSTILE),
        ("status", HOSTILE, "-vv"),
        ("configs", "show", HOSTILE),
        ("configs", "check", f"{HOSTILE}.toml"),
        ("models", "show", HOSTILE),
        ("models", "fetch", HOSTILE),
        ("completion", HOSTILE),
    ],
    ids=lambda arguments: " ".join(arguments).replace(HOSTILE, "_"),
)
def test_what_is_given_and_refused(tmp_path, monkeypatch, arguments):
    """As `lrp explain *` gives the names of files that somebody else made."""
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "in" / "a.png")
    assert require_harmless(lrp(*arguments)).exit_code in (2, 3)


def test_names_of_variables_and_keys_of_settings(tmp_path):
    assert require_harmless(lrp("configs", "list", env={f"LRP_{HOSTILE}": "1"})).exit_code == 2
    file = tmp_path / "settings.toml"
    file.write_text(f"{json.dumps(HOSTILE)} = 1")
    assert require_harmless(lrp("explain", "--settings", file, "in", "out")).exit_code == 2
    assert require_harmless(lrp("env", env={"LRP_STYLE": HOSTILE})).exit_code == 0
    assert require_harmless(lrp("explain", "--show-settings", env={"LRP_STYLE": HOSTILE})).exit_code in (0, 2)


def test_configs_of_hostile_names_and_content(tmp_path):
    good, bad = tmp_path / f"{HOSTILE.replace('/', '')}.toml", tmp_path / "bad.toml"
    good.write_text(f'description = {json.dumps(HOSTILE)}\nsource = {json.dumps(HOSTILE)}\n[name]\n'
                    f'{json.dumps(HOSTILE)} = {{ rule = "epsilon", epsilon = 0.1 }}\n')  # fmt: skip
    assert require_harmless(lrp("configs", "check", good)).exit_code == 0
    assert require_harmless(lrp("configs", "show", good)).exit_code == 0
    assert require_harmless(lrp("configs", "show", good, "--model", *TINY_OPTIONS[1:])).exit_code == 2  # no such layer
    bad.write_text(f"[name]\na = {json.dumps(HOSTILE)}\n")
    assert require_harmless(lrp("configs", "check", bad)).exit_code == 2


def test_a_model_that_describes_itself_with_terminal_escapes(tmp_path):
    prototxt = tmp_path / "tiny.prototxt"
    prototxt.write_text(TINY)
    model = write_safetensors(
        tmp_path / "own.safetensors", random_blobs(prototxt), prototxt=TINY, licence=HOSTILE,
        accuracy={HOSTILE: HOSTILE}, **{HOSTILE: "x"},
    )  # fmt: skip
    shown = require_harmless(lrp("models", "show", model))
    assert shown.exit_code == 0 and "licence" in shown.stdout
    assert json.loads(require_harmless(lrp("models", "show", model, "--json")).stdout)["licence"] == HOSTILE


def test_what_a_journal_says(tmp_path):
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_bytes(b"no image")
    assert explain(tmp_path / "in", tmp_path / "out").returncode == 1
    journal = tmp_path / "out" / ".lrp" / "journal-1-of-1.jsonl"
    journal.write_text(journal.read_text().replace('"kind": "decode"', f'"kind": {json.dumps(HOSTILE)}'))
    require_harmless(lrp("status", tmp_path / "out"))
    require_harmless(lrp("status", tmp_path / "out", "--json"))


def test_json_is_valid_whatever_it_holds(tmp_path):
    result = require_harmless(lrp("env", "--json", env={"LRP_STYLE": "\x7f\x9b"}))
    assert json.loads(result.stdout)["variables"]["LRP_STYLE"] == "\x7f\x9b"


def test_paths_on_a_pipe_are_their_exact_bytes(tmp_path):
    """A program reads them; a terminal gets escapes (tests/attacks)."""
    cache = os.fsencode(tmp_path) + b"/\x1b[31m\xff"
    result = process("models", "path", env=environment(LRP_CACHE_DIR=os.fsdecode(cache)))
    assert result.stdout == cache + b"\n"


def test_labels_and_names_of_configs_neither_break_the_pictures_of_an_evaluation_nor_compute(tmp_path):
    """Formulas for matplotlib and for spreadsheets, names that legends leave out, and endless ones."""
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join([f"=cmd|' /C calc'!A0 $\\frac{{ {'x' * 5000} \x1b[31m"] * 10))
    configs = [tmp_path / f"{name}.toml" for name in ("@$\\frac{$", "_left out", "=1+1\nx\x1b[31m")]
    for config in configs:
        config.write_text('[kind]\nlinear = "epsilon"\n')
    folder_of_photos(tmp_path / "in", 2)
    arguments = [part for config in configs for part in ("--config", config)]
    result = lrp("evaluate", tmp_path / "in", "-o", tmp_path / "out", *TINY_OPTIONS, "--labels", labels, *arguments,
                 "--steps", 2, "--order", "morf", "--control", "none")  # fmt: skip
    assert require_harmless(result).exit_code == 0, result.stderr
    for name in ("curves.png", "strip.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            picture.load()
    table = list(csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text(), newline="")))
    assert len(table) == 6
    for row in table:
        assert row["label"].startswith("'=cmd") and not CONTROL.search(row["label"])
        assert row["config"][0] not in "=+-@"
