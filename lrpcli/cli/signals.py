"""SIGINT and SIGTERM while a run is at work: the first asks for an orderly end, the second is one."""

import signal
import threading
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A signal asked for the end, and it has been an orderly one; `number` is to be raised again."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class Interrupts:
    """While entered, the first signal only sets `stop`, and the second ends the process as if nobody listened.

    Leaving raises Interrupted if there was one, unless something else is raised.
    """

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.number: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                # A signal that is ignored, as under nohup, stays so.
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._first)
        return self

    def _first(self, number: int, frame: FrameType | None) -> None:
        self.number = signal.Signals(number)
        # The kernel's own way from now on: it does not wait until Python has time.
        for other in self._before:
            signal.signal(other, signal.SIG_DFL)
        self.stop.set()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if self.number is None:
            for number, handler in self._before.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
        elif error is None:
            raise Interrupted(self.number)
