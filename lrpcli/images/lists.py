"""Lists of images, one path a line or separated by NUL."""

import os
import posixpath
from collections.abc import Iterator
from io import BufferedIOBase

from lrpcli.errors import UsageError
from lrpcli.images.find import Source
from lrpcli.images.streams import stream_of
from lrpcli.paths import STDIN, local_path, require_path, shown_url
from lrpcli.remote import is_usable, open_input
from lrpcli.text_files import UTF8_MARK, marked_encoding

LONGEST_PATH = 1 << 16
"""Bytes; no system takes a path of so many."""
_CHUNK = 1 << 16


def sources_from_list(stream: BufferedIOBase, *, null: bool = False, urls: bool = False) -> Iterator[Source]:
    """The pictures that a list names, one path a line (LF or CRLF), or NUL-separated; blank lines do not count.

    A byte order mark of UTF-8 at the start is passed over. A result is named after the whole path, without "/", "."
    and ".." parts: "/data/a.jpg" becomes "data/a.jpg". A file called "-" is a file here; a stream such as "/dev/stdin"
    has the path that stream_of gives it, and a URL, where `urls` says that there may be any, the name of what stands
    behind "://". UsageError for a path that has no such name, and for what is no such list:
    UTF-16, lines with NUL, or longer than any path.
    """
    for number, item in enumerate(_items(stream, b"\0" if null else b"\n"), 1):
        entry = _without_mark(item) if number == 1 else item
        if not null:
            entry = entry.removesuffix(b"\r")
            if b"\0" in entry:
                raise UsageError(f"Line {number} of the list of files holds a NUL byte. Give -0 if its paths end with"
                                 " NUL; if it is UTF-16, save it as UTF-8.")  # fmt: skip
        if entry if null else entry.strip():
            yield _source(os.fsdecode(entry), urls)


def _source(text: str, urls: bool) -> Source:
    path = local_path(text)
    if path is None:
        if not urls:
            require_path(text, "The list of files names something that cannot be read here:")
        return _object(text)
    parts = [part for part in posixpath.normpath(path).split("/") if part not in ("", ".", "..")]
    if not parts:
        raise UsageError(f"The list of files names {path!r}, which is a folder; a list holds paths of files.")
    return Source("./-" if path == STDIN else stream_of(path) or path, "/".join(parts))


def _object(url: str) -> Source:
    shown = shown_url(url)
    name = shown.partition("://")[2].lstrip("/")
    if not is_usable(name):
        raise UsageError(f"The list of files names {shown!r}, and no result can be called like that.")
    if shown != url:  # its login is good for what lies beside it
        open_input(url if url.startswith("http") else url.rpartition("/")[0])
    return Source(shown, name)


def _without_mark(item: bytes) -> bytes:
    encoding = marked_encoding(item)
    if encoding is not None:
        raise UsageError(f"The list of files is {encoding} text, which no path is written in. Save it as UTF-8.")
    return item.removeprefix(UTF8_MARK)


def _items(stream: BufferedIOBase, separator: bytes) -> Iterator[bytes]:
    """What stands between the separators, as it comes; UsageError if that is too long for a path, and maybe endless."""
    rest = b""
    while chunk := stream.read1(_CHUNK):
        *whole, rest = (rest + chunk).split(separator)
        yield from whole
        if len(rest) > LONGEST_PATH:
            break
    if len(rest) > LONGEST_PATH:
        raise UsageError(
            f"The list of files has a line of more than {LONGEST_PATH} bytes, which is no path. It holds one path a "
            "line, or with -0 paths that end with NUL."
        )
    yield rest
