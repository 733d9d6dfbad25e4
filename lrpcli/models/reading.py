"""Reading files that anybody may have made: every failure is an error that names the file."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError

from lrpcli.errors import ModelError, WeightsError

DAMAGE = (ValueError, TypeError, RecursionError, EOFError, MemoryError, SyntaxError, TokenError)
"""What the parsers of Python and NumPy raise on a damaged file."""


def read_weights_file(path: Path) -> tuple[bytes, str]:
    """The bytes of a weights file and their sha256. Raises WeightsError if it cannot be read."""
    with name_missing_weights(path):
        data = path.read_bytes()
    return data, hashlib.sha256(data).hexdigest()


def hash_weights_file(path: Path) -> str:
    """The sha256 of a weights file, which is not held in memory. Raises WeightsError if it cannot be read."""
    with name_missing_weights(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def name_missing_weights(path: Path) -> Iterator[None]:
    """Turns what the system raises on a weights file that cannot be read into a WeightsError that names it."""
    try:
        yield
    except OSError as error:
        raise WeightsError(
            f"The weights file {str(path)!r} cannot be read ({error.strerror or error}). Check the path."
        ) from error


@contextmanager
def name_damage(path: Path, advice: str, *also: type[Exception]) -> Iterator[None]:
    """Turns what parsers raise on a damaged file, DAMAGE and `also`, into a ModelError that names the file."""
    damage: tuple[type[Exception], ...] = (*DAMAGE, *also)
    try:
        yield
    except damage as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{str(path)!r} cannot be read: {reason.rstrip('.')}. {advice}") from error
