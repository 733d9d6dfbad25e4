"""The pages of the documentation, and the blocks of code in them.

A comment right before a block says what the tests need to know of it:

    <!-- not run: needs the network -->     the block is left out, for the reason given
    <!-- rehearsed: takes minutes -->       its commands run in a short form (REHEARSED, test_commands.py)
    <!-- run by: tests/x.py -->             another test runs the block
    <!-- file: mine.toml -->                the block is a file that later commands find under this name
"""

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_INDEX = DOCS / "index.md"
_SOURCE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"].get("Source")
_MARK = re.compile(r"<!-- (not run|rehearsed|run by|file): (.+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: the line of its fence, counted from 1, its language, its text, and the mark before it."""

    page: Path
    line: int
    language: str
    text: str
    mark: str = ""
    value: str = ""

    @property
    def runs(self) -> bool:
        """Whether its commands or statements are for the tests to run."""
        return self.mark not in ("not run", "run by")

    @property
    def place(self) -> str:
        """Page and line, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    found, lines = [], page.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        text = "".join(f"{inside}\n" for inside in lines[start + 1 : number])
        mark = _MARK.fullmatch(next((before for before in reversed(lines[:start]) if before.strip()), ""))
        found.append(Block(page, start + 1, lines[start][3:].strip(), text, *(mark.groups() if mark else ())))
        start = None
    assert start is None, f"{page.name} opens a block in line {start} and never closes it"
    return found


def links(page: Path) -> list[str]:
    """What a page links to within the project, without the part behind #; addresses of its repository are paths too."""
    return [target for target, _ in links_with_places(page) if target]


def links_with_places(page: Path) -> list[tuple[str, str]]:
    """The paths that a page links to, "" for itself, and the heading that each names behind #, as its anchor."""
    found = re.findall(r"\]\(([^)\s#]*)#?([^)\s]*)\)", without_code(page.read_text(encoding="utf-8")))
    inside = [(within_the_project(target, page), place) for target, place in found]
    return [(target, place) for target, place in inside if target is not None]


def within_the_project(target: str, page: Path, source: str | None = _SOURCE) -> str | None:
    """A link as a path from the page's folder; None for one that leads out of the project."""
    below = re.match(rf"{re.escape(source)}/(?:blob|raw|tree)/[^/]+/(.*)", target) if source else None
    if below:
        return os.path.relpath(ROOT / below[1], page.parent)
    return None if re.match(r"\w+:", target) else target


def without_code(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names by which links lead to the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def in_reading_order() -> list[Path]:
    """README, then the pages that docs/index.md lists, in its order."""
    listed = [(_INDEX.parent / target).resolve() for target in links(_INDEX)]
    pages = [page for page in dict.fromkeys(listed) if page.suffix == ".md" and page.is_relative_to(DOCS)]
    return [ROOT / "README.md", *pages]


def all_pages() -> list[Path]:
    """Every page that users and developers read."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted(DOCS.glob("**/*.md"))]
