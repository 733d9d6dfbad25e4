"""A list of millions of images that takes little more memory than their paths."""

import os
import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import overload

import numpy as np

from lrpcli.errors import UsageError
from lrpcli.images.find import Source
from lrpcli.paths import STDIN, is_url, shown_url


class SourceList(Sequence[Source]):
    """Sources in their order, stored as bytes: 24 bytes each beside the path, and the name only if it is no end of it.

    A slice shares the bytes.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._paths, self._names = array("Q"), array("Q")  # where they start
        self._path_lengths, self._name_lengths = array("I"), array("I")

    def append(self, source: Source) -> None:
        """Adds one source."""
        path, name = os.fsencode(source.path), os.fsencode(source.name)
        self._paths.append(len(self._bytes))
        self._bytes += path
        if not path.endswith(name):
            self._bytes += name
        self._names.append(len(self._bytes) - len(name))
        self._path_lengths.append(len(path))
        self._name_lengths.append(len(name))

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> Source: ...
    @overload
    def __getitem__(self, index: slice) -> "SourceList": ...
    def __getitem__(self, index: int | slice) -> "Source | SourceList":
        if isinstance(index, slice):
            part = SourceList()
            part._bytes = self._bytes
            part._paths, part._path_lengths = self._paths[index], self._path_lengths[index]
            part._names, part._name_lengths = self._names[index], self._name_lengths[index]
            return part
        path = self._text(self._paths[index], self._path_lengths[index])
        return Source(path, self._text(self._names[index], self._name_lengths[index]))

    def feed(self, update: Callable[[bytes | bytearray | memoryview], object]) -> None:
        """Gives a hash all that the list consists of."""
        for part in (self._paths, self._names, self._path_lengths, self._name_lengths):
            update(len(part).to_bytes(8))
            update(memoryview(part).cast("B") if part else b"")
        update(self._bytes)

    def _text(self, start: int, length: int) -> str:
        return os.fsdecode(bytes(self._bytes[start : start + length]))

    def __iter__(self) -> Iterator[Source]:
        return (self[index] for index in range(len(self)))


def list_digest(sources: Sequence[Source]) -> str:
    """Stands for the names of a list in their order: two lists with the same digest have the same names."""
    digest = blake2b(digest_size=8)
    if isinstance(sources, SourceList):
        sources.feed(digest.update)
    else:
        for source in sources:
            digest.update(os.fsencode(source.name) + b"\0")
    return digest.hexdigest()


def require_unique_names(sources: Iterable[Source]) -> SourceList:
    """All sources at once, after checking that no two would write the same result; UsageError names both."""
    checked, hashes = SourceList(), array("q")
    for source in sources:
        checked.append(source)
        hashes.append(hash(source.name))
    order = np.argsort(np.asarray(hashes), kind="stable")
    ordered = np.asarray(hashes)[order]
    for place in np.flatnonzero(ordered[1:] == ordered[:-1]):
        _require_different(checked[int(order[place])], checked[int(order[place + 1])])
    return checked


def _require_different(one: Source, other: Source) -> None:
    if one.path == other.path:
        raise UsageError(f"The input {one.path!r} is given twice. Name it once.")
    if one.name == other.name:
        raise UsageError(
            f"The inputs {one.path!r} and {other.path!r} would write the same result, {one.name!r} under the "
            "output folder. Name a folder that holds both with --base, or explain them into different output folders."
        )


def named_below(sources: Iterable[Source], base: str) -> Iterator[Source]:
    """The sources, each named after its path below the folder `base`; standard input keeps its name.

    Paths are made absolute and compared as text, with no link followed. UsageError for one that lies elsewhere.
    """
    folder = os.path.abspath(base)  # noqa: PTH100 - a Path would cost more, and there may be millions
    for source in sources:
        if source.path == STDIN:
            yield source
            continue
        name = _below_url(source.path, base) if is_url(source.path) else os.path.relpath(source.path, folder)
        if name.split("/", 1)[0] in ("..", "."):
            raise UsageError(f"The input {source.path!r} does not lie below --base {base!r}. Name a folder that holds"
                             " all inputs.")  # fmt: skip
        yield Source(source.path, name)


def _below_url(url: str, base: str) -> str:
    """The key of an object below a URL; ".." if it lies elsewhere."""
    start = f"{shown_url(base).rstrip('/')}/"
    return url.removeprefix(start) if is_url(base) and url.startswith(start) else ".."


def choose_images(sources: Sequence[Source], count: int | None, seed: int) -> list[Source]:
    """`count` of the sources drawn at random, in their order; all of them if there are no more.

    With the same seed, more images are the fewer ones and others: a finished evaluation can be carried further.
    """
    if count is None or count >= len(sources):
        return list(sources)
    drawn = list(range(len(sources)))
    random.Random(seed).shuffle(drawn)
    return [sources[place] for place in sorted(drawn[:count])]


def by_path(sources: Sequence[Source]) -> list[Source]:
    """The sources, each identified by its path: an evaluation writes no files that would be named after them."""
    return [Source(source.path, source.path) for source in sources]
