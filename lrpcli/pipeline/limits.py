"""Limits of the system, met anywhere in a run: what is finished is safe, and one sentence says what ran out."""

from collections.abc import Iterator
from contextlib import contextmanager

from lrpcli.errors import StoppedError

_NO_THREAD = "can't start new thread"
"""What Python says; it has no class for that."""
_NO_ROOM = ("failed to map segment", "cannot allocate memory")
"""What the loader of libraries says."""


@contextmanager
def stopping_at_limits() -> Iterator[None]:
    """While entered, StoppedError says that there is no memory or no thread left."""
    try:
        yield
    except (MemoryError, ImportError, OSError) as error:
        if not isinstance(error, MemoryError) and not any(words in str(error).lower() for words in _NO_ROOM):
            raise
        raise StoppedError(
            "The run needs more memory than there is. What is finished is safe: run the same command again, with a "
            "smaller --batch-size or fewer --jobs, or raise the limit (ulimit -v)."
        ) from error
    except RuntimeError as error:
        if _NO_THREAD not in str(error):
            raise
        raise StoppedError("No thread can be started. Use fewer --jobs, or raise the limit (ulimit -u).") from error
