"""Addresses of files for the page: relative wherever the files can move together with it."""

import os
from pathlib import Path
from urllib.parse import quote

_SAFE = "/-_.!~*'()"
"""What JavaScript's encodeURIComponent leaves as it is, and the slash."""
SHOWN_BY_BROWSERS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".avif")


def address(path: str) -> str:
    """A relative path as the part of an address; whatever bytes it has, it is a path and nothing else.

    >>> from lrpcli.report.addresses import address
    >>> address("javascript:alert(1)/#a?.png")
    'javascript%3Aalert(1)/%23a%3F.png'
    """
    return quote(os.fsencode(path), safe=_SAFE)


def folder_address(folder: Path, output: Path) -> str:
    """Where a folder lies, seen from the page in `output`; it ends in a slash, or is empty for `output` itself."""
    place = _seen_from(os.path.abspath(folder), output)  # noqa: PTH100 - resolve would follow links
    return "" if place == "." else f"{place}/"


def file_address(path: str, output: Path) -> str:
    """Where a file with an absolute path lies, seen from the page in `output`."""
    return _seen_from(path, output)


def _seen_from(path: str, output: Path) -> str:
    """A relative address if both lie in one folder below the root and no link is on the way, else one of file://.

    A browser takes ".." from an address by its text, the system takes it from what a link leads to.
    """
    home = os.path.abspath(output)  # noqa: PTH100
    shared = os.path.commonpath([home, path])
    if shared == "/" or os.path.realpath(home) != home:
        return f"file://{address(path)}" if not path.startswith(home + "/") else address(os.path.relpath(path, home))
    return address(os.path.relpath(path, home))
