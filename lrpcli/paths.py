"""What the path of an input may name beside a regular file."""

import stat

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
