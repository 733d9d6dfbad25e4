"""Errors of the world around the command that nobody met earlier, as sentences: files, memory, threads, packages."""

import errno
import os
import sys
from pathlib import Path
from types import ModuleType, TracebackType

from lrpcli.errors import DeviceError, LrpError, StoppedError, UsageError

OURS = ("lrpcli", "__main__")
NO_THREAD = ("can't start new thread", "resource temporarily unavailable")
NO_ROOM = ("failed to map segment", "cannot allocate memory")
"""What the loader of libraries says."""
MEMORY = (
    "There is too little memory. Choose a smaller --batch-size and fewer --jobs, or allow the process more (ulimit -v)."
)
ADVICE = {
    errno.EMFILE: "Allow more open files (ulimit -n), or choose fewer --jobs.",
    errno.ENFILE: "Close other programs.",
    errno.EFBIG: "Allow larger files (ulimit -f).",
    errno.ENOSPC: "Free some space, then run the same command again.",
    errno.EDQUOT: "Free some space, then run the same command again.",
    errno.EAGAIN: "Allow more processes (ulimit -u), or choose fewer --jobs.",
}
"""What to do about errors of the operating system; for others, TRY_AGAIN."""
TRY_AGAIN = "See that it can be used, then run the same command again."


def known(error: BaseException) -> LrpError | None:
    """The error of this package for one that came from outside; None for what can only be a bug."""
    if isinstance(error, LrpError):
        return error
    package = _broken_package(error)
    if package is not None:
        reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
        advice = "Install it again, or allow the process more memory."
        if isinstance(error, FileNotFoundError) and "temporary directory" in reason:
            advice = "Name a folder that can be written in TMPDIR."
        return StoppedError(f"The package {package!r} cannot be loaded: {reason}. {advice}")
    if isinstance(error, MemoryError) or _has_no_room(error):
        return StoppedError(MEMORY)
    if isinstance(error, RuntimeError):
        return _of_torch(error)
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding() != "utf-8":
        return UsageError(
            f"The file name {error.object!r} cannot be written in {error.encoding}, the encoding of this locale. "
            "Set LC_ALL=C.UTF-8."
        )
    if isinstance(error, ValueError) and str(error).startswith("Exceeds the limit"):
        return UsageError(f"A number has too many digits: more than {sys.get_int_max_str_digits()}.")
    return None


def _has_no_room(error: BaseException) -> bool:
    """Whether the system refuses memory, or the loader of libraries room for one."""
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return isinstance(error, (ImportError, OSError)) and any(words in str(error).lower() for words in NO_ROOM)


def _of_torch(error: RuntimeError) -> StoppedError | None:
    """Of RuntimeErrors, those that speak of threads, memory and the device."""
    if any(words in str(error).lower() for words in NO_THREAD):
        return StoppedError(f"No thread can be started. {ADVICE[errno.EAGAIN]}")
    if "torch" not in sys.modules:
        return None
    from lrpcli.lrp.batch_limit import is_full, is_lost

    if is_full(error):
        return StoppedError(MEMORY)
    reason = str(error).partition("\n")[0].rstrip(".")
    return DeviceError(f"The device was lost ({reason}). Run the same command again.") if is_lost(error) else None


def _of_the_system(error: OSError) -> StoppedError:
    reason = error.strerror or str(error) or type(error).__name__
    advice = ADVICE.get(error.errno or 0, TRY_AGAIN)
    if not isinstance(error.filename, (str, bytes)):  # none, or a number of an open file
        return StoppedError(f"The system refuses something that the command needs: {reason}. {advice}")
    return StoppedError(f"{os.fsdecode(error.filename)!r} cannot be used: {reason}. {advice}")


def _broken_package(error: BaseException) -> str | None:
    """The package that failed while it was imported: it is missing, damaged, or does not fit another one."""
    module = _importing(error.__traceback__)
    if module is None and isinstance(error, ImportError):
        module = error.name
    if module is None and isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        module = error.obj.__name__  # it is there, but in a version that lacks something
    if module is None and isinstance(error, SyntaxError) and str(error.filename).endswith(".py"):
        module = Path(str(error.filename)).parent.name
    package = (module or "").partition(".")[0]
    return None if not package or (package in OURS and not isinstance(error, ImportError)) else package


def _importing(at: TracebackType | None) -> str | None:
    """The first foreign module that was being loaded when an error arose: in its body, or on the way to it."""
    while at is not None:
        frame = at.tb_frame
        name = frame.f_globals.get("__name__", "") if frame.f_code.co_name == "<module>" else ""
        if frame.f_code.co_name == "_find_and_load":
            name = frame.f_locals.get("name", "")
        if name and str(name).partition(".")[0] not in OURS:
            return str(name)
        at = at.tb_next
    return None
