"""The one door to standard output and standard error: whatever a text holds, a terminal only shows it."""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from lrpcli.cli.columns import shortened, width
from lrpcli.cli.waiting import erasing, shown
from lrpcli.errors import OutputError
from lrpcli.records.text import json_text, one_line, printable

_kept: list[TextIO] = []
"""Streams to standard output that results go to, while it leads elsewhere for all else."""
USUAL_COLUMNS, USUAL_ROWS = 80, 24
BOLD, RED, YELLOW = "1", "31", "33"
"""Colours of a Part, as terminals know them."""
MARKED = {"Error: ": RED, "Warning: ": YELLOW}
"""Beginnings of lines on standard error that have a colour."""


class Part(NamedTuple):
    """A part of a line, with its colour on terminals that show any."""

    text: str
    colour: str = ""


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


def on_terminal() -> bool:
    """Whether results go to a terminal."""
    return results().isatty()


def columns(stream: TextIO | None = None) -> int:
    """Columns of the terminal that a stream, or else the results, go to; COLUMNS overrules it."""
    try:
        usual = os.get_terminal_size((stream or results()).fileno()).columns
    except (OSError, ValueError):
        usual = 0
    return shutil.get_terminal_size().columns if "COLUMNS" in os.environ else usual or USUAL_COLUMNS


def _rows(stream: TextIO) -> int:
    """Lines of the terminal that a stream goes to."""
    try:
        return os.get_terminal_size(stream.fileno()).lines or USUAL_ROWS
    except (OSError, ValueError):
        return USUAL_ROWS


def shows_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows colours, and NO_COLOR leaves them on."""
    return _moves(stream) and not os.environ.get("NO_COLOR")


def _moves(stream: TextIO) -> bool:
    """Whether a stream is a terminal that knows commands."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def as_shown(text: str) -> str:
    """A line as standard output shows it, whose encoding may lack some characters."""
    encoding = results().encoding or "utf-8"
    return one_line(text).encode(encoding, "backslashreplace").decode(encoding)


def _painted(part: Part, stream: TextIO) -> str:
    return f"\x1b[{part.colour}m{part.text}\x1b[0m" if part.colour and shows_colours(stream) else part.text


def wait_for(what: str) -> None:
    """Says on a terminal what is waited for, in a line of standard error that the next thing said there replaces."""
    stop_waiting()
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr.isatty():
            line = shortened(one_line(what), columns(sys.stderr) - 1)
            shown.append(width(line))  # first, as Ctrl-C may come at any time
            print(line, end="", file=sys.stderr, flush=True)


def stop_waiting() -> None:
    """Erases what wait_for said."""
    with contextlib.suppress(OSError, ValueError):
        while shown:
            print(erasing(), end="", file=sys.stderr, flush=True)


def say(text: str = "") -> None:
    """Writes lines to standard output. OutputError if it cannot be written, BrokenPipeError if nobody reads it."""
    _write_text(printable(text))


def say_parts(*parts: Part) -> None:
    """Writes one line to standard output, of parts that may have colours; errors as those of `say`."""
    _write_text("".join(_painted(Part(one_line(part.text), part.colour), results()) for part in parts))


def _write_text(text: str) -> None:
    stop_waiting()
    with _naming_output():
        print(text, file=results(), flush=True)


class Screen:
    """Lines on standard output that replace each other on a terminal, and elsewhere follow each other."""

    def __init__(self) -> None:
        self._shown = 0

    def show(self, lines: list[str]) -> None:
        """Writes lines in place of those before; errors as those of `say`."""
        if not (on_terminal() and _moves(results())):
            say("\n".join([*map(one_line, lines), ""]))
            return
        most = max(_rows(results()) - 2, 1)
        lines = lines if len(lines) <= most else [*lines[:most], "..."]
        text = "\n".join(shortened(as_shown(line), columns() - 1) for line in lines)
        _write_text((f"\x1b[{self._shown}A\x1b[J" if self._shown else "") + text)
        self._shown = len(lines)


def say_json(value: Any, indent: int | None = None) -> None:
    """Writes a value as JSON to standard output; errors as those of `say`."""
    say(json_text(json.dumps(value, indent=indent)))


def say_path(path: str | os.PathLike[str], end: bytes = b"\n") -> None:
    """Writes a path to standard output: its exact bytes for a program, on a terminal one harmless line."""
    if end == b"\n" and on_terminal():
        say_bytes(one_line(os.fspath(path)).encode() + end)
    else:
        say_bytes(os.fsencode(path) + end)


def say_bytes(data: bytes) -> None:
    """Writes bytes to standard output at once: what reads the pipe begins immediately. Errors as those of `say`."""
    stop_waiting()
    with _naming_output():
        results().flush()
        results().buffer.write(data)
        results().buffer.flush()


def flush_output() -> None:
    """Writes what standard output still holds; errors as those of `say`."""
    stop_waiting()
    with _naming_output():
        results().flush()


def note(text: str, mark: str = "") -> None:
    """Writes lines to standard error. Where that cannot be written the work goes on; BrokenPipeError as for `say`.

    Lines that begin with `mark`, with "Error: " or "Warning: " show that in colour, where there are colours.
    """
    stop_waiting()
    try:
        print("\n".join(_marked(line, mark) for line in printable(text).split("\n")), file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise
    except OSError:
        let_go(sys.stderr)


def note_failure(kind: str, message: str) -> None:
    """Writes the line of an image that failed to standard error; errors as those of `note`."""
    note(one_line(f"{kind}: {message}"), mark=f"{one_line(kind)}: ")


def _marked(line: str, mark: str) -> str:
    """A line of standard error, what it begins with in its colour."""
    found = next((known for known in (mark, *MARKED) if known and line.startswith(known)), None)
    if found is None:
        return line
    return _painted(Part(found, MARKED.get(found, RED)), sys.stderr) + line.removeprefix(found)


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
