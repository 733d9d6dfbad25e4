"""How far the images of an output folder are, by its journals: what is finished, what is suspect, what to write."""

import posixpath
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Generic

from lrpcli.errors import ImageError, LrpError
from lrpcli.records.description import RunFiles, require_same_settings
from lrpcli.records.division import ENDED as ENDED_SHARD
from lrpcli.records.division import journals_to_read
from lrpcli.records.folder import FOLDER, RunFolder
from lrpcli.records.handed import Attempts, Handed
from lrpcli.records.identity import CHANGED, OTHER, SAME, UNKNOWN, Content, FileState, compare, recorded_path
from lrpcli.records.index import Index, Known
from lrpcli.records.journal import FAILED, OK, UNFINISHED, Line, RunLine, is_idle, own_journal
from lrpcli.records.json_values import json_path
from lrpcli.records.record import CLASH, SKIPPED, R, Record
from lrpcli.records.segments import forget
from lrpcli.records.store import remove_leftovers
from lrpcli.records.tars import Tars
from lrpcli.remote import Remote

BEGUN = 2
"""An image that was under way when so many runs in a row were killed is a suspect."""
DEATHS = 3
"""So many runs in a row may be killed while one image is tried alone; after that the image is `crashed`."""
BEGUN_HERE = 1
"""The same where another process of this run has died, and nobody has ended that from outside."""
TODO, ENDED, CRASHED, CLASHED, UNSURE, SUSPECT = range(6)
"""What an image needs: work; none, as it is finished; none, as it is `crashed`; none, as its name belongs to another
image; that its content is looked at before anything can be said; or first to be tried alone.

A suspect's need is SUSPECT and the number of its DEATHS; one with all of them was `crashed` in the run before.
"""
LAST = SUSPECT + DEATHS


