"""The time that a tuning has, by a clock that tests can replace."""

import math
from collections.abc import Callable
from time import monotonic

Clock = Callable[[], float]
"""Seconds from any point on, never less than before."""


class OutOfTime(Exception):
    """What is under way would take longer than it may; it is given up."""


class Budget:
    """So many seconds from now on; within them a deadline, at first the end.

    >>> from lrpcli.tuning.budget import Budget
    >>> times = iter([100.0, 104.0, 112.0])
    >>> budget = Budget(10, clock=lambda: next(times))
    >>> budget.left
    6.0
    >>> budget.check()
    Traceback (most recent call last):
    lrpcli.tuning.budget.OutOfTime
    """

    def __init__(self, seconds: float, clock: Clock = monotonic) -> None:
        self.seconds, self.clock = seconds, clock
        self.end = self.deadline = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds up to the deadline; less than 0 beyond it."""
        return self.deadline - self.clock()

    def limit(self, deadline: float) -> None:
        """Sets the deadline, by the clock; the end is the last that there may be."""
        self.deadline = min(deadline, self.end)

    def lift(self) -> None:
        """Takes the deadline away until the next one is set."""
        self.deadline = math.inf

    def check(self) -> None:
        """OutOfTime once the deadline is reached."""
        if self.left <= 0:
            raise OutOfTime
