"""A file from a source that may be slow, broken or hostile: all of it, with the right hash, or nothing."""

import base64
import fcntl
import glob
import hashlib
import http.client
import os
import secrets
import socket
import ssl
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import unquote_to_bytes, urljoin, urlsplit, urlunsplit

from lrpcli.models.zoo.hashes import fits, is_whole, open_regular
from lrpcli.models.zoo.mirrors import is_local, local_path, shown

CONNECT = 20.0
"""Seconds that one address of a server may take to let a connection begin."""
STALL = 60.0
"""Seconds that a server may be silent."""
SLOWEST = 1000
"""Bytes a second that it must send, over any STALL seconds."""
LARGEST = 1 << 30
"""Bytes of a file whose size is not known beforehand."""
PIECE = 1 << 16
HOPS = 10
REDIRECTS = (301, 302, 303, 307, 308)
TEMPORARY = ".{name}.{unique}.part"


class DownloadError(Exception):
    """A file could not be had from its source; the text says why, as the end of a sentence."""


@dataclass(frozen=True)
class Remote:
    """A file on a server, or in a folder (file:///...). `hash` and `size` as WeightsFile has them.

    `url` may hold a user and a password, which go to its own scheme, host and port alone and into no message. Plain
    http is taken, at first or by redirection, only with a whole hash: with the first digits of one, https must do.
    """

    url: str
    hash: str
    size: int | None = None


def download(remote: Remote, path: Path, *, progress: bool = False) -> None:
    """Fetches a file and puts it in its place whole. DownloadError if it cannot be had, OSError if not be stored.

    No compression is asked for, and no more is read than the file's size, or LARGEST. What killed downloads of this
    file left is removed; others that are under way go on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    with _temporary(path) as (file, temporary), _Watch() as watch:
        found = hashlib.new(remote.hash.partition(":")[0])
        for piece in _counted(_pieces(remote, watch), remote, progress):
            found.update(piece)
            file.write(piece)
        file.flush()
        if not fits(found.hexdigest(), remote.hash):
            raise DownloadError(f"what came has the wrong hash and was not kept (expected is {remote.hash})")
        temporary.chmod(0o644)
        temporary.replace(path)


class _Watch:
    """Cuts a connection that stays silent for STALL seconds, or brings less than SLOWEST bytes a second."""

    def __init__(self) -> None:
        self.received = 0
        self.stalled = False
        self.socket: socket.socket | None = None
        self._over = threading.Event()

    def __enter__(self) -> "_Watch":
        threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()

    def _look(self) -> None:
        before = 0
        while not self._over.wait(STALL):
            if self.received - before < STALL * SLOWEST:
                self.stalled = True
                if self.socket is not None:
                    with suppress(OSError):
                        self.socket.shutdown(socket.SHUT_RDWR)  # wakes who reads from it
            before = self.received

    def connection(self, kind: Any) -> Any:
        """A class of http.client's connections whose sockets are watched."""
        watch = self

        class Watched(kind):  # type: ignore[misc]
            def connect(self) -> None:
                """See http.client."""
                self.timeout = min(CONNECT, STALL)
                super().connect()
                self.sock.settimeout(STALL)
                watch.socket = self.sock

        return Watched


def _pieces(remote: Remote, watch: _Watch) -> Iterator[bytes]:
    """The content of a file as it comes."""
    return _local_pieces(remote) if is_local(remote.url) else _web_pieces(remote, watch)


