"""matplotlib as it comes: whatever the current folder holds, and where no cache of its own can be written."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def plain_matplotlib(folder: Path) -> Iterator[None]:
    """While entered, matplotlib has its own defaults and prints nothing.

    It wants a folder for its list of fonts. Where neither the user's nor any for temporary files can be written, it
    gets one in `folder`, which is removed afterwards.
    """
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)
    with _temporary_folder(folder), _away_from_here():
        import matplotlib.figure
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


@contextlib.contextmanager
def _temporary_folder(folder: Path) -> Iterator[None]:
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        with tempfile.TemporaryDirectory(prefix=".lrp-", dir=folder.absolute()) as name:
            tempfile.tempdir = name
            try:
                yield
            finally:
                tempfile.tempdir = None
    else:
        yield


@contextlib.contextmanager
def _away_from_here() -> Iterator[None]:
    """In another working folder: a file called matplotlibrc in this one would be read."""
    here = os.open(os.curdir, os.O_RDONLY)
    try:
        os.chdir(os.sep)
        yield
    finally:
        os.fchdir(here)
        os.close(here)
