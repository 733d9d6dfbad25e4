"""What a comparison says: the path of each sheet, and at the end those of the sheet of all."""

import sys
from collections.abc import Sequence

from tqdm import tqdm

from lrpcli.cli.console import Console
from lrpcli.cli.terminal import say_path
from lrpcli.records.json_values import json_path


class CompareConsole(Console):
    """A Console that also knows the sheet of all images."""

    verb = "compared"
    sheets: Sequence[str] = ()
    unfinished = ""

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
