"""The sheet of all images: pages made of what the runs of all shards wrote, one page in memory at a time."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from lrpcli.compare.records import Compared
from lrpcli.compare.run import CompareRun, writer_of
from lrpcli.compare.settings import SheetSettings
from lrpcli.compare.write import read_drawable
from lrpcli.errors import ImageError, UsageError
from lrpcli.images.find import Source
from lrpcli.pictures.encode import FORMATS
from lrpcli.pictures.figure import METADATA, figure_bytes, own_style
from lrpcli.records.division import ended_images
from lrpcli.records.ended import ended_record, is_clash
from lrpcli.records.folder import names_in
from lrpcli.records.index import Index
from lrpcli.records.store import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL = "sheet"
"""The name of the files, apart from what ends it: sheet.png, or sheet-1.png and so on where there are several."""
PAGES = 20
"""Pages of a PDF file: matplotlib holds the pictures of a whole file in memory."""


class SheetOfAll:
    """What is known of all images at the end of a run; to be closed. OutputError if a journal cannot be read.

    `ended` counts the images that are finished or failed, in whichever shard.
    """

    def __init__(self, run: CompareRun, sources: Sequence[Source]) -> None:
        self.run, self.sources = run, sources
        self._index = Index(run.disk, run.files, run.description.fingerprint)
        self._finished = bytearray(len(sources))
        self.ended = 0
        for place, source in enumerate(sources):
            known = self._index.of(source.name)
            record = ended_record(known, source.path, Compared)
            self._finished[place] = isinstance(record, Compared) and writer_of(run.stages).fits(
                record, source.path, source.name
            )
            failed = record is not None and not isinstance(record, Compared)
            self.ended += bool(self._finished[place] or failed or is_clash(known, source.path))

    def close(self) -> None:
        """Lets go of the journals."""
        self._index.close()

    def write(self) -> list[str]:
        """Writes the pages, removes those that earlier runs made beyond them, and gives their paths.

        OutputError if the maps of an image cannot be read, or a page cannot be written.
        """
        settings = writer_of(self.run.stages).settings
        count = sum(self._finished)
        pages = -(-count // settings.per_page) if settings.per_page else 0
        a_file = PAGES if settings.picture_format == "pdf" else 1
        files = -(-pages // a_file)
        names = [
            f"{ALL}{'' if files == 1 else f'-{number}'}{FORMATS[settings.picture_format]}"
            for number in range(1, files + 1)
        ]
        figures = self._figures(count, pages)
        for name in names:
            content = self._content(islice(figures, a_file))
            write_whole(self.run.disk / name, content, self.run.owner, self.run.disk)
        self._remove_others(set(names))
        return [str(self.run.disk / name) for name in names]

    def _records(self) -> Iterator[Compared]:
        for place, source in enumerate(self.sources):
            if self._finished[place]:
                record = ended_record(self._index.of(source.name), source.path, Compared)
                if isinstance(record, Compared):
                    yield replace(record, name=source.name)

    def _figures(self, count: int, pages: int) -> "Iterator[Figure]":
        writer, records = writer_of(self.run.stages), self._records()
        images = f"{count} image{'' if count == 1 else 's'}"
        left = len(self.sources) - count
        shown = f"{images} ({left} failed)" if left else images
        for page in range(1, pages + 1):
            drawn = [read_drawable(self.run.disk, record) for record in islice(records, writer.settings.per_page)]
            yield writer.maker.page(drawn, shown + (f", page {page} of {pages}" if pages > 1 else ""))

    def _content(self, figures: "Iterator[Figure]") -> bytes:
        settings = writer_of(self.run.stages).settings
        with own_style():
            if settings.picture_format != "pdf":
                return _page_bytes(next(figures), settings)
            from matplotlib.backends.backend_pdf import PdfPages

            buffer = io.BytesIO()
            with PdfPages(buffer, metadata=METADATA["pdf"]) as pdf:
                for figure in figures:
                    pdf.savefig(figure)
            return buffer.getvalue()

    def _remove_others(self, written: set[str]) -> None:
        """Pages of this format that an earlier run made of more images."""
        ending = re.escape(FORMATS[writer_of(self.run.stages).settings.picture_format])
        for name in names_in(self.run.disk):
            if re.fullmatch(rf"{ALL}(-[1-9]\d*)?{ending}", name) and name not in written:
                with suppress(OSError):
                    Path(self.run.disk, name).unlink()


def _page_bytes(figure: "Figure", settings: SheetSettings) -> bytes:
    """UsageError for a page that the format has no room for; the sheets of the images are there by now."""
    try:
        return figure_bytes(figure, settings.picture_format, settings.quality)
    except ImageError as error:
        raise UsageError(
            f"A page of the sheet of all images is too large for the format {settings.picture_format}. Take fewer "
            "images --per-page, and run the same command again."
        ) from error


def write_sheet_of_all(run: CompareRun, sources: Sequence[Source]) -> tuple[list[str], int]:
    """Writes the sheet of all images once all have ended in some shard: its paths, and how many have ended.

    Before that only the journals' last lines are read: each of n shards asks, and one needs the answer.
    """
    if run.shard.count > 1:
        ended = ended_images(run.disk, run.files, run.description.fingerprint, len(sources))
        if ended < len(sources):
            return [], ended
    with closing(SheetOfAll(run, sources)) as every:
        return (every.write() if every.ended == len(sources) else []), every.ended
