"""docs/records.md has every field that a run writes, and no other."""

import json
import re

import pytest

from tests.documentation.pages import DOCS
from tests.photos import photo
from tests.resilience.runs import lrp

CONDITIONAL = {"note", "exploded", "skip", "survived", "drop", "ended", "attempt"}
"""What this run has no reason to write."""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Names of the fields of each section of the page, as a run with tars, several classes and a failure has them."""
    place = tmp_path_factory.mktemp("records")
    photo(place / "photos" / "a.jpg", 1)
    (place / "photos" / "b.jpg").write_bytes(b"broken")
    options = ("--model", "cifar10", "--target", "top2", "--check-class", "--pack", "tar", "--json")
    done = lrp("explain", *options, place / "photos", place / "out")
    assert done.exit_code == 1, done.stderr
    *images, summary = map(json.loads, done.stdout.splitlines())
    (journal,) = (place / "out" / ".lrp").glob("journal-*.jsonl")
    lines = list(map(json.loads, journal.read_text().splitlines()))
    ended = [line for line in lines if line["type"] == "done"]
    return {
        "A photo": {key for line in [*images, *ended] for key in line},
        "The map": {key for image in images for key in image.get("relevance", ())},
        "The summary": set(summary),
        "The journal": {line["type"] for line in lines},
        "The run": set(json.loads((place / "out" / ".lrp" / "run.json").read_text())),
    }


def listed(section):
    """The names in the first column of the tables of a section."""
    text = (DOCS / "records.md").read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)}


@pytest.mark.parametrize("section", ["A photo", "The map", "The summary", "The journal", "The run"])
def test_every_field_is_described_and_each_that_is_described_is_written(section, written):
    assert written[section] - listed(section) == set()
    assert listed(section) - written[section] - CONDITIONAL == set()
