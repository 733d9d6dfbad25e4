"""Files of images in tar shards, which one process writes each.

A shard is begun as .lrp/open-*.tar and gets its name, lrp-*.tar, once it is whole: that is its commit. An image is
finished as soon as its members lie in the open tar and its journal line stands, for what a kill leaves of the tar is
cut behind the last image that has a line, and the next run goes on there.
"""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

from lrpcli.errors import LrpError, OutputError, UsageError
from lrpcli.records.description import EXPLAIN_FILES
from lrpcli.records.explained import Explained
from lrpcli.records.folder import FOLDER, names_in, open_regular, opened_folder
from lrpcli.records.journal import locked, open_journal, read_lines
from lrpcli.records.packed import END, Packed, TarName, member_header, member_key, padding, tar_size
from lrpcli.records.record import OK, R
from lrpcli.records.store import remove_leftovers, translate_os_error
from lrpcli.records.stores import NewFile, Place
from lrpcli.records.tar_index import SharedIndex
from lrpcli.records.tars import Tars


class OpenTar:
    """A tar shard that is being written: `end` is where the last image that counts ends. OSError if it cannot be."""

    def __init__(self, output: Path, name: TarName, end: int) -> None:
        self.output, self.name, self.end = output, name, end
        self._file = open_regular(output, FOLDER, name.open_name, os.O_RDWR | os.O_CREAT)
        try:
            self.cut()
        except OSError:
            os.close(self._file)
            raise

    def cut(self) -> None:
        """Removes what does not count."""
        os.ftruncate(self._file, self.end)
        os.lseek(self._file, self.end, os.SEEK_SET)

    def write(self, data: bytes) -> None:
        """Writes behind what counts; nothing is left of it where that fails, or where somebody else writes there."""
        if os.fstat(self._file).st_size != self.end:
            raise OSError(errno.EBUSY, "another process writes into it, where no lock keeps it from that")
        try:
            os.lseek(self._file, self.end, os.SEEK_SET)
            self._write(data)
        except OSError:
            with suppress(OSError):
                self.cut()
            raise

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]

    def commit(self) -> None:
        """Ends the tar and gives it its name, after it has reached the disk; or removes one that holds no image."""
        with opened_folder(self.output, FOLDER) as work, opened_folder(self.output) as folder:
            if not self.end:
                os.unlink(self.name.open_name, dir_fd=work)
                return
            self.cut()
            self.write(END)
            _reach_disk(self._file)
            os.replace(self.name.open_name, self.name.name, src_dir_fd=work, dst_dir_fd=folder)

    def close(self) -> None:
        """Lets go of the file."""
        os.close(self._file)