class Resume(Generic[R]):
    """The journal of one shard, and what all journals of the folder know; `shard`, such as "1-of-4", is its name.

    `kind` is the class of the records of finished images, `run` the fingerprint of the settings: results of others do
    not count, and with `force` none does. `division` is that of journals_to_read, None where all journals are to be
    read; `handed` is what another process has read of them. UsageError if another process works on this shard;
    OutputError if the folder cannot be written.
    """

    def __init__(
        self,
        output: RunFolder,
        files: RunFiles,
        kind: type[R],
        run: str,
        shard: str,
        *,
        force: bool = False,
        division: str | None = None,
        handed: Handed | None = None,
    ) -> None:
        self.output, self.files, self.kind, self.run, self.force = output, files, kind, run, force
        self._begun, self._accused = BEGUN, frozenset[str]()
        """Names of images that ended a process of this run with nothing beside them."""
        self.still_fits: Callable[[R, str, str], bool] | None = None
        """Whether a finished image is what this run would make of the one at a path, with a name; None: all are."""
        self._states: dict[str, FileState | None] = {}
        self._under_way: set[str] = set()
        own = files.journal(shard)
        journals = None if division is None else journals_to_read(output, files, own, division)
        self._stuck: set[str] = set()
        """Images that are to be done again, but whose results lie in tars."""
        forget(output, listings=handed is None)
        self._journal = own_journal(output, own)
        try:
            self.tars = Tars(output if handed is None else None)
            """The tar shards of the folder, as the journals tell; nothing where others have read those."""
            self._index = self._read_journals(own, journals) if handed is None else self._take_over(own, handed)
        except BaseException:
            self._journal.close()
            raise
        self._found: dict[str, Line] = {}
        """Images that were found finished under another name."""
        if handed is None:
            clean_up(output, files, self._index, own, {FOLDER, *([""] if files.at_top else [])})
        else:  # whoever hands out rows cleans up what belongs to no image: there may be thousands of rows
            clean_up(output, files, self._index, own, set())

    def _read_journals(self, own: str, journals: list[str] | None) -> Index:
        return Index(
            self.output, self.files, self.run, seen=self.tars.see, contents=not self.files.named, journals=journals
        )

    def _take_over(self, own: str, handed: Handed) -> Index:
        """The index of what was handed over. Where a process died of it before, the cause is looked for at once."""
        attempts = Attempts(own, handed.since)
        index = Index(
            self.output, self.files, self.run, seen=attempts.read, contents=not self.files.named,
            journals=handed.journals(own), lines=lambda journal: handed.read(self.output, journal, own, self.run),
        )  # fmt: skip
        attempts.require_hope(self.output)
        if attempts.count:
            self._begun, self._accused = BEGUN_HERE, frozenset(attempts.accused)
        return index

    def look(self, path: str, name: str) -> int:
        """What the image at `path` needs, see TODO. One that needs nothing has a record, an unsure one is settled."""
        known = self._index.of(name)
        if known is None:
            return UNSURE if self._index.has_contents and not self.force else TODO
        return self._need(known, path, name)

    def look_again(self, path: str, name: str) -> int:
        """What an image that was ENDED needs once `still_fits` is another."""
        line = self._ended(self._index.of(name), name)
        return ENDED if line is not None and self._is_whole(line, path, name) else TODO

    def settle(self, path: str, name: str, content: Content | None) -> int:
        """What an unsure image needs, now that its content is known; None where it cannot be read."""
        known = self._index.of(name)
        if content is None:
            return TODO if known is None else self._once(TODO, known, name)
        line = self._index.of_content(content.hash) if known is None else known.line
        if line is None:
            return TODO
        if known is None:
            need = ENDED if self._is_whole(line, path, name) else TODO
            self._found[name] = line
        else:
            need = self._need(known, path, name, content)
        if need == ENDED and line.code == OK:
            self._write_again(line, path, name, content)
        return need

    def _need(self, known: Known, path: str, name: str, content: Content | None = None) -> int:
        return self._once(self._own_need(known, path, name, content), known, name)

    def _once(self, need: int, known: Known, name: str) -> int:
        """What an image needs, but for what lies in a tar: it stays there, and would come to lie in another one too."""
        if (need == TODO or need >= SUSPECT) and self._is_packed(known.finished):
            self._stuck.add(name)
            return CLASHED
        return need

    def _own_need(self, known: Known, path: str, name: str, content: Content | None) -> int:
        relation = CHANGED if self.force else self._relation(known.finished, path, content)
        if relation == UNKNOWN:
            return UNSURE
        if relation == OTHER:
            return CLASHED
        if name in self._accused and known.code in (FAILED, *UNFINISHED):
            return CRASHED
        if known.code == FAILED and known.deaths >= DEATHS:
            return LAST
        if known.code in UNFINISHED:
            if known.deaths >= DEATHS and not self.force:
                return CRASHED
            suspect = known.deaths > 0 or known.begun >= self._begun
            return SUSPECT + min(known.deaths, DEATHS - 1) if suspect else TODO
        return ENDED if relation == SAME and known.code == OK and self._is_whole(known.line, path, name) else TODO

    def _relation(self, finished: Line | None, path: str, content: Content | None) -> int:
        """What an image is to the finished one of its name; a result that is damaged or gone is in nobody's way."""
        with suppress(ValueError):
            relation = CHANGED if finished is None else compare(finished.fields, path, content)
            if relation != OTHER or (finished is not None and self._is_there(self._read(finished))):
                return relation
        return CHANGED

    def _is_packed(self, finished: Line | None) -> bool:
        """Whether a finished result lies in a tar."""
        if finished is None or finished.fields.get("pack") is None:
            return False
        return self._is_there(self._read(finished))

    def _is_there(self, record: R | None) -> bool:
        return record is not None and all(outputs.exist_in(self.output) for outputs in record.outputs)

    def _is_whole(self, line: Line, path: str, name: str) -> bool:
        """Whether the result in a line is what this run would make of the image at a path."""
        record = self._read(line)
        fits = record is not None and (self.still_fits is None or self.still_fits(record, path, name))
        return fits and self._is_there(record)

    def _write_again(self, line: Line, path: str, name: str, content: Content) -> None:
        """Writes down a finished image that lies elsewhere now, or has another time: the next run finds it at once."""
        record = self._read(line)
        if record is not None:
            self._write_done(replace(record, input=path, name=name), content.state)

    def record(self, path: str, name: str, need: int = ENDED) -> R | Record:
        """The record of an image that is ENDED, and was found finished, CRASHED or CLASHED."""
        known = self._index.of(name)
        if need == CLASHED and known is not None and known.finished is not None:
            clash = self._stuck_in_tar if name in self._stuck else _clash
            return Record.failed(path, name, clash(path, name, known.finished))
        if need == CRASHED:
            deaths = 0 if known is None else known.deaths
            return Record.failed(path, name, _crash(path, None if name in self._accused else deaths))
        line = self._ended(known, name)
        record = None if line is None else self._read(line)
        return _damaged(path, name) if record is None else record.as_skipped(path, name)

    def _stuck_in_tar(self, path: str, name: str, finished: Line) -> ImageError:
        record = self._read(finished)
        tars = {one.packed.tar for one in (() if record is None else record.outputs) if one.packed is not None}
        return ImageError(
            CLASH,
            f"The image {path!r} has changed, or is asked for otherwise, since its result was put into "
            f"{', '.join(map(repr, sorted(tars)))}, and tar shards are never written again. Choose another output "
            "folder, or remove that tar: then all of its images are done again.",
        )

    def _ended(self, known: Known | None, name: str) -> Line | None:
        return self._found.get(name) if known is None else known.line

    def _read(self, line: Line) -> R | None:
        """The record in a line; None if it is damaged."""
        with suppress(ValueError):
            record = self.kind.from_json(line.fields)
            return record if isinstance(record, self.kind) else None
        return None

    def begin_run(self, line: RunLine) -> None:
        """Writes down that a run begins."""
        self._append(line.as_json())

    def end_run(self, line: RunLine) -> None:
        """Writes down that all images of the shard have ended."""
        self._append({**line.as_json(), "type": ENDED_SHARD})

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
            self._write_done(record, state)

    def _write_done(self, record: Record, state: FileState | None) -> None:
        self._append({**record.as_json(), "type": "done", **(state.as_json() if state else {})})

    def require_own_settings(self) -> None:
        """Has the run end once another with other settings begins in this folder, where nothing keeps it from that."""
        self._journal.check_first(lambda: require_same_settings(self.output, self.files, self.run))

    def keep_lock(self, held: ExitStack) -> None:
        """Lets no other run work on this shard until `held` is closed, also when this one has ended."""
        self._journal.keep_lock(held)

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


