"""What a comparison says: the path of each sheet, and at the end those of the sheet of all."""

import sys
from array import array
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from lrpcli.cli.console import Console
from lrpcli.cli.doubts import doubts_of_shares
from lrpcli.cli.options import ConsoleSettings
from lrpcli.cli.terminal import say_path
from lrpcli.compare.records import Compared
from lrpcli.records.json_values import json_path
from lrpcli.records.record import Record
from lrpcli.records.text import one_line


class CompareConsole(Console):
    """A Console that also knows the sheet of all images."""

    verb = "compared"
    sheets: Sequence[str] = ()
    unfinished = ""

    def __init__(self, total: int, output: Path, skipped: str, settings: ConsoleSettings) -> None:
        super().__init__(total, output, skipped, settings)
        self.kept: dict[str, array[float]] = {}

    def show(self, record: Record) -> None:
        """See Console."""
        for one in record.maps if isinstance(record, Compared) else ():
            if one.kept is not None:
                self.kept.setdefault(one.column, array("d")).append(one.kept)
        super().show(record)

    def summary(self) -> str:
        """See Console."""
        doubts = [doubt for column, kept in self.kept.items() for doubt in doubts_of_shares(kept, one_line(column))]
        return "\n".join([super().summary(), *(f"Warning: {doubt}" for doubt in doubts)])

    def say_sheets(self, sheets: Sequence[str], ended: int, images: int) -> None:
        """Prints the paths of the sheet of all images, of which so many have ended, or remembers why there is none."""
        self.sheets = sheets
        if ended < images:
            self.unfinished = (
                f"; {ended} of all {images} images have ended, and the shard that ends last makes the sheet of all"
            )
        for path in () if self.settings.as_json else sheets:
            with tqdm.external_write_mode(file=sys.stdout):
                say_path(path, self.end)

    def speed(self) -> str:
        """See Console."""
        return super().speed() + self.unfinished

    def totals(self) -> dict[str, object]:
        """See Console."""
        return {**super().totals(), "sheets": [json_path(path) for path in self.sheets]}
