"""Objects below a URL, such as s3://bucket/photos, through fsspec, which is imported where the first one is opened."""

import errno
import os
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from lrpcli.errors import LrpError, UsageError, needs_package, suggestion
from lrpcli.paths import is_url, shown_url

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

EXTRA = "remote"
OWN_MEMORY = ("memory",)
"""Protocols whose objects are seen by one process alone."""
WEB = ("http", "https")
"""Protocols that read single objects: what links a page holds says nothing of a folder."""
OBJECTS = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "memory")
"""Protocols by which an object that is put is whole or not there; with others it is renamed once it is whole."""
VERSIONS = (
    "ETag", "etag", "generation", "md5", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified",
    "modified", "updated", "created",
)  # fmt: skip
"""What file systems call that which changes with an object's content, the best first."""
FOLDERS = 64
"""Folders whose listings are kept for being asked about single objects."""
AT_ONCE = 16
"""Objects that are read at the same time, where many are."""
UNSAFE = ("?versionId=", "://", "::", "\0")
"""What some file system would take for something else than a part of a name."""


class Entry(NamedTuple):
    """What a listing says of an object or folder; `version` changes with the content, and is empty if unknown."""

    size: int
    version: str
    folder: bool = False


def is_usable(key: str) -> bool:
    """Whether a key can be the path of a file below a folder, and means itself to every file system.

    >>> from lrpcli.remote import is_usable
    >>> [is_usable(key) for key in ("cats/a.jpg", "100%/what?.png", "a//b.jpg", "../a.jpg", "/a.jpg", "a/")]
    [True, True, False, False, False, False]
    """
    return not any(part in ("", ".", "..") for part in key.split("/")) and not any(word in key for word in UNSAFE)


