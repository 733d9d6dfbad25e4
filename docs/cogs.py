"""What cog writes into the documentation: what the installed command really prints, and which room may import which."""

import json
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import cog

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


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
