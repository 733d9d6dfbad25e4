"""The one door to standard output and standard error: whatever a text holds, a terminal only shows it."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from lrpcli.errors import OutputError
from lrpcli.records.text import json_text, one_line, printable

_kept: list[TextIO] = []
"""Streams to standard output that results go to, while it leads elsewhere for all else."""


def prepare_streams() -> None:
    """Makes both streams take any text, also where the caller closed them or the locale knows ASCII alone."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Or the next file to be opened would get this number, and what C libraries print.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def results() -> TextIO:
    """The stream of the results: standard output, also while results_apart lasts."""
    return _kept[-1] if _kept else sys.stdout


@contextlib.contextmanager
def results_apart() -> Iterator[None]:
    """While it lasts only results go to standard output: what else is printed there goes to standard error."""
    usual, aside = sys.stdout, _set_aside()
    _kept.append(aside or usual)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = usual
        _kept.pop()
        if aside is not None:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(aside.fileno(), usual.fileno())
            with _naming_output():
                aside.close()


def _set_aside() -> TextIO | None:
    """A stream of its own to where standard output leads, whose number leads to standard error from now on.

    None where the streams have no numbers, and nothing but Python prints to them.
    """
    try:
        output, errors = sys.stdout.fileno(), sys.stderr.fileno()
    except (OSError, ValueError):
        return None
    sys.stdout.flush()
    aside = os.fdopen(os.dup(output), "w", encoding=sys.stdout.encoding, errors="backslashreplace")
    os.dup2(errors, output)
    return aside


def say(text: str = "") -> None:
    """Writes lines to standard output. OutputError if it cannot be written, BrokenPipeError if nobody reads it."""
    with _naming_output():
        print(printable(text), file=results(), flush=True)


def say_json(value: Any, indent: int | None = None) -> None:
    """Writes a value as JSON to standard output; errors as those of `say`."""
    say(json_text(json.dumps(value, indent=indent)))


def say_path(path: str | os.PathLike[str], end: bytes = b"\n") -> None:
    """Writes a path to standard output: its exact bytes for a program, on a terminal one harmless line."""
    if end == b"\n" and results().isatty():
        say_bytes(one_line(os.fspath(path)).encode() + end)
    else:
        say_bytes(os.fsencode(path) + end)


def say_bytes(data: bytes) -> None:
    """Writes bytes to standard output at once: what reads the pipe begins immediately. Errors as those of `say`."""
    with _naming_output():
        results().flush()
        results().buffer.write(data)
        results().buffer.flush()


def flush_output() -> None:
    """Writes what standard output still holds; errors as those of `say`."""
    with _naming_output():
        results().flush()


def note(text: str) -> None:
    """Writes lines to standard error. Where that cannot be written the work goes on; BrokenPipeError as for `say`."""
    try:
        print(printable(text), file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        let_go(sys.stderr)


def let_go(stream: TextIO) -> None:
    """Sends what a stream still holds nowhere, or the interpreter would fail once more at its very end."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as devnull:
        os.dup2(devnull.fileno(), stream.fileno())


def unwritable(error: OSError) -> OutputError:
    """The error of this package for one of writing to standard output."""
    return OutputError(f"Standard output cannot be written: {error.strerror or error}.")


@contextlib.contextmanager
def _naming_output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(error) from error


def _nowhere() -> TextIO:
    """What a stream that the caller closed becomes."""
    return Path(os.devnull).open("w")
