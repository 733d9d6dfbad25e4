"""Runnable demonstrations of what hostile files cannot do to `lrp explain`."""

import contextlib
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import time

import numpy as np
import pytest
from PIL import Image

from tests.images.pictures import png
from tests.models.files import varint
from tests.photos import folder_of_photos, photo
from tests.resilience.runs import TINY_OPTIONS, command, environment, explain, lrp, process, rows

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


class Attack:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


@pytest.mark.parametrize("name", ["a.caffemodel", "a.caffemodel.h5", "a.safetensors", "a.pt", "a.pth"])
def test_a_pickle_for_weights_runs_nothing(tmp_path, name):
    marker = tmp_path / "owned"
    (tmp_path / name).write_bytes(pickle.dumps(Attack(marker)))
    result = explain(photo(tmp_path / "a.png"), tmp_path / "out", options=("--model", tmp_path / name))
    assert result.returncode == 2 and b"This is a bug" not in result.stderr and not marker.exists()
    named = explain(
        photo(tmp_path / "a.png"), tmp_path / "out", options=("--model", "caffenet", "--weights", tmp_path / name)
    )
    assert named.returncode == 2 and not marker.exists()
    pickle.loads(pickle.dumps(Attack(marker))).close()
    assert marker.exists(), "the attack itself works"


def test_a_mean_image_is_no_way_in_for_a_pickle(tmp_path):
    marker = tmp_path / "owned"
    np.save(tmp_path / "mean.npy", np.array([Attack(marker)], dtype=object), allow_pickle=True)
    result = explain(photo(tmp_path / "a.png"), tmp_path / "out", "--mean", tmp_path / "mean.npy")
    assert result.returncode == 2 and not marker.exists()


@pytest.mark.parametrize("length", [2**31 - 1, 2**40, 2**63])
def test_a_caffemodel_that_lies_about_lengths_takes_neither_time_nor_memory(tmp_path, length):
    path = tmp_path / "liar.caffemodel"
    path.write_bytes(b"\x0a\x04liar" + b"\xa2\x06" + varint(length) + b"\x0a\x01x")  # field 100, a layer
    started = time.process_time()
    result = explain(photo(tmp_path / "a.png"), tmp_path / "out", options=("--model", path, "--input-shape", "3,32,32"))
    assert result.returncode == 2 and b"liar.caffemodel" in result.stderr and b"This is a bug" not in result.stderr
    assert time.process_time() - started < 20


def test_decompression_bombs_and_postscript_are_never_decoded(tmp_path):
    source = folder_of_photos(tmp_path / "in", 1)
    (source / "bomb.png").write_bytes(png(30_000, 30_000, 8, 2, b""))
    (source / "wide.png").write_bytes(png(2**31 - 1, 1, 8, 2, b""))
    Image.new("RGB", (4000, 4000)).save(source / "small bomb.png")
    bombed = b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x00\x00\x00," + struct.pack("<HHHH", 0, 0, 65535, 65535)
    (source / "bomb.gif").write_bytes(bombed + b"\x00\x08\x00;")
    marker = tmp_path / "owned"
    (source / "program.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
        f"({marker}) (w) file closefile\n(%pipe%touch {marker}) (r) file\nshowpage\n%%EOF\n"
    )
    shutil.copy(source / "program.png", source / "program.eps")
    result = explain(source, tmp_path / "out", "--all-files", "--json", "--max-pixels", "9000000")
    kinds = {row["input"].rpartition("/")[2]: row.get("error", {}).get("kind") for row in rows(result)[:-1]}
    assert kinds == {
        "0.png": None, "bomb.gif": "too_large", "bomb.png": "too_large", "wide.png": "too_large",
        "small bomb.png": "too_large", "program.png": "decode", "program.eps": "decode",
    }  # fmt: skip
    assert not marker.exists()
    assert explain(source, tmp_path / "out2", "--allow-format", "EPS").returncode == 2


TOML = {
    "not a number": "[kind]\nlinear = { rule = 'epsilon', epsilon = nan }",
    "infinite": "[kind]\nlinear = { rule = 'epsilon', epsilon = 1e999 }",
    "negative": "[kind]\nlinear = { rule = 'epsilon', epsilon = -1 }",
    "text": "[kind]\nlinear = { rule = 'epsilon', epsilon = '0.1; rm -rf /' }",
    "a rule that is code": '[kind]\nlinear = { rule = \'__import__("os").system("id")\' }',
    "a pattern without end": "[name]\n'(a+)+$' = { rule = 'epsilon', epsilon = [1] }",
    "an enormous integer": "[kind]\nlinear = { rule = 'epsilon', epsilon = " + "9" * 400 + " }",
    "deep": "a = " + "[" * 20_000 + "]" * 20_000,
    "binary": "\x00\x01",
    "escapes": "'\\u001b[2J' = 1",
}


