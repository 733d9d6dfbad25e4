"""PngSuite in one run; corpora.py does the same, by hand, with Pillow's own test images beside it."""

import json
import os
import tarfile

import pytest

from tests.resilience.runs import explain, require_whole, rows
from tests.shared import shared


@pytest.mark.slow
def test_pngsuite_fares_as_the_list_says(tmp_path):
    with tarfile.open(shared("data/pngsuite.tar")) as archive:
        archive.extractall(tmp_path, filter="data")
    listed = shared("data/pngsuite_expected.jsonl").read_text().splitlines()
    expected = {row["path"]: row["status"] == "ok" for row in map(json.loads, listed)}
    source = tmp_path / "pngsuite" / "png"
    result = explain(source, tmp_path / "out", "--all-files", "--json", "--save", "map")
    assert result.returncode == 1 and b"Traceback" not in result.stderr
    *images, summary = rows(result)
    found = {os.path.relpath(row["input"], source): row["status"] == "ok" for row in images}
    assert {path: expected[path] for path in found} == found and len(found) == summary["images"] == 175
    require_whole(tmp_path / "out")
