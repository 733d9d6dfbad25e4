"""What a tuning says: failures as images are read, a bar of passes through the net, and the report at the end."""

import sys
from collections.abc import Iterable, Iterator

from tqdm import tqdm

from lrpcli.cli.console import Console
from lrpcli.cli.terminal import say
from lrpcli.records.record import Record


class TuningConsole(Console):
    """A Console that counts passes, and shows the report or, with --json, one object at the end."""

    unit = " passes"
    scaled = True
    verb = "read"
    passes = 0
    report: str | None = None
    results: dict[str, object] | None = None

    def passing(self, records: Iterable[Record], *, fail_fast: bool) -> Iterator[Record]:
        """The records, each shown if it failed, up to the first failure with `fail_fast`."""
        for record in records:
            self.show(record)
            yield record
            if fail_fast and self.failed:
                break

    def say_image(self, record: Record) -> None:
        """See Console: --json has one object at the end."""

    @property
    def bar_total(self) -> int:
        """See Console; how many passes a tuning takes depends on what it finds."""
        return 0

    def advance(self, record: Record) -> None:
        """See Console; reading an image is one pass."""
        self.passed("reading images", 1)

    def passed(self, what: str, count: int) -> None:
        """So many images went through the net for what is under way."""
        self.passes += count
        self.bar.set_postfix_str(what, refresh=False)
        self.bar.update(count)

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        if self.report is not None and not self.settings.as_json:
            with tqdm.external_write_mode(file=sys.stdout):
                say(self.report)
        super().__exit__(kind, error, at)

    def speed(self) -> str:
        """See Console."""
        return f"{self.passes} passes in {self.seconds:.1f} s"

    def totals(self) -> dict[str, object]:
        """See Console."""
        totals = super().totals()
        seconds = totals.pop("seconds")
        return {**totals, "passes": self.passes, "seconds": seconds, "results": self.results}
