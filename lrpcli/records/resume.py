"""How far the images of an output folder are, by its journals: what can be skipped, what is suspect, what to write."""

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from lrpcli.errors import ImageError, LrpError
from lrpcli.images.find import Source, file_state
from lrpcli.pipeline.stream import failed_row
from lrpcli.pipeline.write import Row
from lrpcli.records.index import OK, UNFINISHED, Ledger
from lrpcli.records.journal import FOLDER, Journal, locked
from lrpcli.records.store import remove_leftovers

DEATHS = 2
"""So often may a run end while one image was under way alone; after that the image is `crashed`."""
SAME_SCALE = 1e-3
"""Two common scales this close draw the same picture: less than one step of colour."""


class Progress:
    """The journal of one shard, and what all journals of the folder know; `owner`, such as "1-of-4", names the shard.

    `run` is the fingerprint of the settings: results of others do not count, and with `force` none does.
    UsageError if another process works on this shard; OutputError if the folder cannot be written.
    """

    def __init__(self, output: Path, run: str, owner: str, *, force: bool = False) -> None:
        self.output, self.run, self.force = output, run, force
        self.scale: float | None = None
        self._under_way: dict[str, dict[str, int]] = {}
        self._journal = Journal(output, f"journal-{owner}.jsonl", alone=True)
        self._ledger = Ledger(output, run)
        self._clean(owner)

    def _clean(self, owner: str) -> None:
        """Removes temporary files of killed runs, which lie beside the results of what was under way."""
        folders: dict[str, set[Path]] = {owner: {self.output / FOLDER}}
        for journal, name in self._ledger.unfinished():
            if ".." in Path(name).parts or name.startswith("/"):
                continue  # no name of ours: a journal that somebody made may not lead out of the folder
            of = journal.stem.removeprefix("journal-")
            folders.setdefault(of, set()).add((self.output / name).parent)
        for of, places in folders.items():
            # Another shard may be at work right now, and then its files are no leftovers.
            if of == owner or _is_idle(self.output / FOLDER / f"journal-{of}.jsonl"):
                for place in places:
                    remove_leftovers(place, of)

    def look(self, source: Source) -> tuple[Row | None, bool]:
        """The row of an image that needs no work, being finished and unchanged; or whether it must be done alone.

        An image is alone if a run ended while it was under way; after too many such ends its row is a failure.
        """
        known = self._ledger.of(source.name)
        if known is None:
            return None, False
        if known.code in UNFINISHED:
            return (_crashed(source, known.deaths) if known.deaths >= DEATHS else None), True
        if known.code == OK and not self.force and self._is_finished(source, known.row):
            return {**known.row, "type": "image", "input": source.path, "status": "skipped"}, False
        return None, False

    def _is_finished(self, source: Source, row: Row) -> bool:
        state = file_state(source.path)
        if not state or any(row.get(key) != value for key, value in state.items()):
            return False
        if self.scale is not None and abs(row.get("scale", 0.0) - self.scale) > SAME_SCALE * self.scale:
            return False
        parts = row.get("explanations", [row])
        return all((self.output / name).exists() for part in parts for name in part.get("outputs", {}).values())

    def begin_run(self, **facts: Any) -> None:
        """Writes down that a run begins."""
        self._append({"type": "run", **facts})

    def begin(self, source: Source, *, alone: bool) -> None:
        """Writes down that an image is under way, and remembers what its file looks like now."""
        self._append({"type": "start", "name": source.name, **({"alone": True} if alone else {})})
        self._under_way[source.name] = file_state(source.path)

    def end(self, row: Row) -> None:
        """Writes down what came of an image."""
        state = self._under_way.pop(row["name"], {})
        if row["status"] == "skipped":
            self._append({"type": "skip", "name": row["name"]})
        else:
            self._append({**row, "type": "done", **state})

    def _append(self, row: Row) -> None:
        self._journal.append({**row, "run": self.run, "time": round(time.time(), 3)})

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *raised: object) -> None:
        # What an orderly end drops is no suspect. On a full disk it stays one, which only costs time.
        with suppress(LrpError):
            for name in self._under_way:
                self._append({"type": "drop", "name": name})
        self._ledger.close()
        self._journal.__exit__(None, None, None)


def _crashed(source: Source, deaths: int) -> Row:
    return failed_row(source, ImageError(
        "crashed",
        f"The image {source.path!r} was the only one under way when each of the last {deaths} runs was ended from "
        "outside. It is passed over this time.",
    ))  # fmt: skip


def _is_idle(journal: Path) -> bool:
    """Whether no run holds a journal."""
    try:
        with journal.open("rb") as file:
            return locked(file.fileno())
    except OSError:
        return False
