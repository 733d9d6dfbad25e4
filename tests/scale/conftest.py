"""What one process makes of some photos, for the tests of other engines."""

import pytest

from tests.resilience.runs import explain
from tests.scale.engines import SMALL, photos_with_a_broken_one


@pytest.fixture(scope="module")
def inline(tmp_path_factory):
    """Nine photos and a broken one, and what a single process makes of them."""
    folder = tmp_path_factory.mktemp("inline")
    source = photos_with_a_broken_one(folder / "in")
    return source, folder / "out", explain(source, folder / "out", *SMALL, "--json")
