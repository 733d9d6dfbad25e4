"""The commands of the documentation run, page after page in reading order, in one folder.

Where a block shows what a command prints, it prints that: numbers of seconds and of images a second aside.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import torch

from tests.documentation.conftest import CLASSES
from tests.documentation.pages import ROOT, all_pages, blocks, in_reading_order

STAND_INS = {
    "lrp explain --model caffenet ": "lrp explain --model caffenet-small ",
    "--model torchvision:resnet50 ": "--model cifar10 ",
    "--model torchvision:resnet18 ": "--model cifar10 ",
    "--model timm:resnet18 photos/": "--model timm:resnet18 --weights mine.pth --labels names.txt photos/",
    "lrp evaluate ": "lrp evaluate --model cifar10 ",
    "lrp tune ": "lrp tune --model cifar10 --candidates 4 --steps 4 --region 8 ",
}
"""What is run in place of a model whose weights would have to be fetched, and of one that takes its time."""
REHEARSED = {
    "make ": f"make --dry-run -C {ROOT} ",
    "--out cheat.safetensors": "--epochs 1 --out rehearsed.safetensors",
    "--out honest.safetensors": "--epochs 1 --out rehearsed.safetensors",
    "training.shapes pictures shapes": "training.shapes pictures shapes --count 20",
    "training.shapes pictures honest": "training.shapes pictures honest --count 20",
}
"""What is put for parts of the commands of a block that is rehearsed: the same steps, in seconds."""
JQ = "import json, sys\nfor line in sys.stdin: print(json.dumps(json.loads(line).get(sys.argv[1][1:])))"
MINUTES = 5
PAGES = [
    page
    for page in dict.fromkeys([*in_reading_order(), *all_pages()])
    if any(block.runs and block.language in ("sh", "console") for block in blocks(page))
]


@pytest.fixture(scope="module")
def environment(folder):
    """The caller's variables, an empty cache, no network, and this very package as `lrp` on the PATH."""
    programs = folder / "programs"
    programs.mkdir()
    script(programs / "lrp", f'exec {shlex.quote(sys.executable)} -m lrpcli "$@"')
    script(programs / "python", f'exec {shlex.quote(sys.executable)} "$@"')
    if shutil.which("jq") is None:
        script(programs / "jq", f'exec {shlex.quote(sys.executable)} -c {shlex.quote(JQ)} "$@"')
    timm = pytest.importorskip("timm", reason="needs timm: pip install 'lrpcli[timm]'")
    torch.save(timm.create_model("resnet18", num_classes=CLASSES).state_dict(), folder / "mine.pth")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LRP_")}
    paths = {"PATH": f"{programs}:{kept['PATH']}", "PYTHONPATH": str(ROOT)}
    return {**kept, **paths, "LRP_CACHE_DIR": str(folder / "cache"), "LRP_OFFLINE": "1"}


@pytest.fixture
def tidied(folder, environment):
    """Takes away what a page makes: the next one begins with the photos alone, whichever it is."""
    before = {path.name for path in folder.iterdir()}
    yield
    for path in folder.iterdir():
        if path.name not in before:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def script(path, line):
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
@pytest.mark.usefixtures("tidied")
def test_commands_run(page, folder, environment):
    for block in blocks(page):
        if not block.runs or block.language not in ("sh", "console"):
            continue
        replaced = {**STAND_INS, **(REHEARSED if block.mark == "rehearsed" else {})}
        for command, shown in [(block.text, "")] if block.language == "sh" else steps(block.text):
            output = run(command, replaced, folder, environment, block.place)
            if shown:
                assert timeless(output) == timeless(shown), f"{block.place}: {command}"


def steps(text):
    """Commands behind "$ " and what is shown below each."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    assert parts[0] == "", f"a console block must begin with a command, not with {parts[0]!r}"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def run(command, replaced, folder, environment, place):
    for name, stand_in in replaced.items():
        command = command.replace(name, stand_in)
    done = subprocess.run(
        ["/bin/bash", "-e", "-o", "pipefail", "-c", command],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=60 * MINUTES, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{place}: {command}\nended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def timeless(text):
    return re.sub(r"\d+(\.\d+)?(?= s[,.]| images/s)", "#", text)


def test_what_is_compared_can_differ():
    assert steps("$ lrp a\nout\n$ lrp b\n") == [("lrp a", "out\n"), ("lrp b", "")]
    assert timeless("2 images; 1.6 s, 6.3 images/s") == timeless("2 images; 12 s, 0.9 images/s")
    assert timeless("2 images; 1.6 s, 6.3 images/s") != timeless("3 images; 1.6 s, 6.3 images/s")
