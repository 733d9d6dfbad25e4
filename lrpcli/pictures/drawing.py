"""matplotlib as it comes: whatever the current folder holds, and where no cache of its own can be written."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "MPLCONFIGDIR"
"""The environment variable by which matplotlib is told where to write."""


def load_matplotlib(folder: Path) -> None:
    """Imports matplotlib for figures, whatever the current folder holds; it prints nothing.

    It wants a folder for its list of fonts. A user without a home gets a temporary one, and where none can be written
    either, it lies in `folder`; it is removed afterwards. Meanwhile the process is in another working folder.
    """
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)
    with _cache(folder), _away_from_here():
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401


@contextlib.contextmanager
def plain_matplotlib(folder: Path) -> Iterator[None]:
    """While entered, matplotlib has its own defaults; see load_matplotlib."""
    load_matplotlib(folder)
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


@contextlib.contextmanager
def _cache(folder: Path) -> Iterator[None]:
    try:
        place = tempfile.gettempdir()  # matplotlib makes do with a folder there
    except FileNotFoundError:
        place = str(folder.absolute())
    else:
        if VARIABLE in os.environ or _has_home():
            yield
            return
    before = os.environ.get(VARIABLE)
    with tempfile.TemporaryDirectory(prefix=".lrp-", dir=place) as name:
        os.environ[VARIABLE] = name
        yield
    del os.environ[VARIABLE]
    os.environ.update({} if before is None else {VARIABLE: before})


def _has_home() -> bool:
    try:
        Path.home()
    except RuntimeError:
        return False
    return True


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
