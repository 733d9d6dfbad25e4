"""The index of packed results, OUTPUT/index.parquet: the table of all records, which says what lies where."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from lrpcli.records.description import EXPLAIN_FILES
from lrpcli.records.folder import FOLDER, open_regular
from lrpcli.records.store import whole_file

INDEX = "index.parquet"
_AT_WORK, _TURN = "packing.lock", "index.lock"


class SharedIndex:
    """While entered, this run is one of those at work on a folder, of which the last to be through writes the index.

    A file system without locks cannot tell which is the last; there each of them writes it. OSError if it is not to be
    written to.
    """

    def __init__(self, output: Path, owner: str) -> None:
        self.output, self.owner = output, owner
        self._at_work = -1

    def __enter__(self) -> "SharedIndex":
        self._at_work = self._locked(_AT_WORK, fcntl.LOCK_SH)
        return self

    def __exit__(self, *raised: object) -> None:
        self._leave()

    def finish(self) -> None:
        """Leaves the runs at work, and writes the index if no other is left. LrpError or OSError if it cannot be."""
        turn = self._locked(_TURN, fcntl.LOCK_EX)
        try:
            self._leave()
            with suppress(BlockingIOError):
                alone = self._locked(_AT_WORK, fcntl.LOCK_EX | fcntl.LOCK_NB)
                try:
                    write_index(self.output, self.owner)
                finally:
                    os.close(alone)
        finally:
            os.close(turn)

    def _leave(self) -> None:
        if self._at_work >= 0:
            os.close(self._at_work)
            self._at_work = -1

    def _locked(self, name: str, how: int) -> int:
        """A descriptor of a file that keeps a lock until it is closed. BlockingIOError if others have it."""
        descriptor = open_regular(self.output, FOLDER, name, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError:  # a file system without locks
            pass
        return descriptor


def write_index(output: Path, owner: str) -> None:
    """Writes the index, whole or not at all; none of a folder where no run has begun. LrpError if it cannot be."""
    from lrpcli.records.parquet import write_parquet
    from lrpcli.records.table import Records, columns, entries

    if not EXPLAIN_FILES.journals_in(output):
        return
    records = Records(output, below="")
    with whole_file(output / INDEX, owner, follow=False) as file:
        write_parquet(columns(records.description), entries(records), file)
