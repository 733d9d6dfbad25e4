"""What cog writes into the documentation: what the installed command really prints, and what the code says."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from pathlib import Path

import cog

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
TIME = re.compile(r"\d+(\.\d+)?(?= s[,.]| images/s)")
"""Seconds, and images a second, which differ from run to run."""


def output(command: str) -> None:
    """A command line and what it prints, as a block of text."""
    result = subprocess.run(shlex.split(command), capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{command} ended with {result.returncode}: {result.stderr}")
    cog.outl("")
    cog.outl("```text")
    cog.outl(f"$ {command}")
    cog.outl(result.stdout.rstrip())
    cog.outl("```")
    cog.outl("")


def floors() -> None:
    """The rooms of lrpcli from the highest floor to the lowest, as the import contract has them."""
    contracts = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rooms = (layer.replace("lrpcli.", "").replace(" | ", ", ") for layer in layers)
    cog.outl("")
    cog.outl("```text")
    cog.outl(textwrap.fill(" > ".join(rooms), 120))
    cog.outl("```")
    cog.outl("")


def reports() -> None:
    """The public reports that were tried, as tests/reports/table.py has them."""
    sys.path.insert(0, str(PROJECT.parent))
    from tests.reports.table import as_markdown

    cog.outl("")
    cog.outl(as_markdown())
    cog.outl("")


def scale() -> None:
    """The costs and simulations of benchmarks/scale.py, as docs/scale.json has them."""
    sys.path.insert(0, str(PROJECT.parent))
    from benchmarks.scale import tables

    cog.outl("")
    cog.outl(tables(json.loads((PROJECT.parent / "docs" / "scale.json").read_text(encoding="utf-8"))))
    cog.outl("")


def session(command: str, columns: int = 80) -> None:
    """A command beside sample_images/, and what a terminal shows of it; times stay as the page has them."""
    sys.path.insert(0, str(PROJECT.parent))
    from tests.cli.terminals import on_terminal

    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(PROJECT.parent / "sample_images", Path(folder) / "sample_images")
        before = Path.cwd()
        os.chdir(folder)
        try:
            shown = on_terminal(*words_of(command)[1:], columns=columns)
        finally:
            os.chdir(before)
    if shown.code != 0:
        sys.exit(f"{command} ended with {shown.code}: {shown.text}")
    lines = [line for line in shown.seen if "%|" not in line]  # the bar, which moves with the machine
    text = "\n".join(["", "```text", f"$ {command}", *lines, "```", "", ""])
    same = TIME.sub("#", text) == TIME.sub("#", cog.previous)
    cog.out(cog.previous if same else text)


def words_of(command: str) -> list[str]:
    """What a shell makes of a command line, {a,b} included."""
    line = ["bash", "-c", f"printf '%s\\0' {command}"]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.split("\0")[:-1]


def peers() -> None:
    """The table of other programs, as docs/peers.json has it."""
    from peers import table

    cog.outl("")
    cog.outl(table(json.loads((PROJECT.parent / "docs" / "peers.json").read_text(encoding="utf-8"))))
    cog.outl("")


def api() -> None:
    """The public names, as docs/api.py finds them."""
    from api import pages

    cog.outl("")
    cog.outl(pages())
    cog.outl("")
