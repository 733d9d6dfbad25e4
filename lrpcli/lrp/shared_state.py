"""What belongs to the whole process or to the user's model and is changed for a while, by any number of threads."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

ONE_AT_A_TIME = threading.RLock()
"""Held while a module is traced or run as it is: its mode, its buffers and torch.fx's patches are everybody's."""


class Switch:
    """A context of the whole process that many threads are in at once: entered by the first, left by the last.

    One thread that puts back what it found would otherwise do so while another still needs the change, or put back the
    change of another for ever.

    >>> from contextlib import nullcontext
    >>> from lrpcli.lrp.shared_state import Switch
    >>> switch = Switch(nullcontext)
    >>> with switch.held(), switch.held():
    ...     pass
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make, self._lock, self._holders = make, threading.Lock(), 0
        self._context: AbstractContextManager[Any] | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """In the context while entered."""
        with self._lock:
            if self._context is None:
                context = self._make()
                context.__enter__()
                self._context = context
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    context, self._context = self._context, None
                    context.__exit__(None, None, None)
