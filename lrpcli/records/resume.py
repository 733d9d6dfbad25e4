"""How far the images of an output folder are, by its journals: what is finished, what is suspect, what to write."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Generic

from lrpcli.errors import ImageError, LrpError
from lrpcli.records.description import FOLDER, RunFiles
from lrpcli.records.index import Index, Known
from lrpcli.records.journal import FAILED, OK, UNFINISHED, Journal, RunLine, is_idle
from lrpcli.records.json_values import json_path
from lrpcli.records.record import SKIPPED, FileState, R, Record
from lrpcli.records.store import remove_leftovers

BEGUN = 2
"""An image that was under way when so many runs in a row were killed is a suspect."""
DEATHS = 3
"""So many runs in a row may be killed while one image is tried alone; after that the image is `crashed`."""
TODO, ENDED, CRASHED, SUSPECT = range(4)
"""What an image needs: work; none, as it is finished; none, as it is `crashed`; or first to be tried alone.

A suspect's need is SUSPECT and the number of its DEATHS; one with all of them was `crashed` in the run before.
"""
LAST = SUSPECT + DEATHS


class Resume(Generic[R]):
    """The journal of one shard, and what all journals of the folder know; `shard`, such as "1-of-4", is its name.

    `kind` is the class of the records of finished images, `run` the fingerprint of the settings: results of others do
    not count, and with `force` none does. UsageError if another process works on this shard; OutputError if the folder
    cannot be written.
    """

    def __init__(
        self, output: Path, files: RunFiles, kind: type[R], run: str, shard: str, *, force: bool = False
    ) -> None:
        self.output, self.files, self.kind, self.run, self.force = output, files, kind, run, force
        self.still_fits: Callable[[R], bool] | None = None
        """Whether a finished image fits a setting that is only known once the run has begun; None: all do."""
        self._states: dict[str, FileState | None] = {}
        self._under_way: set[str] = set()
        self._journal = Journal(output, files.journal(shard), alone=True)
        self._index = Index(output, files, run)
        self._clean(files.journal(shard))

    def _clean(self, own: str) -> None:
        """Removes temporary files of killed runs, which lie beside the results of what was under way."""
        places = {own: {self.output / FOLDER, *([self.output] if self.files.at_top else [])}}
        for journal, name in self._index.unfinished():
            if ".." in Path(name).parts or name.startswith("/"):
                continue  # no name of ours: a journal that somebody made may not lead out of the folder
            places.setdefault(journal.name, set()).add((self.output / name).parent)
        for journal_name, folders in places.items():
            # Another shard may be at work right now, and then its files are no leftovers.
            if journal_name == own or is_idle(self.output / FOLDER / journal_name):
                for folder in folders:
                    remove_leftovers(folder, self.files.owner(self.files.shard(journal_name)))

    def look(self, path: str, name: str) -> int:
        """What the image at `path` needs, see TODO. One that needs nothing has a record."""
        known = self._index.of(name)
        if known is None:
            return TODO
        if known.code == FAILED and known.deaths >= DEATHS:
            return LAST
        if known.code in UNFINISHED:
            if known.deaths >= DEATHS and not self.force:
                return CRASHED
            suspect = known.deaths > 0 or known.begun >= BEGUN
            return SUSPECT + min(known.deaths, DEATHS - 1) if suspect else TODO
        finished = known.code == OK and not self.force and self._is_finished(path, known)
        return ENDED if finished else TODO

    def record(self, path: str, name: str) -> R | Record:
        """The record of an image that is ENDED, and was found finished, or CRASHED."""
        known = self._index.of(name)
        if known is not None and known.code == OK:
            record = self._read(known)
            return _damaged(path, name) if record is None else record.as_skipped(path)
        return Record.failed(path, name, _crash(path, 0 if known is None else known.deaths))

    def _is_finished(self, path: str, known: Known) -> bool:
        state = FileState.of(path)
        try:
            if state is None or FileState.from_json(known.line.fields) != state:
                return False
            if not all(outputs.exist_in(self.output) for outputs in self.kind.outputs_of(known.line.fields)):
                return False
        except ValueError:  # the line is damaged, and the image is done again
            return False
        if self.still_fits is None:
            return True
        record = self._read(known)
        return record is not None and self.still_fits(record)

    def _read(self, known: Known) -> R | None:
        """The record in a line; None if it is damaged."""
        with suppress(ValueError):
            record = self.kind.from_json(known.line.fields)
            return record if isinstance(record, self.kind) else None
        return None

    def begin_run(self, line: RunLine) -> None:
        """Writes down that a run begins."""
        self._append(line.as_json())

    def take(self, path: str, name: str) -> None:
        """Remembers what the file of an image looks like before it is decoded."""
        self._states[name] = FileState.of(path)

    def begin(self, name: str, *, alone: bool = False) -> None:
        """Writes down that an image is computed from now on, with `alone` to see whether it ends the run."""
        self._append({"type": "start", "name": json_path(name), **({"alone": True} if alone else {})})
        self._under_way.add(name)

    def survive(self, name: str) -> None:
        """Writes down that an image was computed, but not for a result: it has not ended the run."""
        if name in self._under_way:
            self._under_way.remove(name)
            self._append({"type": "survived", "name": json_path(name)})

    def end(self, record: Record) -> None:
        """Writes down what came of an image."""
        state = self._states.pop(record.name, None)
        self._under_way.discard(record.name)
        if record.status == SKIPPED:
            self._append({"type": "skip", "name": json_path(record.name)})
        else:
            self._append({**record.as_json(), "type": "done", **(state.as_json() if state else {})})

    def _append(self, values: dict[str, object]) -> None:
        self._journal.append({**values, "run": self.run, "time": round(time.time(), 3)})

    def __enter__(self) -> "Resume[R]":
        return self

    def __exit__(self, *raised: object) -> None:
        # What an orderly end drops is no suspect. On a full disk it stays one, which only costs time.
        with suppress(LrpError):
            for name in sorted(self._under_way):
                self._append({"type": "drop", "name": json_path(name)})
        self._index.close()
        self._journal.close()


def _damaged(path: str, name: str) -> Record:
    return Record.failed(path, name, ImageError(
        "io",
        f"What the journal says of the image {path!r} is damaged, though its files are there. Explain it anew: remove "
        "one of its files, or use --force.",
    ))  # fmt: skip


def _crash(path: str, deaths: int) -> ImageError:
    return ImageError(
        "crashed",
        f"The image {path!r} was tried alone by {deaths} runs, and each of them was ended from outside meanwhile. It "
        "is passed over this time; a run that finds nothing else to do tries it again.",
    )
