"""The `lrp` command; imports nothing heavy until a command runs."""

import os
import signal
import sys

from lrpcli.cli.ending import Ending
from lrpcli.cli.waiting import erase, say_loading_at_once

try:
    say_loading_at_once(sys.argv, os.environ)
    from lrpcli.cli.main import main
except KeyboardInterrupt:  # as _Root.invoke does later
    erase()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    raise

__all__ = ["main", "program"]


def program() -> None:
    """`lrp` as a process of its own, which it ends."""
    ending = Ending()
    try:
        main(prog_name="lrp")
    except SystemExit as ended:
        ending.note(ended.code)
        raise