class Remote:
    """The objects below a URL, by their keys from there on; threads and forked processes may share it.

    `url` is the URL as it may be shown: without a password, and without "/" at its end. Whatever goes wrong is an
    OSError whose text gives no password away; FileNotFoundError where nothing is there.
    """

    def __init__(self, url: str) -> None:
        self.url = _trimmed(shown_url(url))
        self.protocol = url.partition("://")[0].lower()
        self._full, self._process = url, os.getpid()
        self._system, root = _file_system(url)
        self._root = root.rstrip("/")
        self._lock, self._listed = threading.Lock(), OrderedDict[str, dict[str, Entry]]()

    def __reduce__(self) -> "tuple[type[Remote], tuple[str]]":
        return Remote, (self._full,)  # another process opens it anew, with its login

    @property
    def full(self) -> str:
        """The URL with its login, which is not to be shown."""
        return self._full

    @property
    def _files(self) -> "AbstractFileSystem":
        if self._process != os.getpid():  # connections cannot be shared with a fork
            self._process, self._lock = os.getpid(), threading.Lock()
            self._system, _ = _file_system(self._full)
        return self._system

    def url_of(self, key: str) -> str:
        """The URL of an object, as it may be shown."""
        return self.url if not key else f"{self.url}{key}" if self.url.endswith("/") else f"{self.url}/{key}"

    def find(self) -> Iterator[tuple[str, Entry]]:
        """Every object below, its key and what is known of it, in byte order; "" is the key of the URL's own object.

        Markers of folders, which are empty and end in "/", are passed over.
        """
        if self.protocol in WEB:
            yield "", self._info("")
            return
        with self._translated():
            self._files.invalidate_cache()
            found = self._files.find(self._root, detail=True)
        keys = {self._key(name): _entry(info) for name, info in found.items()}
        for key in sorted(keys, key=lambda key: key.encode("utf-8", "surrogatepass")):
            if not keys[key].folder and not (key.endswith("/") and not keys[key].size):
                yield key, keys[key]

    def _info(self, key: str) -> Entry:
        with self._translated():
            return _entry(self._files.info(self._path(key)))

    def _key(self, name: str) -> str:
        return name[len(self._root) :].removeprefix("/")

    def list(self, inner: str = "") -> dict[str, Entry]:
        """What lies in a folder by its name; nothing where there is no such folder."""
        return self._list(self._files, inner)

    def _list(self, files: "AbstractFileSystem", inner: str) -> dict[str, Entry]:
        place = self._path(inner)
        try:
            with self._translated():
                files.invalidate_cache()
                found = files.ls(place, detail=True)
        except FileNotFoundError:
            return {}
        start = f"{place.rstrip('/')}/"
        names = {info["name"].rstrip("/"): info for info in found if not info["name"].endswith("//")}
        return {name[len(start) :]: _entry(info) for name, info in names.items() if name.startswith(start)}

    def entry(self, key: str) -> Entry | None:
        """What its folder's listing says of an object, None if it is not there; see `listing`."""
        if not key or self.protocol in WEB:
            try:
                return self._info(key)
            except FileNotFoundError:
                return None
        folder, _, name = key.rpartition("/")
        found = self.listing(folder).get(name)
        return None if found is None or found.folder else found

    def listing(self, inner: str = "") -> dict[str, Entry]:
        """What `list` says, which is kept until `forget`: objects are asked about one by one."""
        files = self._files
        with self._lock:
            if inner not in self._listed:
                self._listed[inner] = self._list(files, inner)
                if len(self._listed) > FOLDERS:
                    self._listed.popitem(last=False)
            self._listed.move_to_end(inner)
            return self._listed[inner]

    def forget(self) -> None:
        """Asks for listings anew."""
        with self._lock:
            self._listed.clear()

    def read(self, key: str, start: int = 0, count: int | None = None) -> bytes:
        """The content of an object from a place on; no more than `count` bytes of it."""
        with self._translated():
            if count is None:
                return bytes(self._files.cat_file(self._path(key)))[start:]
            return bytes(self._files.cat_file(self._path(key), start=start, end=start + count))

    def read_all(self, keys: Sequence[str]) -> Iterator[bytes]:
        """The contents of several objects in their order, some of them read at once."""
        from concurrent.futures import ThreadPoolExecutor  # here, for `lrp --help` to be quick

        with ThreadPoolExecutor(AT_ONCE, "reader") as readers:
            yield from readers.map(self.read, keys)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Writes objects, each whole or not at all."""
        with self._translated():
            if self.protocol in OBJECTS:
                self._files.pipe({self._path(key): content for key, content in files.items()})
                return
            for key, content in files.items():
                self._put_renamed(self._path(key), content)

    def create(self, key: str, content: bytes) -> bool:
        """Writes an object unless it is there; False if it is, as far as the file system can tell."""
        path = self._path(key)
        try:
            with self._translated():
                self._files.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        except OSError:  # a file system, or a server, that does not know of this
            if self.list(key.rpartition("/")[0]).get(key.rpartition("/")[2]) is not None:
                return False
            self.put({key: content})
        return True

    def _put_renamed(self, path: str, content: bytes) -> None:
        folder = path.rpartition("/")[0]
        temporary = f"{folder}/.lrp-{secrets.token_hex(8)}.tmp"
        self._files.makedirs(folder, exist_ok=True)
        self._files.pipe_file(temporary, content)
        self._files.mv(temporary, path)

    def _path(self, key: str) -> str:
        if key and not is_usable(key):
            raise OSError(errno.EINVAL, f"the key {key!r} cannot be used")
        return f"{self._root}/{key}" if key else self._root

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """OSErrors in place of whatever else file systems and what they are built of raise, without passwords."""
        try:
            yield
        except LrpError:
            raise
        except Exception as error:
            raise self._os_error(error) from None

    def _os_error(self, error: Exception) -> OSError:
        number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
        if isinstance(error, FileExistsError):
            number = errno.EEXIST
        elif isinstance(error, FileNotFoundError):
            number = errno.ENOENT
        elif isinstance(error, PermissionError):
            number = errno.EACCES
        return OSError(number, self._reason(error))

    def _reason(self, error: Exception) -> str:
        """The first line of an error's text, or its kind."""
        text = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).strip()
        reason = _without_secrets(text.partition("\n")[0].rstrip("."), self._full)
        if isinstance(error, FileNotFoundError) and (not reason or "/" in reason):
            return "there is no such object"
        return reason or type(error).__name__


def _entry(info: Mapping[str, Any]) -> Entry:
    version = next((str(info[name]) for name in VERSIONS if info.get(name) not in (None, "")), "")
    return Entry(int(info.get("size") or 0), version, info.get("type") == "directory")


def _trimmed(url: str) -> str:
    """A URL without "/" at its end, but for those behind the protocol."""
    protocol, _, rest = url.partition("://")
    return f"{protocol}://{rest.rstrip('/')}"