class TarStore:
    """Tar shards of about `place.pack_size` bytes; see Store. What lies in one that is whole is never written again."""

    needs_all_journals = True

    def __init__(self, place: Place) -> None:
        from lrpcli.records.parquet import require_pyarrow

        require_pyarrow("--pack tar")
        self.place, self.output = place, place.disk
        self._waiting: dict[str, list[tuple[str, list[NewFile]]]] = {}
        self._tar: OpenTar | None = None
        self._next = 0

    def of_shard(self, shard: str) -> "TarStore":
        """See Store."""
        return TarStore(replace(self.place, shard=shard))

    @contextmanager
    def opened(self, tars: Tars, *, force: bool) -> Iterator[None]:
        """See Store. UsageError for tars that no journal knows, and with `force` for any that would be in the way."""
        with self.opened_for_rows(tars, rows=1, force=force):
            with self._errors():
                opened = [name for name in _open_tars(self.output) if name.shard == self.place.shard]
            with self._packing(tars, opened, force=force):
                yield

    @contextmanager
    def opened_for_rows(self, tars: Tars, *, rows: int, force: bool) -> Iterator[None]:
        """See Store. UsageError as of `opened`; the index is written at the end."""
        self._require_known(tars, rows, force=force)
        with ExitStack() as last:
            with self._errors():
                remove_leftovers(self.output, self.place.shard)
                self._settle_others(rows, force=force)
                index = last.enter_context(SharedIndex(self.output, self.place.shard))
            try:
                yield
            except GeneratorExit:  # stopped in order
                self._finish_index(index)
                raise
            self._finish_index(index)

    def opened_row(self) -> AbstractContextManager[None]:
        """See Store. Of the folder, which may hold thousands of other tars, nothing is listed."""
        journal = EXPLAIN_FILES.journal(self.place.shard)
        tars = _tars_in(self.output, journal)
        last = tars.last(self.place.shard)
        numbers = (0,) if last is None else (last.number, last.number + 1)
        return self._packing(tars, [TarName(self.place.shard, number) for number in numbers], force=False)

    @contextmanager
    def _packing(self, tars: Tars, opened: Iterable[TarName], *, force: bool) -> Iterator[None]:
        """While entered, this store's shard packs; `opened` are tars of its own that may have been left open."""
        with ExitStack() as last:
            last.callback(self._let_go)
            with self._errors():
                self._go_on(tars, opened, force=force)
            try:
                yield
            except GeneratorExit:  # stopped in order
                self._commit()
                raise
            except BaseException:
                with suppress(LrpError):
                    self._commit()
                raise
            self._commit()

    def put(self, image: str, base: str, files: Iterable[NewFile]) -> None:
        """See Store; they are held in memory until the image is kept."""
        self._waiting.setdefault(image, []).append((base, list(files)))

    @contextmanager
    def kept(self, record: R) -> Iterator[R]:
        """See Store."""
        waiting = self._waiting.pop(record.name, [])
        if record.status != OK or not isinstance(record, Explained):
            yield record
            return
        with self._errors():
            tar, members, packed = self._laid_out(waiting[-len(record.classes) :])
            tar.write(members)
        classes = tuple(
            replace(one, outputs=replace(one.outputs, packed=place))
            for one, place in zip(record.classes, packed, strict=True)
        )
        yield cast(R, replace(record, classes=classes))
        tar.end += len(members)

    def _laid_out(self, maps: list[tuple[str, list[NewFile]]]) -> tuple[OpenTar, bytes, list[Packed]]:
        """The tar for the maps of an image, the bytes that it gets, and where each map lies in it."""
        size = sum(_member_size(base, file) for base, files in maps for file in files)
        tar = self._room(size)
        members, packed = bytearray(), []
        for base, files in maps:
            places: dict[str, tuple[int, int]] = {}
            for file in files:
                members += member_header(_member(base, file), len(file.content))
                places[file.kind] = (tar.end + len(members), len(file.content))
                members += file.content + padding(len(file.content))
            packed.append(Packed(tar.name.name, member_key(base), places))
        return tar, bytes(members), packed

    def _room(self, size: int) -> OpenTar:
        """The open tar, or another where so many bytes would make it larger than it may be."""
        if self._tar is not None and self._tar.end and self._tar.end + size + len(END) > self.place.pack_size:
            self._commit()
        if self._tar is None:
            self._tar = OpenTar(self.output, TarName(self.place.shard, self._next), 0)
            self._next += 1
        return self._tar

    def _commit(self) -> None:
        if self._tar is not None:
            with self._errors():
                self._tar.commit()
            self._let_go()

    def _finish_index(self, index: SharedIndex) -> None:
        with self._errors():
            index.finish()

    def _let_go(self) -> None:
        if self._tar is not None:
            self._tar.close()
            self._tar = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """An OSError with a tar stops the run."""
        try:
            yield
        except OSError as error:
            path = self.output / (FOLDER if self._tar is None else f"{FOLDER}/{self._tar.name.open_name}")
            translated = translate_os_error(error, path)
            raise translated if isinstance(translated, OutputError) else OutputError(str(translated)) from error

    def _require_known(self, tars: Tars, rows: int, *, force: bool) -> None:
        """UsageError for tars whose images could come to lie in two of them."""
        for name in tars.present:
            if name not in tars.ends:
                raise UsageError(
                    f"{os.fspath(self.output)!r} holds {name.name!r}, of which no journal in it says what lies there. "
                    "Move it away, or choose another output folder."
                )
        if not force:
            return
        whole = (name.name for name in tars.present if self._is_own(name, rows) or not self._is_sibling(name, rows))
        opened = (name.open_name for name in _open_tars(self.output) if not self._is_sibling(name, rows))
        for path in (*whole, *(f"{FOLDER}/{name}" for name in opened)):
            raise UsageError(
                f"{os.fspath(self.output)!r} holds {path!r}, and tar shards are never written again, so that "
                "--force cannot replace what lies there. Remove the tars, or choose another output folder; to go "
                "on with a run, leave --force out."
            )

    def _is_sibling(self, name: TarName, rows: int) -> bool:
        """Whether a tar is of a run that is divided like this one, whose shards have so many rows each."""
        return _parts(name.shard)[1] == _parts(self.place.shard)[1] * rows

    def _is_own(self, name: TarName, rows: int) -> bool:
        """Whether it is of one of this shard's rows, see pipeline.row.Rows.shard_of."""
        number, count = _parts(self.place.shard)
        return self._is_sibling(name, rows) and (_parts(name.shard)[0] - number) % count == 0

    def _settle_others(self, rows: int, *, force: bool) -> None:
        """Commits what killed runs that were divided otherwise left open; who has the same part now goes on with it.

        With `force` that is removed.
        """
        for name in _open_tars(self.output):
            sibling, journal = self._is_sibling(name, rows), EXPLAIN_FILES.journal(name.shard)
            if sibling and not (force and self._is_own(name, rows)):
                continue
            with suppress(OutputError), open_journal(self.output, journal) as file:
                if (rows > 1 and name.shard == self.place.shard) or locked(file.fileno()):  # else it is at work
                    _remove(self.output, name) if sibling else _finish(self.output, name, journal)

    def _go_on(self, tars: Tars, opened: Iterable[TarName], *, force: bool) -> None:
        """Opens what this shard has left open, and removes what does not count: no line speaks of it, or it was cut."""
        last = tars.last(self.place.shard)
        self._next = 0 if last is None else last.number + 1
        for name in opened:
            end = tars.ends.get(name, 0)
            found = tar_size(self.output, name.name)
            if not force and name == last and found is not None and found[0] >= end and not found[1]:
                self._tar = OpenTar(self.output, name, end)
            else:
                _remove(self.output, name)


