"""Files that a user names and anybody may have made: read within bounds, and without waiting for what never comes."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

from lrpcli.paths import kind_of
from lrpcli.text_files import decode_text, plain_reason

MOST = 1 << 20
"""Bytes of a file of settings or rules; what is longer is none."""


class UnusableFile(ValueError):
    """A file cannot be used; the text is the rest of a sentence that begins with its name."""


def read_small(path: str | Path, most: int = MOST) -> bytes:
    """The content of a regular file of at most `most` bytes. UnusableFile for any other, and if it cannot be read."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(most + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise UnusableFile(f"cannot be read: {error.strerror or error}; check the path") from error
    except ValueError as error:  # a NUL in its name
        raise UnusableFile(f"cannot be read: {error}") from error
    if not stat.S_ISREG(mode):
        raise UnusableFile(f"is {kind_of(mode)}; give a regular file")
    if len(content) > most:
        raise UnusableFile(f"is longer than {most:,} bytes; give the right file")
    return content


def _open_at_once(path: str, flags: int) -> int:
    """An opener for open that does not wait for who writes to a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_toml(path: str | Path) -> dict[str, Any]:
    """The content of a TOML file, with or without the mark of UTF-8 at its beginning. UnusableFile if it is not one."""
    content = read_small(path)
    try:
        text = decode_text(content)
    except ValueError as error:
        raise UnusableFile(f"cannot be read: {error}") from error
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnusableFile(f"is not valid TOML: {plain_reason(error)}") from error
