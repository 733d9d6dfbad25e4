"""Mirrors: a web address or a folder under which weights files lie by their name, and addresses as messages show them.

Cheap to import: nothing here opens anything.
"""

import os
import re
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit, urlunsplit

from lrpcli.errors import UsageError

VARIABLE = "LRP_MIRROR"
WEB = ("https", "http")
IN_A_PATH = "/%~!$&'()*+,;=:@"
"""What a path in an address may hold beside letters, digits and "_.-"; the rest is written as %XX."""

USER = re.compile(r"[^/]*:[^/]*@")
"""How a text begins that is an address without its scheme, and has a password."""


def check_mirror(text: str) -> str:
    """A mirror as it was given. ValueError, with a sentence that shows no password, if it cannot be one.

    >>> from lrpcli.models.zoo.mirrors import check_mirror
    >>> check_mirror("https://mirror.example/nets/")
    'https://mirror.example/nets/'
    >>> check_mirror("ftp://mirror.example/nets")
    Traceback (most recent call last):
        ...
    ValueError: 'ftp://mirror.example/nets' cannot be a mirror: it must begin with https://, http:// or file:///, or ...
    """
    if not text:
        raise ValueError("A mirror is an address such as https://mirror.example/nets, or a folder; it is empty.")
    if not _is_address(text):
        return text
    try:
        parts = urlsplit(text)
        problem = _problem(parts, parts.port)
    except ValueError:
        problem = "its host and port cannot be read"
    if problem:
        scheme, _, rest = text.partition(":")
        # Where a password holds "/" or "?", nothing but the last "@" tells where it ends.
        harmless = f"{scheme}://{rest.rpartition('@')[2]}" if "@" in rest else text
        raise ValueError(f"{shown(harmless)!r} cannot be a mirror: {problem}.")
    return text


def chosen_mirror(given: str | None) -> str | None:
    """The mirror that was given, or else that of LRP_MIRROR; None if there is none. UsageError if it cannot be one."""
    mirror = given if given is not None else os.environ.get(VARIABLE) or None
    try:
        return None if mirror is None else check_mirror(mirror)
    except ValueError as error:
        raise UsageError(str(error)) from error


def address_below(mirror: str, name: str) -> str:
    """Where a mirror has the file of that name, as an address: its path, a slash, the name; a query stays behind.

    >>> from lrpcli.models.zoo.mirrors import address_below
    >>> address_below("https://mirror.example/nets/?key=1", "net.onnx")
    'https://mirror.example/nets/net.onnx?key=1'
    >>> address_below("/srv/nets", "net.onnx")
    'file:///srv/nets/net.onnx'
    """
    if not _is_address(mirror):
        return (Path(mirror).absolute() / name).as_uri()
    parts = urlsplit(mirror)
    path = f"{quote(parts.path, safe=IN_A_PATH).rstrip('/')}/{quote(name)}"
    return urlunsplit(parts._replace(path=path))


def is_local(address: str) -> bool:
    """Whether an address is that of a file on this machine."""
    return urlsplit(address).scheme == "file"


def local_path(address: str) -> Path:
    """The file that a file:/// address names."""
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(address).path)))


def shown(address: str) -> str:
    """An address for people and records: without a user, a password, a query or a fragment, which may be secret.

    >>> from lrpcli.models.zoo.mirrors import shown
    >>> shown("https://anna:secret@mirror.example:8443/nets?token=secret")
    'https://mirror.example:8443/nets'
    """
    if not _is_address(address):
        return address
    scheme, _, rest = address.partition(":")
    return f"{scheme}:{_without_user(rest.partition('?')[0].partition('#')[0])}"


def host_of(address: str) -> str:
    """Who has the file of an address, for messages: the host and its port, or the folder."""
    if is_local(address):
        return str(local_path(address).parent)
    return urlsplit(shown(address)).netloc


def _without_user(rest: str) -> str:
    """What follows the scheme, without all that stands before the last "@" of the host's part."""
    slashes = rest[: len(rest) - len(rest.lstrip("/"))]
    host, slash, path = rest[len(slashes) :].partition("/")
    return f"{slashes}{host.rpartition('@')[2]}{slash}{path}"


def _is_address(text: str) -> bool:
    scheme = text.partition(":")[0].lower()
    return "://" in text or (":" in text and scheme in (*WEB, "file")) or USER.match(text) is not None


def _problem(parts: SplitResult, port: int | None) -> str | None:
    """Why an address cannot be a mirror; asking for `port` has shown that it is a number."""
    if parts.scheme not in (*WEB, "file"):
        return "it must begin with https://, http:// or file:///, or be the path of a folder"
    if parts.fragment:
        return "what stands behind # is never sent to a server"
    if parts.scheme == "file":
        fine = parts.netloc in ("", "localhost") and parts.path
        return None if fine else "the address of a folder has no host, as in file:///srv/nets"
    return None if parts.hostname else "it names no host"
