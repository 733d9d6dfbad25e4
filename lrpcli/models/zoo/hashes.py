"""Hashes of files as text: "algorithm:hexadecimal digits", all of the digits or the first of them."""

from pathlib import Path

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
    algorithm, _, digits = known.partition(":")
    return len(digits) == WHOLE[algorithm]


def fits(found: str, known: str) -> bool:
    """Whether the digits that were found are those of a known hash, or begin with them.

    >>> from lrpcli.models.zoo.hashes import fits
    >>> fits("0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a", "sha256:0676ba61")
    True
    """
    digits = known.partition(":")[2].lower()
    return len(digits) >= LEAST_DIGITS and found.startswith(digits)


def has_hash(path: Path, known: str) -> bool:
    """Whether a file has a hash. OSError if it cannot be read."""
    # Here, because lists are to be quick and only some of the callers compare hashes.
    import hashlib

    with path.open("rb") as file:
        return fits(hashlib.file_digest(file, known.partition(":")[0]).hexdigest(), known)
