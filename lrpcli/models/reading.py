"""Reading files that anybody may have made: every failure is an error that names the file."""

import hashlib
import math
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError

from lrpcli.errors import ModelError, WeightsError
from lrpcli.models.recognise import recognise
from lrpcli.paths import kind_of
from lrpcli.small_files import UnusableFile, read_small
from lrpcli.text_files import decode_text, plain_reason

DAMAGE = (ValueError, TypeError, RecursionError, EOFError, MemoryError, SyntaxError, TokenError)
"""What the parsers of Python and NumPy raise on a damaged file."""
MEMORY_LIMIT = 2**31
"""Bytes that a model file may have, that its weights may become as float32, and that all values between the layers of
its net may take for one image: whatever asks for more is refused before memory is set aside (Allowance).

It is also the limit of protobuf; the largest public Caffe nets need a third of it."""
LONGEST_TEXT = 2**21
"""Bytes of a net description or a label file; the largest known ones need half of it."""


class Allowance:
    """What a file may still make of MEMORY_LIMIT, counted before memory is set aside.

    >>> from lrpcli.models.reading import Allowance
    >>> allowance = Allowance("net.caffemodel", "its weights")
    >>> allowance.take((1000, 4096))
    >>> allowance.take((10**6, 10**6), "layer 'fc8'")
    Traceback (most recent call last):
        ...
    lrpcli.errors.ModelError: 'net.caffemodel' asks for more than 2 GiB of memory for its weights (layer 'fc8', ...
    """

    def __init__(self, path: str | Path, what: str) -> None:
        self.path, self.what, self.left = str(path), what, MEMORY_LIMIT

    def take(self, shape: tuple[int, ...], where: str = "", itemsize: int = 4) -> None:
        """Counts an array of numbers. Raises ModelError, naming `where`, when it is one too many."""
        self.left -= math.prod(shape) * itemsize
        if self.left < 0:
            place = f"{where}, of shape" if where else "shape"
            raise ModelError(
                f"{self.path!r} asks for more than {MEMORY_LIMIT // 2**30} GiB of memory for {self.what} ({place} "
                f"{' x '.join(map(str, shape))}), which no net should. Check the file, or fetch it again."
            )


def read_weights_file(path: Path, *formats: str) -> tuple[bytes, str]:
    """The bytes of a weights file and their sha256. Errors as for check_weights_file."""
    check_weights_file(path, *formats)
    with name_missing_weights(path):
        data = path.read_bytes()
    return data, hashlib.sha256(data).hexdigest()


def hash_weights_file(path: Path) -> str:
    """The sha256 of a weights file, which is not held in memory. Raises WeightsError if it cannot be read."""
    with name_missing_weights(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_weights_file(path: Path, *formats: str) -> None:
    """WeightsError if the file cannot be read; ModelError if it is too large, or known as none of `formats`.

    `formats` are names that recognise gives; a file that it does not know passes.
    """
    with name_missing_weights(path):
        size = regular_size(path)
        with path.open("rb") as file:
            found = recognise(file.read(4096), size)
    if found is not None and found.name not in formats:
        raise ModelError(f"{str(path)!r} holds no weights: {found.sentence}")
    if size >= MEMORY_LIMIT:
        raise ModelError(
            f"{str(path)!r} has {size:,} bytes, and a weights file may have {MEMORY_LIMIT:,} (2 GiB) at most. Give "
            "smaller weights, or load the net as a torch module."
        )


def regular_size(path: Path) -> int:
    """The size of a file in bytes. OSError if it is missing, or a folder, a pipe or a device."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(21, "Is a directory", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(22, f"it is {kind_of(status.st_mode)} and not a regular file", str(path))
    return status.st_size


def read_text_file(path: Path, what: str, errors: str = "strict") -> str:
    """The text of a UTF-8 file that messages call `what`, with or without a byte order mark.

    `errors` as for bytes.decode. Raises ModelError if it cannot be read, is too long, or no such text.
    """
    try:
        data = read_small(path, LONGEST_TEXT)
        found = recognise(data[:4096], len(data))
        if found is not None and found.name not in ("text", "empty", "pointer"):
            raise ModelError(f"The {what} {str(path)!r} is none: {found.sentence}")
        return decode_text(data, errors)
    except UnusableFile as error:
        raise ModelError(f"The {what} {str(path)!r} {error}.") from error
    except ValueError as error:
        raise ModelError(f"The {what} {str(path)!r} cannot be read: {error}.") from error


@contextmanager
def name_missing_weights(path: Path) -> Iterator[None]:
    """Turns what the system raises on a weights file that cannot be read into a WeightsError that names it."""
    try:
        yield
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"The weights file {str(path)!r} cannot be read ({reason}). Check the path.") from error


@contextmanager
def name_damage(path: str | Path, advice: str, *also: type[Exception]) -> Iterator[None]:
    """Turns what parsers raise on a damaged file, DAMAGE and `also`, into a ModelError that names the file."""
    damage: tuple[type[Exception], ...] = (*DAMAGE, *also)
    try:
        yield
    except damage as error:
        raise ModelError(f"{str(path)!r} cannot be read: {plain_reason(error)}. {advice}") from error
