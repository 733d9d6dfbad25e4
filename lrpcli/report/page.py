"""The page itself: a template with everything in it escaped, one script and one style sheet, which alone may run."""

import base64
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lrpcli.records.text import one_line
from lrpcli.report.about import About
from lrpcli.report.addresses import address
from lrpcli.report.groups import Groups
from lrpcli.report.plan import linked_files, shown_kind
from lrpcli.report.rows import FAILURES, PLAIN, SMALL, ImageRow, ReportedRun
from lrpcli.report.thumbnails import Album, picture_name

FIRST = 24
"""Images, failures and groups that stand in the page itself, for readers without its script."""
GENERATOR = "lrp report"
"""By which a page of this package is known from others of the same name."""


@dataclass(frozen=True)
class Cell:
    """An image of the first page: where its small picture and the file behind it are, and what is said of it."""

    name: str
    label: str
    numbers: str
    picture: str
    plain: str
    link: str


@dataclass(frozen=True)
class Content:
    """What a page is made of; `packed` is what the script reads."""

    title: str
    counts: Counter[str]
    cells: list[Cell]
    failures: list[ImageRow]
    groups: Groups
    abouts: list[About]
    packed: str

    @property
    def key(self) -> About | None:
        """The run whose colours and scale are those of all; None where runs differ, or colours are not known."""
        first = self.abouts[0]
        same = all((one.colours, one.scale) == (first.colours, first.scale) for one in self.abouts)
        return first if same and first.colours else None

    @property
    def settings(self) -> list[tuple[str, list[str]]]:
        """Each setting with its value in each run, empty where it has none."""
        known = [dict(one.settings) for one in self.abouts]
        return [
            (name, [one.get(name, "") for one in known]) for name in dict.fromkeys(key for one in known for key in one)
        ]

    @property
    def failed(self) -> int:
        """Images without a result."""
        return sum(self.counts[status] for status in FAILURES)


def first_cells(rows: list[ImageRow], runs: list[ReportedRun], album: Album) -> list[Cell]:
    """The cells of the first finished images."""
    return [_cell(row, runs, album) for row in [row for row in rows if row.maps][:FIRST]]


def _cell(row: ImageRow, runs: list[ReportedRun], album: Album) -> Cell:
    one = row.maps[0]
    run = runs[one.run]
    files = linked_files(one)
    kind = shown_kind(files)
    kept = "" if one.kept is None else f", kept {one.kept:.0%}"
    return Cell(
        one_line(row.name), one.label, f"{one.score:.0%}{kept}",
        album.address(picture_name(row.name, f"{run.key}{one.place}")) if one.picture == SMALL else "",
        PLAIN[one.picture], "" if album.single or kind is None or one.run else address(files[kind]),
    )  # fmt: skip


def render(content: Content) -> bytes:
    """The page as the content of its file."""
    from jinja2 import Environment, StrictUndefined

    own = {name: _own(f"page.{name}") for name in ("js", "css", "html")}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    values: Mapping[str, object] = {
        "page": content, "script": own["js"], "style": own["css"], "generator": GENERATOR,
        "policy": _policy(own["js"], own["css"]), "first": FIRST, "one_line": one_line,
    }  # fmt: skip
    return environment.from_string(own["html"]).render(**values).encode("utf-8", "backslashreplace")


def _own(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _policy(script: str, style: str) -> str:
    """What a browser may load and run: pictures, and exactly this script and style sheet."""
    return (
        f"default-src 'none'; img-src 'self' file: data:; script-src {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
