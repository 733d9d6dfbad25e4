"""Where the files of a run go: one line a place. Imports nothing heavy until one is made."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import NamedTuple, Protocol

from lrpcli.errors import UsageError
from lrpcli.records.folder import RunFolder, shown
from lrpcli.records.record import R
from lrpcli.records.store import put_whole
from lrpcli.records.tars import Tars

TABLE = {None: "lrpcli.records.stores:FileStore", "tar": "lrpcli.records.tar_store:TarStore"}
"""Value of --pack -> "module:class" of a Store that is made of a Place."""
OBJECTS = "lrpcli.records.stores:ObjectStore"
"""The same where the output folder is a URL."""


class NewFile(NamedTuple):
    """A file to be kept: its kind, its path below the output folder, and its content."""

    kind: str
    path: str
    content: bytes


@dataclass(frozen=True)
class Place:
    """The output folder, the shard of the run, such as "1-of-8", and the size of packs in bytes.

    Temporary files have the shard in their names.
    """

    folder: RunFolder
    shard: str = "1-of-1"
    pack_size: float = math.inf

    @property
    def disk(self) -> Path:
        """The folder for what goes on and on writing into a file; settings let none be packed below a URL."""
        assert isinstance(self.folder, Path)
        return self.folder


class Store(Protocol):
    """Keeps the files of images, whole or not at all.

    `put` is called in many threads, the others in one: what was put for an image is in place, or will be found by the
    next run however this one ends, once its record has been through `kept`.
    """

    needs_all_journals: bool
    """Whether `opened` has to know what the journals of all shards say."""

    def of_shard(self, shard: str) -> "Store":
        """The same for a shard of this name."""

    def opened(self, tars: Tars, *, force: bool) -> AbstractContextManager[None]:
        """While entered, images can be kept; `tars` is what the journals say of tar shards. Raises LrpError."""

    def opened_for_rows(self, tars: Tars, *, rows: int, force: bool) -> AbstractContextManager[None]:
        """While entered, so many rows of this shard may be worked on, each with a store of its own, see opened_row.

        With several the caller holds the shard's journal; 0 rows: everything is done. Raises LrpError.
        """

    def opened_row(self) -> AbstractContextManager[None]:
        """While entered, images of the row can be kept that has this store's shard; its journal is held."""

    def put(self, image: str, base: str, files: Iterable[NewFile]) -> None:
        """Takes the files of one map of an image; `base` is what their paths begin with. ImageError, OutputError."""

    def kept(self, record: R) -> AbstractContextManager[R]:
        """The record as it is to be written down while entered, which is what makes its image count. OutputError."""


class FileStore:
    """Each file at its path below the output folder; see Store."""

    needs_all_journals = False

    def __init__(self, place: Place) -> None:
        self.place = place

    def of_shard(self, shard: str) -> "FileStore":
        """See Store."""
        return FileStore(replace(self.place, shard=shard))

    def opened(self, tars: Tars, *, force: bool) -> AbstractContextManager[None]:
        """See Store; nothing is held open."""
        return nullcontext()

    def opened_for_rows(self, tars: Tars, *, rows: int, force: bool) -> AbstractContextManager[None]:
        """See Store. UsageError where `force` would leave results in tars: a row is handed nothing that shows them."""
        if force and tars.present:
            raise UsageError(
                f"{shown(self.place.folder)!r} holds {tars.present[0].name!r}, and tar shards are never written again, "
                "so that --force cannot replace what lies there. Remove the tars, or choose another output folder."
            )
        return nullcontext()

    def opened_row(self) -> AbstractContextManager[None]:
        """See Store; nothing is held open."""
        return nullcontext()

    def put(self, image: str, base: str, files: Iterable[NewFile]) -> None:
        """See Store; one is written after the other, as they come."""
        for file in files:
            put_whole(self.place.folder, {file.path: file.content}, self.place.shard)

    def kept(self, record: R) -> AbstractContextManager[R]:
        """See Store; the files are there already."""
        return nullcontext(record)


class ObjectStore(FileStore):
    """Each file as an object below the URL of the output folder; see Store."""

    def of_shard(self, shard: str) -> "ObjectStore":
        """See Store."""
        return ObjectStore(replace(self.place, shard=shard))

    def put(self, image: str, base: str, files: Iterable[NewFile]) -> None:
        """See Store; all of them on their way at once."""
        put_whole(self.place.folder, {file.path: file.content for file in files}, self.place.shard)


def find_store(pack: str | None, place: Place) -> Store:
    """The store for a value of --pack. ModelError if a package that it needs is missing."""
    store: Store = resolve_name(TABLE[pack] if pack or isinstance(place.folder, Path) else OBJECTS)(place)
    return store
