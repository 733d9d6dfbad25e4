"""Images that come through a stream of this process: standard input, or a pipe that the shell names."""

import os
import re
import sys
from functools import cache
from typing import BinaryIO

from lrpcli.errors import ImageError
from lrpcli.paths import STDIN

BYTES_PER_PIXEL = 8
"""As many as the largest pixels have that are decoded: four channels of 16 bits."""
OTHER_BYTES = 1 << 24
"""Beside the pixels: headers, profiles, texts."""
_CHUNK = 1 << 20
_STANDARD = (STDIN, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
_NUMBERED = re.compile(r"/(?:dev|proc/self)/fd/(\d+)")


def stream_of(path: str) -> str | None:
    """The stream that a path of the command line names, always by the same path ("-" is standard input), or None."""
    if path in _STANDARD:
        return STDIN
    numbered = _NUMBERED.fullmatch(path)
    return f"/dev/fd/{int(numbered[1])}" if numbered else None


def is_open(stream: str) -> bool:
    """Whether there is something to read; `stream` as stream_of gives it."""
    if stream == STDIN:
        return sys.stdin is not None and not sys.stdin.closed
    return os.path.exists(stream)  # noqa: PTH110 - no path of a file


def most_bytes(pixels: int) -> int:
    """The longest stream that is read, where an image may have so many pixels."""
    return BYTES_PER_PIXEL * pixels + OTHER_BYTES


def read_stream(stream: str, limit: int) -> bytes:
    """What a stream holds, which is read only once; ImageError if it is longer than the limit or cannot be read."""
    content = _content(sys.stdin.buffer if stream == STDIN else stream, limit)
    if isinstance(content, ImageError):
        raise content
    return content


@cache
def _content(source: BinaryIO | str, limit: int) -> bytes | ImageError:
    try:
        if isinstance(source, str):
            with os.fdopen(os.dup(int(source.rpartition("/")[2])), "rb") as stream:
                return read_bounded(stream, f"The image {source!r}", limit)
        return read_bounded(source, "The image on standard input", limit)
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError("io", f"The image {source!r} cannot be read: {error.strerror}.")


def too_long(what: str, limit: int) -> ImageError:
    """The error of an image whose bytes are more than the limit."""
    return ImageError(
        "too_large",
        f"{what} is longer than {limit} bytes, which is more than an image of --max-pixels takes. Raise "
        "--max-pixels if it is to be trusted.",
    )


def read_bounded(stream: BinaryIO, what: str, limit: int) -> bytes:
    """The rest of a stream, in pieces up to the limit; ImageError too_large beyond it, io if it cannot be read."""
    content = bytearray()
    try:
        while piece := stream.read(_CHUNK):
            content += piece
            if len(content) > limit:
                raise too_long(what, limit)
    except OSError as error:
        raise ImageError("io", f"{what} cannot be read: {error.strerror}.") from error
    return bytes(content)
