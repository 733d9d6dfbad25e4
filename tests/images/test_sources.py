"""A list of sources that takes little more memory than the paths."""

import os
import tracemalloc

import pytest

from lrpcli.images.find import Source
from lrpcli.images.sources import SourceList, require_unique_names

SOURCES = [
    Source("in/a.jpg", "a.jpg"),
    Source("/data/../b.jpg", "data/b.jpg"),
    Source(os.fsdecode(b"in/caf\xe9.jpg"), os.fsdecode(b"caf\xe9.jpg")),
    Source("-", "stdin"),
    Source("e\u0301", "e\u0301"),
]


def test_what_goes_in_comes_out():
    sources = require_unique_names(SOURCES)
    assert list(sources) == SOURCES and len(sources) == 5
    assert sources[1] == SOURCES[1] and sources[-1] == SOURCES[-1]
    assert list(sources[1::2]) == SOURCES[1::2] and list(sources[1:][1:]) == SOURCES[2:]
    assert not SourceList()


@pytest.mark.slow
def test_memory_is_that_of_the_paths():
    paths = (f"photos/n{number // 1000:08}/n{number:08}_image.JPEG" for number in range(100_000))
    tracemalloc.start()
    try:
        sources = require_unique_names(Source(path, path.removeprefix("photos/")) for path in paths)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    letters = sum(len(source.path) for source in sources)
    assert held < 1.2 * (letters + 24 * len(sources))
    assert peak < 2.5 * held
