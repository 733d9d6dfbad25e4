"""`lrp` on a terminal of any width, and what one sees there."""

import os
import re
import subprocess
import termios

from lrpcli.cli import models, table, terminal
from lrpcli.cli.columns import width
from tests.resilience.runs import command, environment

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Shown:
    """What a command wrote to a terminal: `raw`, as it was written, and `lines`, what is seen once it has ended."""

    def __init__(self, raw, code):
        self.raw, self.code = raw, code
        self.text = COLOUR.sub("", raw)
        self.lines = [line for row in self.text.replace("\r\n", "\n").split("\n") for line in [after_returns(row)]]

    @property
    def seen(self):
        """The lines that are not empty."""
        return [line for line in self.lines if line]


def after_returns(row):
    """A line in which each return begins again at the left and writes over what is there."""
    seen = ""
    for part in row.split("\r"):
        seen = part + seen[len(part) :]
    return seen.rstrip()


def on_terminal(*arguments, columns=80, stderr=True, stdout=True, **variables):
    """A finished command whose streams are a terminal, but for those that are switched off, which lead nowhere."""
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (40, columns))
    env = {name: value for name, value in environment().items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    env |= {"TERM": "xterm", **variables}
    streams = {
        name: follower if wanted else subprocess.DEVNULL for name, wanted in (("stdout", stdout), ("stderr", stderr))
    }
    with subprocess.Popen(command(*map(str, arguments)), env=env, stdin=subprocess.DEVNULL, **streams) as running:
        os.close(follower)
        written = read_all(leader)
    return Shown(written.decode(), running.returncode)


def read_all(leader):
    """Everything until the far end closes."""
    written = b""
    try:
        while chunk := os.read(leader, 65536):
            written += chunk
    except OSError:
        pass
    os.close(leader)
    return written


def widest(lines):
    return max(map(width, lines), default=0)


def as_if_on_terminal(monkeypatch, columns):
    """Lets commands in this process believe that their output is a terminal."""
    for module in (terminal, table, models):
        monkeypatch.setattr(module, "on_terminal", lambda: True)
        monkeypatch.setattr(module, "columns", lambda stream=None: columns)
