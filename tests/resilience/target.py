"""A kind of file that is damaged at random, and how a command in this process reads one."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lrpcli.errors import LrpError


@dataclass(frozen=True)
class Target:
    """A kind of file: the ending of its name, two valid ones made in a folder, and what reads one.

    `read` may be given a file in the folder where `samples` ran, and raises LrpError for one that cannot be used.
    """

    suffix: str
    samples: Callable[[Path], tuple[bytes, bytes]]
    read: Callable[[Path], object]


def command(*arguments: object) -> str:
    """Runs `lrp` in this process. LrpError if it ends with an error of its own, AssertionError if with a bug."""
    from tests.resilience.runs import lrp

    result = lrp(*arguments)
    assert "bug" not in result.stderr and "Traceback" not in result.stderr, result.stderr
    assert result.exit_code in (0, 1, 2, 3), (result.exit_code, result.stderr)
    if result.exit_code >= 2:
        raise LrpError(result.stderr)
    return str(result.stdout)
