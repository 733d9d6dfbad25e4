"""A sample of the points of kill_points.py; by hand all of them."""

import json
import subprocess
import sys

import pytest

from tests.resilience.runs import environment


@pytest.mark.slow
def test_a_run_killed_at_any_point_and_run_again_is_whole_and_equal():
    """In a process of its own, as forks of one with threads, such as those of the test runner, may hang."""
    line = [sys.executable, "-m", "tests.resilience.kill_points", "20", "5"]
    result = subprocess.run(line, env=environment(OMP_NUM_THREADS="1"), capture_output=True, text=True, check=False)
    rows = [json.loads(row) for row in result.stdout.splitlines()]
    assert [row["command"] for row in rows] == ["explain", "explain --pack", "evaluate"], result.stderr
    for row, points in zip(rows, (300, 100, 100), strict=True):
        assert row["points"] >= points and row["killed"] >= row["tried"] >= points // 20 and row["faults"] == {}, row
