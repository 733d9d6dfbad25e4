"""Shards that pack and are killed: every image lies in one tar, once, and is written down once."""

import json
import subprocess
import sys

import pytest

from tests.resilience.runs import environment


def test_shards_that_are_killed_at_random_hold_every_image_once():
    """In a process of its own, as forks of one with threads may hang. By hand: tests.records.pack_kills 20 8"""
    pytest.importorskip("pyarrow")
    line = [sys.executable, "-m", "tests.records.pack_kills", "8", "3", "90"]
    result = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
    found = json.loads(result.stdout or "{}")
    assert found.pop("killed", 0) >= 4 and found.pop("tars") >= 9, result.stderr
    assert found == {
        "exit": 0, "images": 90, "done twice": 0, "members": 180, "equal": True, "left open": 0,
        "rows in the index": 90,
    }  # fmt: skip
