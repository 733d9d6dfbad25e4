"""The maps of an output folder by name, whatever they are stored as."""

import os
import threading
import weakref
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from lrpcli.errors import MissingMap, UsageError
from lrpcli.paths import is_url
from lrpcli.records.description import EXPLAIN_FILES, read_description
from lrpcli.records.explained import Explained, ExplainedClass
from lrpcli.records.folder import RunFolder, run_folder, shown, without_journal
from lrpcli.records.identity import absolute, recorded_path
from lrpcli.records.index import Index, Known, identity
from lrpcli.records.journal import FAILED, OK, OUTDATED, Line
from lrpcli.records.map_values import read_values
from lrpcli.records.record import Record
from lrpcli.remote import Remote

MAP, SUFFIX = "map", ".npy"
SHOWN = 5
"""Names that a message gives."""
Map = NDArray[np.float32]


class Maps(Mapping[str, NDArray[np.float32]]):
    """The maps that `lrp explain` finished in a folder, each read when it is asked for; made by open_maps.

    A key is the name of results, such as "cats/a.jpg", or else the path of an input, absolute or from the current
    folder. An image with maps of several classes has a name for each, such as "cats/a.jpg.281". Iterating gives names,
    in the order in which the images were first worked on; that and `len` read all records, and a lookup reads one.

    MissingMap, a KeyError, says why there is no map; ImageError names a file that is gone, changed or damaged.
    Threads may share it, and processes that are forked; it can be pickled. What runs finish later is not seen.

    >>> import lrpcli
    >>> with lrpcli.open_maps("explained") as maps:
    ...     {name: relevance.shape for name, relevance in maps.items()}
    {'cat.jpg': (32, 32)}
    """

    def __init__(self, output: str | os.PathLike[str]) -> None:
        text = os.fsdecode(output)
        self._given, self.output = text, run_folder(text if is_url(text) else os.path.abspath(text))  # noqa: PTH100 - links in it stay
        self._folder = shown(self.output)
        self._lock, self._process = threading.Lock(), os.getpid()
        self._length: int | None = None
        paths, names = array("Q"), array("Q")

        def see(journal: str, line: Line) -> None:
            if line.code == OK:
                with suppress(ValueError):
                    paths.append(identity(recorded_path(line.fields)))
                    names.append(identity(line.name))

        self._index = Index(self.output, EXPLAIN_FILES, _fingerprint(self.output), seen=see)
        weakref.finalize(self, self._index.close)  # for who never closes it
        order = np.argsort(np.asarray(paths), kind="stable")
        self._paths, self._names = np.asarray(paths)[order], np.asarray(names)[order]

    def __getitem__(self, key: str | os.PathLike[str]) -> Map:
        one = self._one(key)
        stored = one.outputs.stored(self.output if isinstance(self.output, Remote) else self._folder, MAP)
        return read_values(stored.read(), stored.shown)

    def __contains__(self, key: object) -> bool:
        """Whether there is a map, by the records; its file is not looked at."""
        with suppress(MissingMap):
            return self._one(key) is not None
        return False

    def __iter__(self) -> Iterator[str]:
        lines = self._index.last_lines()
        while True:
            with self._held():
                code, line = next(lines, (None, None))
            if line is None:
                return
            if code == OK:
                with suppress(ValueError):
                    yield from (_name(one) for one in Explained.from_json(line.fields).classes)

    def __len__(self) -> int:
        if self._length is None:
            self._length = sum(1 for _ in self)
        return self._length

    def record(self, key: str | os.PathLike[str]) -> ExplainedClass:
        """What the run wrote down of the map: class, score, relevance, the colour scale and the files."""
        return self._one(key)

    def _one(self, key: object) -> ExplainedClass:
        """The record of the map that a key is for. MissingMap if there is none."""
        if not isinstance(key, (str, bytes, os.PathLike)):
            raise MissingMap(f"{key!r} is no name of a map. Give a text: the name of results or the path of an input.")
        text = os.fsdecode(key)
        with self._held():
            known = self._index.of(text)
            if known is not None:
                return self._only(known, text)
            return self._of_class(text) or self._of_path(text)

    def _of_class(self, name: str) -> ExplainedClass | None:
        """The map of one of several classes of an image, whose name has the class behind it."""
        known = self._index.of(name.rpartition(".")[0])
        if known is None or known.code != OK:
            return None
        return next((one for one in _classes(known.line) if _name(one) == name), None)

    def _of_path(self, text: str) -> ExplainedClass:
        """The map of the input at a path."""
        path = absolute(text)
        wanted = np.uint64(identity(path))
        first, end = (int(np.searchsorted(self._paths, wanted, side)) for side in ("left", "right"))
        lines = (self._index.last(int(name)) for name in dict.fromkeys(self._names[first:end].tolist()))
        names = [line.name for line in lines if line is not None and _is_of(line, path)]
        if len(names) > 1:
            raise MissingMap(f"The input {text!r} has results of several names. Give one: {_some(names)}.")
        known = self._index.of(names[0]) if names else None
        if known is None:
            raise MissingMap(
                f"{self._folder!r} has no map for {text!r}, which is neither a name of results there nor the path of "
                "an input that was explained."
            )
        return self._only(known, text)

    def _only(self, known: Known, key: str) -> ExplainedClass:
        """The only map of an image. MissingMap if it has none or several."""
        if known.code != OK:
            raise MissingMap(_why_missing(known, key))
        classes = _classes(known.line)
        if not classes:
            raise MissingMap(f"What the journal says of the image {key!r} is damaged. Run lrp explain again.")
        if len(classes) > 1:
            names = _some([_name(one) for one in classes])
            raise MissingMap(f"The image {key!r} has maps of {len(classes)} classes. Give one: {names}.")
        return classes[0]

    def _held(self) -> threading.Lock:
        """The lock for the journals' files, which a forked process opens anew: a shared one has one place for both."""
        if self._process != os.getpid():
            self._process, self._lock = os.getpid(), threading.Lock()
            self._index.close()
        return self._lock

    def close(self) -> None:
        """Lets go of the journals; what is asked for afterwards opens them again."""
        with self._held():
            self._index.close()

    def __enter__(self) -> "Maps":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type["Maps"], tuple[str]]:
        return type(self), (self._given if isinstance(self.output, Remote) else self._folder,)

    def __repr__(self) -> str:
        return f"open_maps({self._folder!r})"


