"""Files that lie in tar shards of an output folder: how the shards and their members are called, and reading one."""

import contextlib
import os
import posixpath
import re
import stat
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

from lrpcli.errors import ImageError
from lrpcli.records.folder import FOLDER, RunFolder, open_regular, read_file, shown
from lrpcli.records.json_values import Fields, as_whole, json_path
from lrpcli.remote import Remote

BLOCK = 512
"""Bytes that a tar counts in: a header has one, or several where the name is long, and a content is filled up to it."""
END = bytes(2 * BLOCK)
"""What ends a tar."""
_NAME = re.compile(r"lrp-([1-9][0-9]{0,5}-of-[1-9][0-9]{0,5})-([0-9]{6,12})\.tar")
_OPEN = re.compile(r"open-([1-9][0-9]{0,5}-of-[1-9][0-9]{0,5})-([0-9]{6,12})\.tar")
_UNSAFE = re.compile("[%\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSAFE_IN_NAME = re.compile("[.%\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class TarName(NamedTuple):
    """The name of a tar shard: which shard of the run wrote it, such as "1-of-8", and its number among those."""

    shard: str
    number: int

    @property
    def name(self) -> str:
        """What it is called in the output folder, once it is whole."""
        return f"lrp-{self.shard}-{self.number:06}.tar"

    @property
    def open_name(self) -> str:
        """What it is called below FOLDER until then."""
        return f"open-{self.shard}-{self.number:06}.tar"

    @classmethod
    def of(cls, name: str, *, open_: bool = False) -> "TarName | None":
        """The parts of a name that `name` gave, with `open_` of one that `open_name` gave; None for any other."""
        found = (_OPEN if open_ else _NAME).fullmatch(name)
        parts = None if found is None else cls(found[1], int(found[2]))
        return parts if parts is not None and name == (parts.open_name if open_ else parts.name) else None


def member_key(base: str) -> str:
    r"""What the members of one map are called before their first dot, for the path of its files without their endings.

    Programs such as webdataset take a name apart at its first dot, and put neighbours of one key into one sample. So
    the dots of the last part are escaped, as in an address, and with them whatever a tar or a terminal might take
    wrongly: control characters, bytes that are not UTF-8, and two underscores at the front, which mark members to be
    passed over. `urllib.parse.unquote(key, errors="surrogateescape")` is the base again.

    >>> from lrpcli.records.packed import member_key
    >>> member_key("cats/a.jpg"), member_key("100%/line\nbreak.v2.png")
    ('cats/a%2Ejpg', '100%25/line%0Abreak%2Ev2%2Epng')
    """
    folder, slash, name = base.rpartition("/")
    key = _UNSAFE.sub(_escaped, folder) + slash + _UNSAFE_IN_NAME.sub(_escaped, name)
    return f"%5F{key[1:]}" if key.startswith("__") else key


def _escaped(found: re.Match[str]) -> str:
    return "%2E" if found[0] == "." else quote(found[0], safe="", errors="surrogateescape")


def member_base(key: str) -> str:
    """The base that `member_key` made a key of."""
    return unquote(key, errors="surrogateescape")


def member_header(name: str, size: int) -> bytes:
    """What stands before the content of a member; the same name and size give the same bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    """What fills a content up to whole blocks."""
    return bytes(-size % BLOCK)


@dataclass(frozen=True)
class Packed:
    """Where the files of one map lie: in which tar, called how (see member_key), and where the content of each kind is.

    `places` are the offset and size of each content in bytes.
    """

    tar: str
    key: str
    places: Mapping[str, tuple[int, int]]

    @property
    def end(self) -> int:
        """Where the last of its members ends."""
        return max(offset + size + len(padding(size)) for offset, size in self.places.values())

    def member(self, path: str) -> str:
        """The name of the member that holds the file which is called `path` where it is not packed."""
        return self.key + path.removeprefix(member_base(self.key))

    def as_json(self) -> dict[str, object]:
        """The tar and key, and a pair of numbers for each kind."""
        return {"tar": self.tar, "key": json_path(self.key), "places": {k: list(v) for k, v in self.places.items()}}

    @classmethod
    def from_json(cls, fields: Fields, paths: Mapping[str, str]) -> "Packed":
        """What as_json wrote for files of these paths; ValueError for anything else."""
        tar, key, inner = fields.text("tar"), fields.path("key"), fields.inner("places")
        places: dict[str, tuple[int, int]] = {}
        for kind in inner.values:
            place = [as_whole(number, "places") for number in inner.items(kind)]
            if len(place) != 2 or place[0] < BLOCK or place[0] % BLOCK or place[1] < 0:
                raise ValueError("'places' are not where something lies in a tar")
            places[kind] = (place[0], place[1])
        base = member_base(key)
        if TarName.of(tar) is None or places.keys() != paths.keys() or not places:
            raise ValueError("'pack' does not say where the files are")
        if member_key(base) != key or not all(path.startswith(base) for path in paths.values()):
            raise ValueError("'pack' is of other files")
        return cls(tar, key, places)


def tar_size(output: RunFolder, tar: str) -> tuple[int, bool] | None:
    """The bytes of a tar shard, and whether it is whole: it has its name. None where it is gone."""
    name = TarName.of(tar)
    if name is None:
        return None
    for path, whole in ((name.name, True), (posixpath.join(FOLDER, name.open_name), False)):
        if isinstance(output, Remote):
            entry = output.entry(path)
            if entry is not None:
                return entry.size, whole
            continue
        with contextlib.suppress(OSError):
            status = os.stat(os.path.join(output, path), follow_symlinks=False)  # noqa: PTH116, PTH118
            if stat.S_ISREG(status.st_mode):
                return status.st_size, whole
    return None


@contextlib.contextmanager
def _opened(output: Path, name: TarName) -> Iterator[int]:
    try:
        descriptor = open_regular(output, "", name.name, os.O_RDONLY)
    except FileNotFoundError:
        try:
            descriptor = open_regular(output, FOLDER, name.open_name, os.O_RDONLY)
        except FileNotFoundError:  # it got its name just now, perhaps
            descriptor = open_regular(output, "", name.name, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class StoredFile:
    """One file of an image, wherever it is: at a path below an output folder, or a member of a tar there."""

    output: str | Remote
    path: str
    tar: str = ""
    member: str = ""
    offset: int = 0
    size: int = 0

    @property
    def shown(self) -> str:
        """Its path for people; that of a member begins with the tar's."""
        return self._shown(os.path.join(self.tar, self.member) if self.tar else self.path)  # noqa: PTH118

    @property
    def container(self) -> str:
        """The path of the file on the disk that holds it."""
        return self._shown(self.tar or self.path)

    def _shown(self, path: str) -> str:
        return os.path.join(self.output, path) if isinstance(self.output, str) else shown(self.output, path)  # noqa: PTH118

    @property
    def _folder(self) -> RunFolder:
        return Path(self.output) if isinstance(self.output, str) else self.output

    def read(self) -> bytes:
        """Its content. ImageError of kind io if it is gone, was replaced or cannot be read."""
        try:
            return self._of_tar() if self.tar else self._of_file()
        except OSError as error:
            raise ImageError("io", f"The file {self.shown!r} cannot be read: {error.strerror or error}.") from error

    def _of_file(self) -> bytes:
        return read_file(self._folder, self.path)

    def _of_tar(self) -> bytes:
        name = TarName.of(self.tar)
        if name is None:
            raise OSError(f"{self.tar!r} is not a tar shard")
        header = member_header(self.member, self.size)
        data = _read_of_tar(self._folder, name, self.offset - len(header), len(header) + self.size)
        if len(data) != len(header) + self.size or not data.startswith(header):
            raise OSError("the tar holds something else there, so that it was changed or replaced")
        return data[len(header) :]


def _read_of_tar(output: RunFolder, name: TarName, place: int, count: int) -> bytes:
    if isinstance(output, Remote):
        path = name.name if output.entry(name.name) else posixpath.join(FOLDER, name.open_name)
        return output.read(path, place, count) if place >= 0 else b""
    with _opened(output, name) as descriptor:
        return _read_at(descriptor, place, count)


def _read_at(descriptor: int, place: int, count: int) -> bytes:
    """So many bytes from a place on; fewer where the file ends. Nothing before its start."""
    if place < 0 or place + count > os.fstat(descriptor).st_size:
        return b""
    parts = bytearray()
    while len(parts) < count and (part := os.pread(descriptor, count - len(parts), place + len(parts))):
        parts += part
    return bytes(parts)
