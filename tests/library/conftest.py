"""What tests of the Python face start from: a photo, and no model left over from another test."""

import pytest

import lrpcli
from tests.photos import photo


@pytest.fixture(autouse=True)
def _no_models_left():
    lrpcli.forget_models()
    yield
    lrpcli.forget_models()


@pytest.fixture
def path(tmp_path):
    """A photo that is wider than high."""
    return photo(tmp_path / "cats" / "a.png", 3, size=(70, 50))
