"""What one process hands another that works on a part of its images: what is known of them, what tries became."""

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain

from lrpcli.errors import StoppedError
from lrpcli.records.folder import RunFolder, shown
from lrpcli.records.index import Selection
from lrpcli.records.journal import (
    ALONE,
    FAILED,
    FINISHED,
    RUN,
    SKIPPED,
    Journal,
    Line,
    open_journal,
    picked_lines,
    read_lines,
)
from lrpcli.records.segments import forget, put_alone
from lrpcli.remote import Remote

ATTEMPT = b'"type": "attempt"'
HOPELESS = 3
"""So many processes in a row may die over the same images without finishing or finding the cause."""


@dataclass(frozen=True)
class Handed:
    """What a process knows that reads no journal but its own from `since` on: `lines` about its images.

    Without `lines` it has to read all journals.
    """

    lines: Selection | None
    since: int

    def journals(self, own: str) -> list[str] | None:
        """The journals that are looked into, None for all."""
        return None if self.lines is None else sorted({*self.lines.places, own})

    def read(self, output: RunFolder, journal: str, own: str, run: str) -> Iterator[Line]:
        """The lines of a journal."""
        if self.lines is None:
            return read_lines(output, journal, run)
        positions = self.lines.places[journal].tolist() if journal in self.lines.places else []
        if journal == own:
            positions = [position for position in positions if position < self.since]
        before = picked_lines(output, journal, run, positions)
        return chain(before, read_lines(output, own, run, self.since)) if journal == own else before


class Attempts:
    """How often work on what was handed over has begun already, by the journal `own` from `since` on.

    `accused` are the names of images that were alone when a process died.
    """

    def __init__(self, own: str, since: int) -> None:
        self.own, self.since = own, since
        self.accused: set[str] = set()
        self.count, self._vain = 0, 0
        self._moved, self._alone = False, ""

    def read(self, journal: str, line: Line) -> None:
        """Takes in the next line of a journal."""
        if journal != self.own or line.position < self.since:
            return
        if line.code == RUN:
            self._close()
            self.count += 1
        elif line.code in (*FINISHED, FAILED, SKIPPED):
            self._moved = True
        self._alone = line.name if line.code == ALONE else ""

    def _close(self) -> None:
        """An attempt that finished an image, or died of one that was alone, has led on."""
        led_on = self._moved or bool(self._alone) or not self.count
        self._vain = 0 if led_on else self._vain + 1
        self.accused |= {self._alone} - {""}
        self._moved, self._alone = False, ""

    def require_hope(self, output: RunFolder) -> None:
        """StoppedError if going on would only kill the next process."""
        self._close()
        if self.count and self._vain >= HOPELESS:
            raise StoppedError(
                f"{self._vain} processes in a row died over the same images of {shown(output)!r} ({self.own}), "
                "though each image survives alone. They may need more memory than there is: choose a smaller "
                "--batch-size or fewer --workers."
            )


def note_attempt(output: RunFolder, own: str, since: int) -> None:
    """Writes down that a process is about to load a net for what was handed over, where one has died before.

    StoppedError if others have died so several times in a row: more would only die too.
    """
    forget(output)
    with nullcontext() if isinstance(output, Remote) else Journal(output, own) as journal:
        with open_journal(output, own) as file:
            file.seek(since)
            lines = file.read().splitlines()
        if len(lines) >= HOPELESS and all(ATTEMPT in line for line in lines[-HOPELESS:]):
            raise StoppedError(
                f"{HOPELESS} processes in a row died while they loaded the net. It may need more memory than there is: "
                "choose fewer --workers."
            )
        attempt = {"type": "attempt", "time": round(time.time(), 3)}
        if isinstance(output, Remote):
            put_alone(output, own, attempt)
        elif journal is not None:
            journal.append(attempt)