def open_maps(output: str | os.PathLike[str]) -> Maps:
    """The maps in an output folder of `lrp explain`: float32 arrays by name, whatever --dtype and --pack were.

    They have the shape that --channels and --map-space gave them: (h, w), (3, h, w), or that of the photo. The journals
    are read once, here. UsageError for a folder that holds no maps, OutputError for one that cannot be read.

    >>> import lrpcli
    >>> maps = lrpcli.open_maps("explained")
    >>> maps["cat.jpg"].shape, maps["cat.jpg"].dtype.name
    ((32, 32), 'float32')
    >>> list(maps), "dog.jpg" in maps
    (['cat.jpg'], False)
    >>> maps.record("cat.jpg").label
    'cat'
    """
    return Maps(output)


def _fingerprint(output: RunFolder) -> str | None:
    """Of the run whose results count. UsageError for a folder without maps."""
    if not EXPLAIN_FILES.journals_in(output):
        raise UsageError(f"{without_journal(output, ' of lrp explain')}. Name a folder with its results.")
    description = read_description(output, EXPLAIN_FILES)
    settings = {} if description is None else description.settings.get("output")
    saved = settings.get("save") if isinstance(settings, dict) else None
    if isinstance(saved, list) and MAP not in saved:
        kinds = ",".join(map(str, saved)) or "none"
        raise UsageError(f"{shown(output)!r} holds no maps: it was made with --save {kinds}. Ask for map there, too.")
    return None if description is None else description.fingerprint


def _classes(line: Line) -> list[ExplainedClass]:
    """The maps of a finished image; none where its line is damaged."""
    with suppress(ValueError):
        classes = Explained.from_json(line.fields).classes
        return [one for one in classes if MAP in one.outputs.paths]
    return []


def _name(one: ExplainedClass) -> str:
    """The name of a map: the path of its file without .npy."""
    return one.outputs.paths[MAP].removesuffix(SUFFIX)


def _is_of(line: Line, path: str) -> bool:
    """Whether the last line about an image is of the input at a path."""
    with suppress(ValueError):
        return recorded_path(line.fields) == path
    return line.fields.get("path") is None


def _why_missing(known: Known, key: str) -> str:
    """Why an image that the journals know has no map, as a sentence."""
    if known.code == OUTDATED:
        return f"The map of {key!r} was made with other settings than the last run's. Run lrp explain again."
    if known.code == FAILED:
        with suppress(ValueError):
            failure = Record.from_json(known.line.fields).failure
            if failure is not None:
                return f"The image {key!r} failed ({failure.kind}): {failure.message}"
    return f"The image {key!r} is not finished. Run lrp explain again."


def _some(names: list[str]) -> str:
    more = ", ..." if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more
