"""How the program ends: at once, when all that is to be done at its end is done."""

import atexit
import os
import sys


class Ending:
    """Ends the process in place of the interpreter, which takes half a second to take torch apart.

    The first to be registered is the last to be called: threads are joined by then, and what others registered is done.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        atexit.register(self._end)

    def note(self, code: object) -> None:
        """The argument of SystemExit: the exit status, None for 0, or a text that is printed."""
        self.status = code if isinstance(code, int) else 0 if code is None else 1

    def _end(self) -> None:
        if self.status is None or "torch" not in sys.modules:
            return
        try:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
        except (OSError, ValueError):  # the interpreter says so, and has an exit status for it
            return
        os._exit(self.status)
