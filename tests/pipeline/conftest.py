"""Ten photos, and processes that decode them."""

import pytest

from lrpcli.images.find import Discovery
from lrpcli.pipeline.workers import Workers
from tests.photos import photo


@pytest.fixture(scope="module")
def workers():
    with Workers(2) as running:
        yield running


@pytest.fixture
def sources(tmp_path):
    for number in range(10):
        photo(tmp_path / "in" / f"{number}.png", number)
    return list(Discovery([str(tmp_path / "in")]))
