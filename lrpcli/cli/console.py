"""What a run says, whatever its work is: results on stdout; a bar, failures and a summary on stderr."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import TypeVar

from tqdm import tqdm

from lrpcli.cli.options import ConsoleSettings
from lrpcli.cli.terminal import note, note_failure, say_bytes, say_path, stop_waiting
from lrpcli.errors import OutputError
from lrpcli.records.folder import RunFolder, shown
from lrpcli.records.json_values import json_line
from lrpcli.records.record import FAILED, OK, SKIPPED, Record
from lrpcli.records.text import one_line

C = TypeVar("C", bound="Console")
tqdm.monitor_interval = 0  # no thread that looks after bars: there may be too few


def warner(*, quiet: bool) -> Callable[[str], None]:
    """What says sentences on standard error while a bar may be there, or keeps them to itself."""

    def warn(text: str) -> None:
        if not quiet:
            with tqdm.external_write_mode(file=sys.stderr):
                note(text)

    return warn


class Console:
    """Shows records as they come: paths or JSON on stdout; a bar (on a terminal), failures and a summary on stderr."""

    unit = " images"
    scaled = False
    """Whether the bar shortens large numbers."""
    verb = "explained"

    def __init__(self, total: int, output: RunFolder, skipped: str, settings: ConsoleSettings) -> None:
        self.total, self.output, self.skipped, self.settings = total, output, skipped, settings
        self.end = b"\0" if settings.print0 else b"\n"
        self.statuses: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.warnings: Counter[str] = Counter()
        self.started = perf_counter()

    @property
    def bar_total(self) -> int:
        """What the bar counts up to."""
        return self.total

    @property
    def failed(self) -> int:
        """Images that failed so far."""
        return self.statuses[FAILED]

    @property
    def left(self) -> int:
        """Images that have no record yet."""
        return self.total - sum(self.statuses.values())

    def __enter__(self: C) -> C:
        stop_waiting()
        self.bar = tqdm(
            total=self.bar_total, unit=self.unit, unit_scale=self.scaled, file=sys.stderr, dynamic_ncols=True,
            disable=self.settings.quiet or not sys.stderr.isatty(),
        )  # fmt: skip
        return self

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        self.bar.close()
        # A run that was refused has an error to tell and nothing to sum up.
        if not self.settings.quiet and (self.statuses or error is None):
            note(self.summary())
        if self.settings.as_json and not isinstance(error, (BrokenPipeError, OutputError)):
            self.write(json_line(self.totals()).encode() + b"\n")

    def announce(self, text: str) -> None:
        """Says on standard error what is good to know beside the images."""
        warner(quiet=self.settings.quiet)(text)

    def show_all(self, records: Iterable[Record], *, fail_fast: bool) -> None:
        """Shows records as they come, up to the first failure with `fail_fast`."""
        for record in records:
            self.show(record)
            if fail_fast and self.failed:
                break

    def show(self, record: Record) -> None:
        """Shows one image."""
        self.statuses[record.status] += 1
        self.warnings.update(record.warnings)
        if record.failure is not None:
            self.errors[record.failure.kind] += 1
            with tqdm.external_write_mode(file=sys.stderr):
                note_failure(record.failure.kind, record.failure.message)
            self.bar.set_postfix_str(f"{self.failed} failed", refresh=False)
        self.say_image(record)
        self.advance(record)

    def say_image(self, record: Record) -> None:
        """Prints what is known of an image: an object with --json, else its results."""
        if self.settings.as_json:
            self.write(json_line(record.as_shown()).encode() + b"\n")
        else:
            self.say_results(record)

    def say_results(self, record: Record) -> None:
        """Prints the path of the first file of each map."""
        for outputs in record.outputs:
            if outputs.first is not None:
                with tqdm.external_write_mode(file=sys.stdout):
                    say_path(outputs.first, self.end)

    def advance(self, record: Record) -> None:
        """Moves the bar on by one image."""
        self.bar.update()

    def write(self, data: bytes) -> None:
        """Writes to standard output, for which the bar makes room; see say_bytes for errors."""
        with tqdm.external_write_mode(file=sys.stdout):
            say_bytes(data)

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return perf_counter() - self.started

    def summary(self) -> str:
        """The closing lines."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.errors.items()))
        failures = f", {self.failed} failed ({kinds})" if self.failed else ""
        images = f"{self.total} image" + ("" if self.total == 1 else "s")
        skipped = f"\nSkipped: {self.skipped}." if self.skipped else ""
        stopped = f", {self.left} left" if self.left else ""
        done = f"{images}: {self.statuses[OK]} {self.verb}{self.before()}{failures}{stopped}"
        warned = "".join(f"\nWarning: in {count} of {images} {what}." for what, count in self.warnings.items())
        return f"{done}; {self.speed()}. See {one_line(shown(self.output))}{skipped}{warned}"

    def before(self) -> str:
        """What was done before this run."""
        return f", {self.statuses[SKIPPED]} already done" if self.statuses[SKIPPED] else ""

    def speed(self) -> str:
        """Time and rate."""
        worked = sum(self.statuses.values()) - self.statuses[SKIPPED]
        rate = f"{worked / self.seconds:.1f}" if self.seconds else "0"
        return f"{self.seconds:.1f} s, {rate} images/s"

    def totals(self) -> dict[str, object]:
        """The summary object of --json."""
        return {
            "type": "summary",
            "images": self.total,
            **{status: self.statuses[status] for status in (OK, SKIPPED, FAILED)},
            "errors": dict(sorted(self.errors.items())),
            "seconds": round(self.seconds, 3),
        }
