"""`lrp` as real processes, with a tiny net, and what they leave behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from PIL import Image

from lrpcli.cli import main
from tests.photos import TINY

ROOT = Path(__file__).resolve().parents[2]
TINY_OPTIONS = ("--model", TINY, "--input-shape", "3,32,32", "--preprocessing", "caffe")


def command(*arguments):
    return [sys.executable, "-m", "lrpcli", *(os.fsdecode(argument) for argument in arguments)]


NOBODY = 20000 + os.getpid() % 40000
"""A user of whom there is no entry, and who has no process but those of this one."""


def environment(**changes):
    """This process's environment with the project importable; LRP_* variables are those given alone."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LRP_", "SLURM_"))}
    path = os.pathsep.join(str(part) for part in (*changes.pop("path", ()), ROOT))
    return {**kept, "PYTHONPATH": path, **changes}


def explain(*arguments, options=TINY_OPTIONS, env=None, stdin=None):
    """A finished `lrp explain` in this process; its decoding runs in others, which get the environment."""
    result = lrp("explain", *options, *arguments, env=env, stdin=stdin)
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout_bytes, result.stderr_bytes)


def lrp(*arguments, env=None, stdin=None):
    """A finished command in this process."""
    unset = {name: None for name in os.environ if name.startswith(("LRP_", "SLURM_"))}
    return CliRunner().invoke(
        main, [str(argument) for argument in arguments], env={**unset, **(env or {})}, input=stdin
    )


def process(*arguments, env=None, **keywords):
    """A finished `lrp` as a process of its own."""
    line = command(*map(str, arguments))
    return subprocess.run(line, capture_output=True, check=False, timeout=300, env=env or environment(), **keywords)


def started(*arguments, options=TINY_OPTIONS, env=None, **keywords):
    """An `lrp explain` that runs."""
    keywords = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **keywords}
    return subprocess.Popen(command("explain", *options, *map(str, arguments)), env=env or environment(), **keywords)


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def journal(output, name="journal-1-of-1.jsonl"):
    return [json.loads(line) for line in (Path(output) / ".lrp" / name).read_bytes().splitlines() if _is_json(line)]


def _is_json(line):
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def tree(output):
    """Every file of an output folder but the journals: relative path to content."""
    output = Path(output)
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and ".lrp" not in path.relative_to(output).parts
    }


def leftovers(output):
    return [path for path in Path(output).rglob("*") if path.name.endswith(".tmp")]


def require_whole(output):
    """Every picture and map opens; nothing temporary is left."""
    assert leftovers(output) == []
    for path in Path(output).rglob("*"):
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".npy":
            assert np.isfinite(np.load(path, allow_pickle=False).astype(np.float64)).all()


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def killed(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


INJECTION = """
import os, time
import PIL.Image as image
original = image.open
def hostile(stream, *arguments, **keywords):
    name = os.path.basename(getattr(stream, 'name', '') if isinstance(getattr(stream, 'name', ''), str) else '')
    if not name:
        try: name = os.path.basename(os.readlink('/proc/self/fd/%d' % stream.fileno()))
        except Exception: name = ''
    if name and name != 'diverging.png' and 'TOUCH' in os.environ: open(os.environ['TOUCH'], 'a').close()
    if name.startswith('hang'):
        os.write(2, b'about to hang\\n')
        while True: pass
    if name.startswith('slow'): time.sleep(float(os.environ.get('SLOW', '0.3')))
    if name.startswith('segfault'):
        os.write(2, b'about to \\x1b[31mdie\\n')
        os.kill(os.getpid(), 11)
    if name.startswith('once'):
        marker = os.environ['MARKER']
        if not os.path.exists(marker):
            open(marker, 'x').close()
            os.kill(os.getpid(), 9)
    if name.startswith('greedy'): bytearray(20 << 30)
    if name.startswith('noisy'): os.write(2, b'libfake: odd \\x1b[2Jtag\\n')
    return original(stream, *arguments, **keywords)
image.open = hostile
"""
DEADLY = """
import os, sys, time
def hostile(event, arguments):
    if event == 'os.rename':
        name = os.path.basename(os.fspath(arguments[1]))
        if name.startswith('deadly') and name.endswith('.npy'): os.kill(os.getpid(), 9)
        if name.startswith('stuck'): time.sleep(1000)
sys.addaudithook(hostile)
"""


def hostile_decoder(folder):
    """A folder for PYTHONPATH under which decoding files called hang*, segfault*, once*, noisy*, greedy* does that."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(INJECTION)
    return folder


def hostile_writer(folder):
    """A folder for PYTHONPATH under which writing results called deadly* kills the run, and of stuck* never ends."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(DEADLY)
    return folder
