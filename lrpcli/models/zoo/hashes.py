"""Hashes of files as text: "algorithm:hexadecimal digits", all of the digits or the first of them."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from lrpcli.paths import kind_of

WHOLE = {"sha1": 40, "sha256": 64}
"""Digits of a whole hash."""
LEAST_DIGITS = 8
"""Digits that tell files apart by accident, though not against malice; torchvision writes as many into names."""


def is_whole(known: str) -> bool:
    """Whether a hash has all its digits, so that nobody can make another file with it.

    >>> from lrpcli.models.zoo.hashes import is_whole
    >>> is_whole("sha1:4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46"), is_whole("sha256:0676ba61")
    (True, False)
    """
    return len(known.partition(":")[2]) == WHOLE[algorithm_of(known)]


def algorithm_of(known: str) -> str:
    """What stands before the colon."""
    return known.partition(":")[0]


def fits(found: str, known: str) -> bool:
    """Whether the digits that were found are those of a known hash, or begin with them.

    >>> from lrpcli.models.zoo.hashes import fits
    >>> fits("0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a", "sha256:0676ba61")
    True
    """
    digits = known.partition(":")[2].lower()
    return len(digits) >= LEAST_DIGITS and found.startswith(digits)


def open_regular(path: Path) -> BufferedReader:
    """A regular file, opened for reading. OSError for anything else, which may never end, and if it cannot be read."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise OSError(errno.EINVAL, f"it is {kind_of(mode)}, not a file")
    return file


def hash_of(path: Path, algorithm: str) -> str:
    """The digits of a file's hash. OSError if it cannot be read, or is not a regular file."""
    # Here, because lists are to be quick and only some of the callers compare hashes.
    import hashlib

    with open_regular(path) as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def has_hash(path: Path, known: str) -> bool:
    """Whether a file has a hash; errors as those of hash_of."""
    return fits(hash_of(path, algorithm_of(known)), known)