def clean_up(output: RunFolder, files: RunFiles, index: Index, own: str, folders: set[str]) -> None:
    """Removes temporary files of killed runs, which lie beside the results of what was under way.

    Those of the journal `own` also lie in `folders`, by their paths below the output folder.
    """
    if isinstance(output, Remote):  # what is whole or not there leaves none
        return
    places = {own: set(folders)}
    for journal, name in index.unfinished() if files.named else ():
        places.setdefault(journal, set()).add(posixpath.dirname(name))
    for journal, found in places.items():
        # Another shard may be at work right now, and then its files are no leftovers.
        if journal == own or is_idle(output, journal):
            for folder in found:
                remove_leftovers(output, files.owner(files.shard(journal)), folder)


def _damaged(path: str, name: str) -> Record:
    return Record.failed(path, name, ImageError(
        "io",
        f"What the journal says of the image {path!r} was damaged just now. Run the same command again.",
    ))  # fmt: skip


def _clash(path: str, name: str, finished: Line) -> ImageError:
    other = recorded_path(finished.fields)
    before = "that came through it before" if path == other else repr(other)
    return ImageError(
        CLASH,
        f"The image {path!r} is left undone: its name in the output folder, {name!r}, belongs to the finished result "
        f"of another image, {before}. Choose another output folder, or replace that result with --force.",
    )


def _crash(path: str, deaths: int | None) -> ImageError:
    """`deaths` is the number of runs that ended while the image was alone; None for processes of this run."""
    died = (
        "ended the process that worked on it, at last with no other image beside it"
        if deaths is None
        else f"was tried alone by {deaths} runs, and each of them was ended from outside meanwhile"
    )
    return ImageError(
        "crashed",
        f"The image {path!r} {died}. It is passed over this time; a run that finds nothing else to do tries it again.",
    )
