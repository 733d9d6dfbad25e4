"""What damages files keeps their structure, and what watches a reader sees what it does elsewhere."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest

from tests.fuzz import campaign, structure, tokens, wire
from tests.fuzz.dictionary import OF
from tests.models.files import TINY, as_v1, write_caffemodel
from tests.resilience.mutations import KEPT, TARGETS, kept
from tests.resilience.runs import environment


def unchanged(data):
    return data


@pytest.fixture
def message(tmp_path):
    return write_caffemodel(tmp_path / "net.caffemodel", {"fc2": [np.ones((4, 2), np.float32)]}, TINY).read_bytes()


def test_messages_are_taken_apart_and_put_together(message):
    fields = wire.parsed(message)
    assert fields is not None and len(fields) > 5
    assert wire.serialised(fields) == message
    assert wire.parsed(message[:-1]) is None
    assert wire.parsed(b"\x0f") is None  # a tag of no kind


def test_damaged_messages_are_messages_still(message):
    other = message[::-1]
    found = [wire.damaged(random.Random(seed), message, other, unchanged) for seed in range(200)]
    assert all(wire.parsed(data) is not None for data in found)
    assert len(set(found)) > 100


def test_damaged_text_keeps_most_of_its_words():
    text, other = TINY.encode(), as_v1(TINY).encode()
    for seed in range(200):
        found = tokens.damaged(random.Random(seed), text, other, (b"word",))
        assert abs(len(found) - len(text)) < 300
    assert tokens.damaged(random.Random(0), b" \n", b"", (b"word",)).strip() in (b"", b"word")


def test_a_damaged_header_has_its_length():
    header = b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    data = len(header).to_bytes(8, "little") + header + b"1234"
    for seed in range(100):
        found = tokens.damaged_header(random.Random(seed), data, data, (b"word",))
        assert found.endswith(b"1234") and int.from_bytes(found[:8], "little") == len(found) - 12


def test_every_word_belongs_to_a_target_and_every_target_has_its_hour():
    assert OF.keys() <= TARGETS.keys()
    assert {*structure.MESSAGES, *structure.BINARY} <= TARGETS.keys()
    fuzzed = [target for targets in campaign.GROUPS.values() for target in targets]
    assert len(fuzzed) == len(set(fuzzed)) and set(fuzzed) <= TARGETS.keys()


def test_what_is_kept_belongs_to_a_target():
    assert {path.name for path in KEPT.iterdir()} <= {name.replace(" ", "-") for name in TARGETS}
    assert any(kept(name) for name in TARGETS)


WATCHED = """
import os, socket, subprocess, sys
from pathlib import Path
from tests.fuzz.outside import Watch
inside, outside = Path(sys.argv[1]), Path(sys.argv[2])
watch = Watch(inside)
deeds = {
    "writes inside": lambda: (inside / "a").write_text("a"),
    "reads inside": lambda: (inside / "a").read_text(),
    "reads Python": lambda: Path(os.__file__).read_text(),
    "moves inside": lambda: os.rename(inside / "a", inside / "b"),
    "reads": lambda: (outside / "secret").read_text(),
    "reads through ..": lambda: open(f"{inside}/../out/secret").read(),
    "writes": lambda: (outside / "a").write_text("a"),
    "removes": lambda: (outside / "secret").unlink(),
    "makes a folder": lambda: (outside / "folder").mkdir(),
    "moves out": lambda: os.rename(inside / "b", outside / "b"),
    "starts a program": lambda: subprocess.run(["true"]),
    "asks the network": lambda: socket.socket().connect(("127.0.0.1", 1)),
}
for name, deed in deeds.items():
    try:
        with watch.watching():
            try:
                deed()
            except OSError:
                pass
    except AssertionError:
        print(name)
"""


def test_what_is_done_elsewhere_is_seen(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("x")
    line = [sys.executable, "-c", WATCHED, inside, outside]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=environment(), cwd=os.fspath(inside))
    assert done.stdout.splitlines() == [
        "reads", "reads through ..", "writes", "removes", "makes a folder", "moves out", "starts a program",
        "asks the network",
    ]  # fmt: skip