@pytest.mark.parametrize("text", TOML.values(), ids=TOML)
def test_composites_with_absurd_values_are_refused(tmp_path, text):
    path = tmp_path / "hostile.toml"
    path.write_text(text)
    result = explain(photo(tmp_path / "a.png"), tmp_path / "out", "--config", path)
    assert result.returncode == 2, result.stderr
    assert b"This is a bug" not in result.stderr and not CONTROL.search(result.stderr.decode())
    assert not (tmp_path / "out").exists()


HOSTILE_LABELS = ["\x1b[2J\x1b]0;owned\x07", "\x9b31mred", "<script>alert(1)</script>", "\u202egnp.exe", "a\x01b",
                  "{}%s", "'; DROP TABLE", "\\", '"quoted"', "plain"]  # fmt: skip


@pytest.mark.slow
def test_labels_with_terminal_escapes_and_markup_reach_no_terminal(tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(HOSTILE_LABELS))
    path = photo(tmp_path / "in" / "a.png")
    for target in range(9):
        result = explain(
            path, tmp_path / f"out{target}", "--labels", labels, "--target", target, "--json", "--save", "map"
        )
        assert result.returncode == 0, result.stderr
        assert not CONTROL.search((result.stdout + result.stderr).decode())
        assert rows(result)[0]["label"] == HOSTILE_LABELS[target].split(",")[0], "JSON gives the label back as it is"
        journal = (tmp_path / f"out{target}" / ".lrp" / "journal-1-of-1.jsonl").read_text()
        assert not CONTROL.search(journal)
    wrong = explain(path, tmp_path / "out", "--labels", labels, "--target", "\x1b[2Jpla")
    assert wrong.returncode == 2 and not CONTROL.search(wrong.stderr.decode())
    shown = lrp("models", "show", *TINY_OPTIONS[1:], "--labels", labels)
    assert not CONTROL.search(shown.output)


def test_a_composite_with_terminal_escapes_is_shown_as_text(tmp_path):
    path = tmp_path / "odd.toml"
    path.write_text('description = "\\u001b[2J\\u009b31m"\n[kind]\nlinear = { rule = "epsilon", epsilon = 0.1 }\n')
    result = lrp("configs", "show", path)
    assert result.exit_code == 0 and "\\x1b[2J\\x9b31m" in result.stdout and not CONTROL.search(result.stdout)


def test_names_with_terminal_escapes_are_shown_as_text(tmp_path):
    (tmp_path / "in").mkdir()
    photo(tmp_path / "a.png").rename(tmp_path / "in" / "\x1b[2J\x9bevil.png")
    (tmp_path / "in" / "\x1b]0;b.png").write_bytes(b"no image")
    result = explain(tmp_path / "in", tmp_path / "\x1b[31mout", "--json")
    assert result.returncode == 1
    assert not CONTROL.search((result.stdout + result.stderr).decode())
    assert rows(result)[0]["input"].endswith("\x1b[2J\x9bevil.png")
    assert json.loads(result.stdout.splitlines()[0])["status"] == "ok"


@pytest.mark.slow
def test_on_a_terminal_paths_are_harmless_too(tmp_path):
    (tmp_path / "in").mkdir()
    photo(tmp_path / "a.png").rename(tmp_path / "in" / "\x1b[2J\nevil.png")
    leader, follower = os.openpty()
    line = command("explain", *TINY_OPTIONS, "-q", tmp_path / "in", tmp_path / "out")
    with subprocess.Popen(line, stdout=follower, env=environment()) as running:
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):
            while chunk := os.read(leader, 4096):
                shown += chunk
    os.close(leader)
    assert running.returncode == 0
    assert set(re.findall(rb"\x1b[^m]*m?", shown)) <= {b"\x1b[1m", b"\x1b[0m"}  # bold and not, of the class
    plain = re.sub(rb"\x1b\[[01]m", b"", shown).replace(b"\r\n", b"\n")
    path, class_of_it = os.fsencode(tmp_path) + b"/out/\\x1b[2J\\nevil.png.png", rb"\s+class \d +\d+%  kept +-?\d+%\n"
    assert re.fullmatch(re.escape(path) + class_of_it, plain)
    assert b"\x1b" in process("explain", *TINY_OPTIONS, "-q", tmp_path / "in", tmp_path / "out").stdout


def test_a_hostile_journal_reads_and_writes_nothing_outside(tmp_path):
    """Paths in a journal are looked at, never written; a name that leads out is only ever asked for its existence."""
    source, out = folder_of_photos(tmp_path / "in", 1), tmp_path / "out"
    explain(source, out)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / ".lrp-1-of-1-0123456789abcdef.tmp").write_text("mine")
    line = {"type": "start", "name": "../victim/x.png", "time": 1}
    with (out / ".lrp" / "journal-1-of-1.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    assert explain(source, out).returncode == 0
    assert (victim / ".lrp-1-of-1-0123456789abcdef.tmp").exists()
