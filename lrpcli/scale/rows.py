"""A run whose rows other processes work on: they write files and journals, this one reads the journals as they grow."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lrpcli.errors import StoppedError
from lrpcli.pipeline.row import Row, Rows, Whole, sampled
from lrpcli.records.description import require_same_run
from lrpcli.records.division import ROWS, note_division
from lrpcli.records.folder import FOLDER, shown
from lrpcli.records.handed import Handed
from lrpcli.records.index import Index, Selection
from lrpcli.records.journal import Journal, journal_size
from lrpcli.records.record import Record
from lrpcli.records.resume import clean_up
from lrpcli.records.segments import forget
from lrpcli.records.tars import Tars
from lrpcli.remote import Remote
from lrpcli.scale import Assignment
from lrpcli.scale.finished import note_request
from lrpcli.scale.following import RowRecords
from lrpcli.scale.row_worker import LoadedRun

if TYPE_CHECKING:
    from lrpcli.pipeline.expected_size import KindSize

PATIENCE = 0.1
"""Seconds between looks at the journals."""
UNSEEN = 120.0
"""Seconds after which a row that was worked on has to be in its journal, as this process sees it."""


class Crew(Protocol):
    """Processes with a net each, that work on rows."""

    count: int

    def load(self) -> LoadedRun:
        """Waits until a net is loaded. Raises what loading raises."""

    def grow(self, rows: int) -> None:
        """Loads as many more nets as so many rows can use, `count` at most in all; does not wait for them."""

    @property
    def idle(self) -> int:
        """How many more rows can be given."""

    @property
    def busy(self) -> bool:
        """Whether any row is worked on."""

    def give(self, row: Row) -> None:
        """Has somebody work on a row."""

    def wait(self, seconds: float) -> list[Row]:
        """Rows that are done, waiting so long for one at most. Raises what stopped a row; the dead are replaced."""

    def stop(self) -> None:
        """Has all rows end in order: what is in the work is finished, and the rest left."""

    def ask(self, function: str, *arguments: Any) -> Any:
        """What a function says of the run, by its name: function(run, workers, *arguments); none works meanwhile."""


@dataclass
class RowsExecution:
    """A run whose rows a crew works on; see scale.Execution."""

    assignment: Assignment
    crew: Crew
    loaded: LoadedRun
    is_finished = False

    def note_done(self, results: Sequence[str] = ()) -> None:
        """See scale.Execution."""
        note_request(self.assignment, self.loaded, results)

    def sizes(self) -> "list[KindSize]":
        """See ExplainRun.sizes."""
        sizes: list[KindSize] = self.ask("lrpcli.scale.row_worker:sizes_of")
        return sizes

    def ask(self, function: str, *arguments: Any) -> Any:
        """See scale.Execution."""
        return self.crew.ask(function, *arguments)

    def records(
        self,
        stop: threading.Event,
        announce: Callable[[int], None] = lambda count: None,
        held: ExitStack | None = None,
    ) -> Generator[Record, None, None]:
        """See Run.records."""
        task, run = self.assignment, self.loaded
        if not task.flow.force:
            require_same_run(task.folder, run.files, run.description)
        rows = Rows.of(task.shard, len(task.share), run.batch_size, self.crew.count)
        forget(task.folder)
        with ExitStack() as own:
            self._lock(rows, own if held is None else held)
            tars = Tars(task.folder)
            known = own.enter_context(closing(_index(task, run, tars)))
            own.enter_context(task.opened_store(tars, rows.count))
            note_division(task.folder, run.files, ROWS)
            write = run.description.write if task.flow.force else run.description.agree
            write(task.folder, run.files, run.files.owner(task.shard.name))
            clean_up(task.folder, run.files, known, run.files.journal(task.shard.name), {FOLDER, ""})
            announce(self._count_work(known))
            self.crew.grow(rows.count)
            own.callback(self._finish)
            with closing(self._worked(rows, known, stop)) as records:
                yield from records
            if held is not None and rows.count == 1:
                self._hold(held)

    def _lock(self, rows: Rows, held: ExitStack) -> None:
        """Keeps others from the shard. The only row of a shard has its name, and locks it while it is worked on."""
        if rows.count != 1:
            self._hold(held)

    def _hold(self, held: ExitStack) -> None:
        task = self.assignment
        if isinstance(task.folder, Remote):  # where there is no lock
            return
        with Journal(task.folder, self.loaded.files.journal(task.shard.name), alone=True) as journal:
            journal.keep_lock(held)

    def _count_work(self, known: Index) -> int:
        """About how many images need work: those without a finished result."""
        if self.assignment.flow.force:
            return len(self.assignment.share)
        return sum(not known.has_finished(source.name) for source in self.assignment.share)

    def _finish(self) -> None:
        """Has everybody end what is in the work, so that nothing is written any more."""
        if self.crew.busy:
            self.crew.stop()
            with suppress(Exception):  # what stopped one of them has been raised already
                while self.crew.busy:
                    self.crew.wait(PATIENCE)

    def _worked(self, rows: Rows, known: Index, stop: threading.Event) -> Generator[Record, None, None]:
        """Records in order. What rows have finished before the row whose turn it is stays in their journals."""
        hands = _Hands(self.assignment, self.loaded, self.crew, rows, known)
        for _ in range(rows.count):
            hands.give()
            while not hands.given and not stop.is_set():
                self.crew.wait(PATIENCE)
                hands.give()
            if not hands.given:
                break
            reader = hands.next_reader()
            while not stop.is_set():
                yield from reader.take()
                if reader.is_complete:
                    break
                hands.wait_for(reader)
            if stop.is_set():
                self._finish()
                yield from reader.rest()
                while hands.given:
                    yield from hands.next_reader().rest()
                return
        while self.crew.busy:  # the last has written everything, but not said so yet
            self.crew.wait(PATIENCE)


class _Hands:
    """Hands rows out in order, and remembers of those that are not read yet their places and where journals stood."""

    def __init__(self, task: Assignment, run: LoadedRun, crew: Crew, rows: Rows, known: Index) -> None:
        self.task, self.run, self.crew, self.rows, self.known = task, run, crew, rows, known
        self.share = task.share
        self.given: deque[tuple[int, int]] = deque()
        self._place = 0
        self._done: dict[int, float] = {}
        """When rows that are not read yet were done, by their shards' numbers."""
        self._whole = Whole(rows.images, sampled(self.share))

    def give(self) -> None:
        """Gives rows to all who are idle."""
        while self.crew.idle and self._place < self.rows.count:
            row = self._row(self._place)
            self.given.append((self._place, row.handed.since))
            self.crew.give(row)
            self._place += 1

    def _row(self, place: int) -> Row:
        shard, sources = self.rows.shard_of(place), list(self.rows.share(self.share, place))
        since = journal_size(self.task.folder, self.run.files.journal(shard.name))
        handed = Handed(self._lines([source.name for source in sources]), since)
        return Row(shard, sources, len(self.task.sources), self._whole, handed)

    def _lines(self, names: list[str]) -> Selection | None:
        """What is known of images. None where some may be found by their contents alone, in any journal."""
        if self.task.flow.force:
            return Selection({})
        if self.known.has_contents and not self.known.knows(names):
            return None
        return self.known.select(names)

    def next_reader(self) -> RowRecords:
        """What reads the next row."""
        place, since = self.given.popleft()
        shard, sources = self.rows.shard_of(place), self.rows.share(self.share, place)
        return RowRecords(self.task.folder, self.run, shard, sources, since, self.known)

    def wait_for(self, reader: RowRecords) -> None:
        """Waits a moment for more lines. StoppedError if a row is done, and this process does not see it."""
        now = time.monotonic()
        self._done |= {row.shard.number: now for row in self.crew.wait(PATIENCE)}
        self._done = {number: when for number, when in self._done.items() if number >= reader.number}
        self.give()
        if now - self._done.get(reader.number, now) > UNSEEN:
            raise StoppedError(
                f"A worker has finished {reader.journal} in {shown(self.task.folder)!r}, but it is not seen here. "
                "The output folder has to lie on a file system that all workers share."
            )


def _index(task: Assignment, run: LoadedRun, tars: Tars) -> Index:
    """What all journals say; each line is read once, by this process."""
    return Index(
        task.folder, run.files, run.description.fingerprint, seen=tars.see, contents=not run.files.named
    )  # fmt: skip
