"""Commands that write below a URL and are killed: at the end every image is there once and whole."""

import json
import subprocess
import sys

import pytest

from tests.remote.server import same_environment


@pytest.mark.slow
def test_commands_that_are_killed_at_random_leave_every_image_once(s3):
    """In a process of its own. By hand, with more of them: python -m tests.remote.kills 20"""
    line = [sys.executable, "-m", "tests.remote.kills", "3", "1", "12"]
    result = subprocess.run(line, env=same_environment(), capture_output=True, text=True, check=False)
    found = json.loads(result.stdout or "{}")
    assert found.pop("killed", 0) >= 1, result.stderr
    found.pop("done again")  # what no piece of the journal held at the kill
    assert found == {"exit": 0, "images": 12, "done": 12, "missing": 0, "rows": 12, "equal": True}
