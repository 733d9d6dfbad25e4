"""Runs that the system gives too little of something: a sentence and exit 3, or a finished run; never a bug."""

import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.photos import folder_of_photos
from tests.resilience.runs import NOBODY, TINY_OPTIONS, command, environment, require_whole

pytestmark = pytest.mark.slow
SENTENCES = ("needs more memory than there is", "too little memory", "No thread can be started",
             "No process can be started", "cannot be started", "cannot be loaded")  # fmt: skip


def run(folder, limit, value, before=()):
    line = [*before, *command("explain", *TINY_OPTIONS, folder / "in", folder / "out", "-j", "2")]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=300, cwd=folder,
                          env=environment(MPLCONFIGDIR=str(folder)),
                          preexec_fn=lambda: resource.setrlimit(limit, (value, value)))  # fmt: skip


def require_clean_end(result, out):
    assert result.returncode in (0, 1, 3), result.stderr
    assert "This is a bug" not in result.stderr and "Traceback" not in result.stderr, result.stderr
    if result.returncode == 3:
        assert any(sentence in result.stderr for sentence in SENTENCES), result.stderr
    if out.exists():
        require_whole(out)


@pytest.mark.parametrize("megabytes", [500, 1000, 2000, 3000, 4000, 6000])
def test_little_memory(tmp_path, megabytes):
    folder_of_photos(tmp_path / "in", 4)
    require_clean_end(run(tmp_path, resource.RLIMIT_AS, megabytes << 20), tmp_path / "out")


BEFORE = ["setpriv", f"--reuid={NOBODY}", "--clear-groups", "--inh-caps=+dac_read_search",
          "--ambient-caps=+dac_read_search", "--bounding-set=-sys_resource,-sys_admin"]  # fmt: skip
"""Root has no limit of processes, so it becomes somebody else, who may still read the project."""


@pytest.fixture
def before():
    """What a command that is to have a limit of processes begins with."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None or subprocess.run([*BEFORE, "true"], check=False).returncode != 0:
        pytest.skip("root cannot give up its rights here")
    return BEFORE


@pytest.mark.parametrize("processes", [1, 3, 5, 8])
def test_few_processes_and_threads(before, processes):
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o777)
        folder_of_photos(folder / "in", 4)
        require_clean_end(run(folder, resource.RLIMIT_NPROC, processes, before), folder / "out")