def _member(base: str, file: NewFile) -> str:
    return member_key(base) + file.path.removeprefix(base)


def _member_size(base: str, file: NewFile) -> int:
    size = len(file.content)
    return len(member_header(_member(base, file), size)) + size + len(padding(size))


def _parts(shard: str) -> tuple[int, int]:
    """Its number, and how many there are."""
    number, _, count = shard.partition("-of-")
    return int(number), int(count)


def _remove(output: Path, name: TarName) -> None:
    """Removes what is left of an open tar, if anything is."""
    with suppress(FileNotFoundError), opened_folder(output, FOLDER) as folder:
        os.unlink(name.open_name, dir_fd=folder)


def _tars_in(output: Path, journal: str) -> Tars:
    """The tars that a journal speaks of."""
    tars = Tars(None)
    for line in read_lines(output, journal):
        tars.see(journal, line)
    return tars


def _open_tars(output: Path) -> list[TarName]:
    """The tars that are not whole."""
    try:
        names = names_in(output, FOLDER)
    except FileNotFoundError:
        return []
    return [found for name in names if (found := TarName.of(name, open_=True)) is not None]


def _finish(output: Path, name: TarName, journal: str) -> None:
    """Commits a tar that a killed run has left open, whose journal is locked; removes one that was cut since."""
    found = tar_size(output, name.name)
    if found is None or found[1]:
        return
    end = _tars_in(output, journal).ends.get(name, 0)
    tar = OpenTar(output, name, end if found[0] >= end else 0)
    try:
        tar.commit()
    finally:
        tar.close()


def _reach_disk(file: int) -> None:
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that knows nothing of this
            raise
