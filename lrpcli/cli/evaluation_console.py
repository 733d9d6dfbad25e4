"""What an evaluation says: a bar that counts perturbed images, and the results at the end."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from lrpcli.cli.console import Console
from lrpcli.cli.options import ConsoleSettings
from lrpcli.cli.terminal import columns, say
from lrpcli.evaluation.summary import Results
from lrpcli.evaluation.table import results_table
from lrpcli.records.record import OK, SKIPPED, Record


class EvaluationConsole(Console):
    """A Console whose bar counts passes through the net; `passes` of them for each image that is measured.

    `results` are shown at the end, as a table or within the summary object; `unfinished` says why there are none yet.
    """

    unit = " passes"
    scaled = True
    verb = "measured"

    def __init__(self, total: int, output: Path, skipped: str, settings: ConsoleSettings, *, passes: int) -> None:
        super().__init__(total, output, skipped, settings)
        self.passes, self.computed = passes, 0
        self.results: Results | None = None
        self.unfinished = ""

    @property
    def bar_total(self) -> int:
        """See Console."""
        return self.total * self.passes

    def passed(self, count: int) -> None:
        """So many images went through the net."""
        self.computed += count
        self.bar.update(count)

    def passing(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, where nobody else says how many images went through the net."""
        for record in records:
            if record.status == OK:
                self.passed(self.passes)
            yield record

    def await_shards(self, ended: int, images: int) -> None:
        """Says at the end why there are no results yet."""
        self.unfinished = (
            f"; {ended} of all {images} images have ended, and the shard that ends last writes the results"
        )

    def advance(self, record: Record) -> None:
        """Counts the image; one that is not measured makes the bar shorter."""
        if record.status != OK:
            self.bar.total -= self.passes
        self.bar.set_postfix_str(f"{self.total - self.left} of {self.total} images", refresh=False)

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if self.results is not None and not self.settings.as_json:
            table = results_table(self.results, columns())
            with tqdm.external_write_mode(file=sys.stdout):
                say(table)
        super().__exit__(kind, error, at)

    def before(self) -> str:
        """See Console."""
        return f", {self.statuses[SKIPPED]} already done"

    def speed(self) -> str:
        """See Console."""
        return f"{self.computed} passes in {self.seconds:.1f} s{self.unfinished}"

    def totals(self) -> dict[str, object]:
        """See Console."""
        totals = super().totals()
        seconds = totals.pop("seconds")
        return {**totals, "passes": self.computed, "seconds": seconds, "results": self.results}