def _local_pieces(remote: Remote) -> Iterator[bytes]:
    """The content of a file in a folder."""
    try:
        with open_regular(local_path(remote.url)) as file:
            left = os.fstat(file.fileno()).st_size
            _check_length(left, remote)
            while piece := file.read(min(PIECE, left)):
                left -= len(piece)
                yield piece
    except (OSError, ValueError) as error:
        raise DownloadError(f"the file there cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _web_pieces(remote: Remote, watch: _Watch) -> Iterator[bytes]:
    """The content of a file on a server."""
    try:
        with _answer(remote, watch) as response:
            length = _length(response, remote)
            while piece := response.read(PIECE):
                watch.received += len(piece)
                if watch.received > (length or LARGEST):
                    raise DownloadError(f"more than {length or LARGEST:,} bytes came")
                yield piece
    except HTTPError as error:
        error.close()
        raise DownloadError(f"the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(_reason(error, watch)) from error
    if watch.stalled or (length is not None and watch.received < length):
        raise DownloadError(_reason(http.client.IncompleteRead(b""), watch))


def _answer(remote: Remote, watch: _Watch) -> http.client.HTTPResponse:
    """The answer to a request, after redirections; they may only lead to other web addresses."""
    opener = urllib.request.build_opener(_Http(watch), _Https(watch), _NoRedirections())
    url = remote.url
    for _ in range(HOPS):
        if urlsplit(url).scheme not in ("http", "https"):
            raise DownloadError(f"it leads to {shown(url)!r}, which is not a web address")
        if urlsplit(url).scheme == "http" and not is_whole(remote.hash):
            raise DownloadError("it is plain http, and only the first digits of the file's hash are known")
        request = _request(url, remote.url)
        try:
            response: http.client.HTTPResponse = opener.open(request, timeout=STALL)
            return response
        except HTTPError as error:
            if error.code not in REDIRECTS:
                raise
            error.close()  # unread
            url = urljoin(url, error.headers.get("Location", ""))
    raise DownloadError(f"it leads to more than {HOPS} other addresses")


def _request(url: str, first: str) -> urllib.request.Request:
    """A request without a password in its address; that of `first` goes to the same scheme, host and port alone."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "lrp"}
    parts, start = urlsplit(url), urlsplit(first)
    user, at, host = start.netloc.rpartition("@")
    bare = parts.netloc.rpartition("@")[2]
    if at and (parts.scheme, bare) == (start.scheme, host):
        name, _, password = user.partition(":")
        secret = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
        headers["Authorization"] = f"Basic {base64.b64encode(secret).decode()}"
    return urllib.request.Request(urlunsplit(parts._replace(netloc=bare)), headers=headers)


def _length(response: http.client.HTTPResponse, remote: Remote) -> int | None:
    """How many bytes will come, None if the server does not say; DownloadError if it cannot be the file."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise DownloadError("the server sends it compressed, which nobody asked for")
    length = response.length if response.length is not None else remote.size
    if length is not None:
        _check_length(length, remote)
    return length


def _check_length(length: int, remote: Remote) -> None:
    if length != (remote.size or length):
        raise DownloadError(f"the file there has {length:,} bytes; expected are {remote.size:,}")
    if remote.size is None and length > LARGEST:
        raise DownloadError(f"the file there has {length:,} bytes; at most {LARGEST:,} are fetched")


def _reason(error: Exception, watch: _Watch) -> str:
    if watch.stalled or isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
        return f"the server sent less than {SLOWEST:,} bytes a second over {STALL:g} s"
    if isinstance(error, (http.client.IncompleteRead, ConnectionError)):
        return "the transfer was cut off"
    if isinstance(error, URLError):
        return f"no connection to the server ({getattr(error.reason, 'strerror', None) or error.reason})"
    return f"the answer cannot be understood ({type(error).__name__})"


class _Http(urllib.request.HTTPHandler):
    """Opens http with watched connections."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._connection = watch.connection(http.client.HTTPConnection)

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """See urllib."""
        return self.do_open(self._connection, request)


class _Https(urllib.request.HTTPSHandler):
    """Opens https with watched connections."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._connection = watch.connection(http.client.HTTPSConnection)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """See urllib."""
        return self.do_open(self._connection, request, context=ssl.create_default_context())


class _NoRedirections(urllib.request.HTTPRedirectHandler):
    """Leaves redirections to _answer: urllib would read the whole body of each."""

    def redirect_request(self, *arguments: Any) -> None:
        """None: the redirection is the answer."""


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file beside `path`, locked while it is written, and gone afterwards unless it was renamed."""
    while True:
        temporary = path.parent / TEMPORARY.format(name=path.name, unique=secrets.token_hex(8))
        with temporary.open("xb") as file:
            try:
                with suppress(OSError):  # a file system without locks: leftovers then stay
                    fcntl.flock(file, fcntl.LOCK_EX)
                if not temporary.exists():  # another download took it for a leftover, before it was locked
                    continue
                yield file, temporary
                return
            finally:
                temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Removes what downloads of this file left that were killed: nobody holds a lock on it."""
    for leftover in path.parent.glob(TEMPORARY.format(name=glob.escape(path.name), unique="[0-9a-f]" * 16)):
        with suppress(OSError), os.fdopen(os.open(leftover, os.O_RDWR | os.O_NOFOLLOW), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def _counted(pieces: Iterator[bytes], remote: Remote, progress: bool) -> Iterator[bytes]:
    """The pieces, with a bar on standard error."""
    if not progress:
        yield from pieces
        return
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # no thread that looks after bars: there may be too few
    with tqdm(total=remote.size, unit="B", unit_scale=True, file=sys.stderr, dynamic_ncols=True) as bar:
        for piece in pieces:
            bar.update(len(piece))
            yield piece
