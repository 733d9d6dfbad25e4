"""The records of rows that other processes work on, read from their journals as they grow."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from lrpcli.errors import ImageError
from lrpcli.images.find import Source
from lrpcli.pipeline.shard import Shard
from lrpcli.records.folder import FOLDER, RunFolder, shown
from lrpcli.records.index import Index
from lrpcli.records.journal import CLASHED, FAILED, OK, RUN, SKIPPED, Line, parse_line, read_lines
from lrpcli.records.record import Record
from lrpcli.records.segments import NewLines
from lrpcli.remote import Remote
from lrpcli.scale.row_worker import LoadedRun


class RowRecords:
    """The records of a row in the order of its images, each once, whichever of several attempts it comes from.

    The row is a shard, handed over when its journal had the size `since`. `known` is what all journals said before:
    what is skipped has its record there.
    """

    def __init__(
        self, output: RunFolder, run: LoadedRun, shard: Shard, sources: Sequence[Source], since: int, known: Index
    ) -> None:
        self.output, self.kind, self.run, self.known = output, run.kind, run.description.fingerprint, known
        self.number, self.journal = shard.number, run.files.journal(shard.name)
        self._paths = {source.name: source.path for source in sources}
        self._names = list(self._paths)
        self._found: dict[str, Record] = {}
        self._attempt: set[str] = set()
        self._next, self._start, self._last = 0, since, -1
        self._pieces = NewLines(output, self.journal, since) if isinstance(output, Remote) else None

    @property
    def is_complete(self) -> bool:
        """Whether every image has had its record."""
        return self._next == len(self._names)

    def take(self) -> Iterator[Record]:
        """Records that have come, up to the first image without one."""
        self._read(soon=True)
        while not self.is_complete and self._names[self._next] in self._found:
            yield self._found.pop(self._names[self._next]).below(shown(self.output))
            self._next += 1

    def rest(self) -> Iterator[Record]:
        """Records that have come, also behind images that have none: for a run that was stopped."""
        self._read()
        for name in self._names[self._next :]:
            if name in self._found:
                yield self._found.pop(name).below(shown(self.output))
        self._next = len(self._names)

    def _read(self, *, soon: bool = False) -> None:
        if self._pieces is not None:
            for line in map(parse_line, self._pieces.read(soon=soon)):
                if line is not None:
                    self._take(line)
        elif isinstance(self.output, Path):
            self._read_file(self.output)

    def _read_file(self, output: Path) -> None:
        if not (output / FOLDER / self.journal).exists():
            return
        for line in read_lines(output, self.journal, start=self._start):
            if line.position != self._last:
                self._take(line)
            self._start = self._last = line.position

    def _take(self, line: Line) -> None:
        if line.code == RUN:
            self._attempt.clear()
        elif line.run == self.run and line.name in self._paths:
            if line.code in (OK, FAILED, CLASHED):
                self._found[line.name] = self._record(line)
                self._attempt.add(line.name)
            elif line.code == SKIPPED:
                self._skip(line.name)

    def _record(self, line: Line) -> Record:
        with suppress(ValueError):
            return (self.kind if line.code == OK else Record).from_json(line.fields)
        return _unreadable(self._paths[line.name], line.name)

    def _skip(self, name: str) -> None:
        """What an earlier attempt finished is no skipped image; what was found by its content was just written down."""
        if name in self._found and name not in self._attempt:
            return
        found = self._found.get(name)
        if found is None:
            known = self.known.of(name)
            found = None if known is None else self._record(known.line)
        self._found[name] = (
            _unreadable(self._paths[name], name) if found is None else found.as_skipped(self._paths[name], name)
        )


def _unreadable(path: str, name: str) -> Record:
    return Record.failed(path, name, ImageError(
        "io", f"What the journal says of the image {path!r} cannot be read. Run the same command again.",
    ))  # fmt: skip
