"""The manual pages are those of the commands, and a terminal shows in them what --help says."""

import os
import runpy
import shutil
import subprocess
import sys

import click
import pytest

from lrpcli.cli.main import main as lrp
from tests.documentation.pages import ROOT

MAN = runpy.run_path(str(ROOT / "docs" / "man.py"))
PAGES = sorted((ROOT / "man").glob("*.1"))


def test_every_page_is_current():
    """In a process of its own, in which no other test has changed anything."""
    line = [sys.executable, str(ROOT / "docs" / "man.py"), "--check"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"`make docs` makes them anew: {done.stdout}{done.stderr}"


def test_an_old_a_missing_and_a_surplus_page_are_found():
    made = {page.name: page.read_text() for page in PAGES}
    made["lrp.1"] += "changed"
    made["lrp-new.1"] = made.pop("lrp-help.1")
    assert MAN["differing"](made) == ["lrp-help.1", "lrp-new.1", "lrp.1"]


def test_roff_takes_nothing_in_a_text_for_a_command():
    assert MAN["roff"](".npy and\n.caffemodel") == "\\&.npy and\n\\&.caffemodel"
    assert MAN["roff"]("'a' \\b -h `b` ^ ~") == r"\(aqa\(aq \eb \-h \(gab\(ga \(ha \(ti"


def commands(group, *names):
    """The words of every command that has no commands of its own."""
    for name, command in group.commands.items():
        inner = (*names, name)
        yield from commands(command, *inner) if isinstance(command, click.Group) else [inner]


def printed(*command, **settings):
    return subprocess.run(command, capture_output=True, text=True, check=True, **settings)


@pytest.fixture(scope="module")
def shown():
    """Every page as a terminal shows it, all its words in a row."""
    if shutil.which("man") is None:
        pytest.skip("needs the program man")
    settings = {**os.environ, "MANWIDTH": "90", "MANPAGER": "cat", "GROFF_NO_SGR": "1", "LC_ALL": "C.UTF-8"}
    texts = {}
    for path in PAGES:
        done = printed("man", "--warnings", "-l", path, env=settings)
        assert done.stderr == ""
        texts[path.name] = " ".join(done.stdout.split())
    return texts


@pytest.mark.slow
@pytest.mark.parametrize("names", list(commands(lrp)), ids=" ".join)
def test_a_page_says_what_help_says(names, shown):
    help_ = printed(sys.executable, "-m", "lrpcli", *names, "--help")
    page = shown[f"lrp-{names[0]}.1"]
    usage, _, options = help_.stdout.partition("\nOptions:\n")
    for paragraph in [*usage.removeprefix("Usage: ").split("\n\n"), *entries(options)]:
        assert "".join(paragraph.split()) in page.replace(" ", ""), paragraph


def entries(options):
    """Each option with what is said of it, without the lines of arguments, of which the usage tells."""
    found = []
    for line in options.splitlines():
        if line.startswith("  -"):
            found.append(line)
        elif line.startswith("   ") and found:
            found[-1] += line
    return found
