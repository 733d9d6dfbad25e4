"""What the path of an input may name beside a regular file."""

import re
import stat

from lrpcli.errors import UsageError

STDIN = "-"
"""What the path of an image says that came from standard input; a file of that name has the path "./-"."""
KINDS = {"DIR": "a folder", "FIFO": "a named pipe", "SOCK": "a socket", "CHR": "a device", "BLK": "a device"}


def is_stream(path: str) -> bool:
    """Whether a path is that of standard input, or of a pipe that the shell names; its content is all that counts."""
    return path == STDIN or path.startswith("/dev/fd/")


def kind_of(mode: int) -> str:
    """What something that is no regular file is, for people, by the `st_mode` of its status.

    >>> import os
    >>> from lrpcli.paths import kind_of
    >>> kind_of(os.stat("/dev/null").st_mode)
    'a device'
    """
    return next((words for name, words in KINDS.items() if getattr(stat, f"S_IS{name}")(mode)), "not a file")


_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_LOGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://)(?:[^/@:]*:[^/]*@|[^/@:]*:(?!\d*(?:/|$)).*@)")
"""A user with a password, which may hold a "/" by mistake; the number of a port is no password."""


def is_url(path: object) -> bool:
    """Whether a text of the command line is a URL, such as "s3://bucket/photos", and not a path of this machine.

    >>> from lrpcli.paths import is_url
    >>> [is_url(path) for path in ("s3://bucket/photos", "photos/a.jpg", "./s3:/photos")]
    [True, False, False]
    """
    return isinstance(path, str) and _URL.match(path) is not None


def local_path(text: str) -> str | None:
    """The path of this machine that a text of the command line names, also as file:///...; None for any other URL.

    UsageError for a file of another machine, and for "%", which some programs read as it is and others decode.

    >>> from lrpcli.paths import local_path
    >>> local_path("photos/a.jpg"), local_path("file:///photos"), local_path("s3://bucket/photos")
    ('photos/a.jpg', '/photos', None)
    """
    if not is_url(text):
        return text
    protocol, _, rest = text.partition("://")
    if protocol.lower() not in ("file", "local"):
        return None
    path = rest.removeprefix("localhost")
    if not path.startswith("/") or "%" in path or "?" in path:
        raise UsageError(f"The URL {text!r} is not clearly a path of this machine. Give the path itself.")
    return path


def require_path(path: object, what: str) -> None:
    """UsageError if a program names a URL where a path of this machine is needed; `what` begins the sentence."""
    if is_url(path) and isinstance(path, str):
        raise UsageError(f"{what} {shown_url(path)!r} is a URL, and a path of this machine is needed. Copy it here, or "
                         "name one to copy afterwards.")  # fmt: skip


def shown_url(url: str) -> str:
    """A URL without user and password, nor what a web address has behind "?", which may be a key.

    >>> from lrpcli.paths import shown_url
    >>> shown_url("ftp://me:secret@host/photos"), shown_url("https://host/a.jpg?signature=1")
    ('ftp://host/photos', 'https://host/a.jpg')
    """
    shown = _LOGIN.sub(r"\1", url)
    return shown.partition("?")[0] if shown.startswith(("http://", "https://")) else shown
