"""A tiny net as files."""

from pathlib import Path

import pytest

from tests.models.files import TINY, random_blobs, write_caffemodel


@pytest.fixture
def tiny_prototxt(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.prototxt"
    path.write_text(TINY)
    return path


@pytest.fixture
def tiny_blobs(tiny_prototxt):
    return random_blobs(tiny_prototxt)


@pytest.fixture
def tiny_caffemodel(tmp_path, tiny_blobs) -> Path:
    return write_caffemodel(tmp_path / "tiny.caffemodel", tiny_blobs, TINY)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """No test reads or writes the user's own cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("LRP_CACHE_DIR", str(folder))
    monkeypatch.delenv("LRP_OFFLINE", raising=False)
    return folder