def _without_secrets(text: str, url: str) -> str:
    """A text about a URL without its password, and what stands behind "?" in a web address."""
    login = re.match(r"[^:]+://[^/:]*:([^/]*)@", url)
    query = url.partition("?")[2] if url.lower().startswith(("http://", "https://")) else ""
    text = text.replace(url, shown_url(url))
    for secret in (login[1] if login else "", unquote(login[1]) if login else "", query):
        text = text.replace(secret, "***") if secret else text
    return text


def _file_system(url: str) -> "tuple[AbstractFileSystem, str]":
    """The file system of a URL and the path in it. UsageError or ModelError if it cannot be used here."""
    shown, protocol = shown_url(url), url.partition("://")[0].lower()
    rest = url.partition("://")[2]
    if "::" in url or "://" in rest.partition("?")[0]:
        raise UsageError(f"The URL {shown!r} is a chain of URLs. Name the one where the objects are.")
    try:
        import fsspec
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise needs_package(repr(shown), "fsspec", EXTRA) from error
    if protocol not in {*fsspec.available_protocols(), *fsspec.registry}:
        raise UsageError(
            f"The URL {shown!r} begins with a protocol that is not known."
            f"{suggestion(protocol, fsspec.available_protocols())} A path of this machine has no '://' in it."
        )
    parts = rest.rstrip("/").split("/")
    if "@" not in parts[0] and not re.fullmatch(r"[^:]*(:\d*)?", parts[0]):
        raise UsageError(f"The URL {shown!r} has no port behind a ':'. In a password, '/' is written as %2F.")
    if protocol not in WEB and ((not parts[0] and protocol != "memory") or not is_usable("/".join(parts[1:]) or "x")):
        raise UsageError(f"The URL {shown!r} names no folder or object: parts of it are empty, '.' or '..'.")
    try:
        found: tuple[AbstractFileSystem, str] = url_to_fs(url)
    except ImportError as error:
        if protocol in ("s3", "s3a"):
            raise needs_package(repr(shown), "s3fs", EXTRA) from error
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(f"{shown!r} needs a package that is missing: {reason}.") from error
    except Exception as error:  # a host that is not there, wrong options in the environment
        reason = _without_secrets(str(error).partition("\n")[0].rstrip("."), url) or type(error).__name__
        raise UsageError(f"The URL {shown!r} cannot be opened: {reason}.") from None
    if hasattr(found[0], "dircache"):  # by what it listed before, what others have put since would not be there
        found[0].dircache.use_listings_cache = False
        found[0].dircache.clear()
    return found


_ROOTS: dict[str, Remote] = {}
"""Where inputs are read, by the URL as it is shown: objects below it are read with its login."""


def open_input(url: str) -> Remote:
    """What lies below a URL whose objects are inputs. UsageError or ModelError if it cannot be used here."""
    remote = Remote(url)
    _ROOTS[remote.url] = remote
    return remote


def opened_inputs(paths: Iterable[str]) -> tuple[str, ...]:
    """The URLs that were opened for inputs at these paths, with logins: another process opens them before it reads."""
    found: dict[str, str] = {}
    starts: tuple[str, ...] = ()
    for path in paths:
        opened = None if path.startswith(starts) or not is_url(path) else _opened_root(path)
        if opened is not None:
            found[opened[0].url] = opened[0].full
            starts = tuple(f"{url.rstrip('/')}/" for url in found)
    return tuple(found.values())


def _opened_root(url: str) -> tuple[Remote, str] | None:
    protocol, _, rest = url.partition("://")
    parts = rest.split("/")
    for count in range(len(parts), -1, -1):
        place = f"{protocol}://{'/'.join(parts[:count])}"
        if place in _ROOTS:
            return _ROOTS[place], "/".join(parts[count:])
    return None


def object_at(url: str) -> tuple[Remote, str]:
    """Where the object of a URL as it is shown can be read, and its key there; see open_input for errors."""
    opened = _opened_root(url)
    if opened is not None:
        return opened
    protocol, _, rest = url.partition("://")
    parts = rest.split("/")
    folder = "/".join(parts[:-1])
    if not folder and protocol != "memory":
        return open_input(url), ""
    return open_input(f"{protocol}://{folder}"), parts[-1]
