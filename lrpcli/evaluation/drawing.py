"""matplotlib as it comes: whatever the current folder holds, and where no cache of its own can be written."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "MPLCONFIGDIR"
"""The environment variable by which matplotlib is told where to write."""


@contextlib.contextmanager
def plain_matplotlib(folder: Path) -> Iterator[None]:
    """While entered, matplotlib has its own defaults and prints nothing.

    It wants a folder for its list of fonts. Where neither the user's nor any for temporary files can be written, it
    gets one in `folder`, which is removed afterwards.
    """
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)
    with _cache(folder), _away_from_here():
        import matplotlib.figure
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


@contextlib.contextmanager
def _cache(folder: Path) -> Iterator[None]:
    try:
        tempfile.gettempdir()  # matplotlib makes do with a folder there
    except FileNotFoundError:
        before = os.environ.get(VARIABLE)
        with tempfile.TemporaryDirectory(prefix=".lrp-", dir=folder.absolute()) as name:
            os.environ[VARIABLE] = name
            yield
        del os.environ[VARIABLE]
        os.environ.update({} if before is None else {VARIABLE: before})
    else:
        yield


@contextlib.contextmanager
def _away_from_here() -> Iterator[None]:
    """In another working folder: a file called matplotlibrc in this one would be read."""
    here = os.open(os.curdir, getattr(os, "O_PATH", os.O_RDONLY))  # perhaps not to be read
    try:
        os.chdir(os.sep)
        yield
    finally:
        os.fchdir(here)
        os.close(here)
