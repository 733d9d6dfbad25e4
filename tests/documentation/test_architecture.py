"""The pages speak of the code as it is: every room is described, and every path that is named exists."""

import re

import pytest

from tests.documentation.pages import DOCS, ROOT, all_pages

PATH = re.compile(r"`((?:lrpcli|tests|docs|configs|benchmarks|training|sample_images)/[\w./-]*)`")


def test_every_room_is_described():
    page = (DOCS / "architecture.md").read_text()
    rooms = {path.parent.relative_to(ROOT) for path in (ROOT / "lrpcli").glob("**/*.py")}
    assert {str(room) for room in rooms if f"`{room}/`" not in page} == set()


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_that_is_named_exists(page):
    assert {path for path in PATH.findall(page.read_text()) if not (ROOT / path).exists()} == set()


def test_paths_are_named():
    assert len({path for page in all_pages() for path in PATH.findall(page.read_text())}) > 30
