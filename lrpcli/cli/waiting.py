"""The line of standard error that says which model is loaded, shown before anything else is imported.

Reading the options takes a tenth of a second, and torch takes seconds more; terminal.py goes on with this line.
"""

import os
from collections.abc import Mapping, Sequence

from lrpcli.pipeline.default import DEFAULT_MODEL

LOADING = "loading {} ..."
PROGRAMS = ("lrp", "__main__.py")
COMMANDS = ("explain", "evaluate", "compare", "tune")
"""Those that always load a model."""
SILENT = ("-h", "--help", "-q", "--quiet", "--show-settings")
COMPLETION = "_LRP_COMPLETE"
STDERR = 2
shown: list[int] = []
"""How many columns the line takes, while it is there."""


def say_loading_at_once(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Writes the line if the command, as `sys.argv` has it, will load a model and standard error is a terminal."""
    program, *others = words or [""]
    if program.rpartition("/")[2] not in PROGRAMS or others[:1] not in ([name] for name in COMMANDS):
        return
    if COMPLETION in environment or any(_is_silent(word) for word in others):
        return
    line = LOADING.format(_model(others, environment))
    try:
        if os.isatty(STDERR) and line.isascii() and line.isprintable() and len(line) < _columns():
            shown.append(len(line))  # first, as Ctrl-C may come at any time
            os.write(STDERR, line.encode())
    except OSError:
        return


def erasing() -> str:
    """What erases the line on any terminal; it counts as erased then."""
    return f"\r{' ' * shown.pop()}\r"


def erase() -> None:
    """Erases the line where nothing else is imported yet."""
    while shown:
        os.write(STDERR, erasing().encode())


def _is_silent(word: str) -> bool:
    return word in SILENT or (word[:1] == "-" and word[1:2] != "-" and "q" in word)


def _columns() -> int:
    return os.get_terminal_size(STDERR).columns


def _model(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """What --model says, or LRP_MODEL; a settings file may say something else, which is shown later."""
    name = environment.get("LRP_MODEL") or DEFAULT_MODEL
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == "--model":
            name = following
        elif word.startswith("--model="):
            name = word.removeprefix("--model=")
    return name
