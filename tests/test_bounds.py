"""What the package imports is declared, and what it declares has a lower bound that `make lowest` tries."""

import ast
import runpy
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT, GROUPS = PYPROJECT["project"], PYPROJECT["dependency-groups"]
EXTRAS = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name != "all"}
DECLARED = [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]
DISTRIBUTIONS = {"PIL": "pillow", "google": "protobuf"}
"""Modules whose distribution has another name."""
OF_CALLERS = ("IPython",)
"""Modules that are there whenever what imports them runs: a notebook shows a plot."""


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and node.level == 0, "imports name the whole path"
            yield node.module


def test_every_package_that_is_imported_is_declared():
    modules = {name.partition(".")[0] for path in (ROOT / "lrpcli").rglob("*.py") for name in imported_modules(path)}
    outside = modules - set(sys.stdlib_module_names) - {"lrpcli", *OF_CALLERS}
    declared = {line.partition(">")[0] for line in DECLARED}
    assert {DISTRIBUTIONS.get(name, name) for name in outside} <= declared


@pytest.mark.parametrize("line", DECLARED)
def test_every_dependency_has_a_lowest_version(line):
    lowest = runpy.run_path(str(ROOT / ".ci" / "lowest.py"))["lowest_versions"]()
    name, found, bound = line.partition(">=")
    assert found and lowest[name] == bound.partition(",")[0]


def test_all_extras_are_in_all():
    (line,) = PROJECT["optional-dependencies"]["all"]
    assert set(line.removeprefix("lrpcli[").removesuffix("]").split(",")) == EXTRAS.keys()


@pytest.mark.parametrize("line", [line for lines in GROUPS.values() for line in lines if isinstance(line, str)])
def test_every_tool_is_pinned(line):
    name, found, version = line.partition("==")
    assert name and found and version
