"""What a run says: results on stdout, everything else on stderr."""

import os
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

from tqdm import tqdm

from lrpcli.errors import OutputError
from lrpcli.records.journal import json_line
from lrpcli.records.text import printable

FIELDS = ("type", "input", "status", "outputs", "target", "label", "score", "top", "relevance", "explanations", "error",
          "seconds")  # fmt: skip
"""What --json prints of a row; the journal has it all."""


class Reporter:
    """Prints rows as they come: paths or JSON on stdout; a bar (on a terminal), failures and a summary on stderr."""

    def __init__(self, total: int, output: Path, skipped: str, *, as_json: bool, print0: bool, quiet: bool) -> None:
        self.total, self.output, self.skipped = total, output, skipped
        self.as_json, self.quiet = as_json, quiet
        self.end = b"\0" if print0 else b"\n"
        self.statuses: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.started = perf_counter()
        self.bar: Any = None

    @property
    def failed(self) -> int:
        """Images that failed so far."""
        return self.statuses["failed"]

    def __enter__(self) -> "Reporter":
        hidden = self.quiet or not sys.stderr.isatty()
        self.bar = tqdm(total=self.total, unit=" images", disable=hidden, file=sys.stderr, dynamic_ncols=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.close()
        # A run that was refused has an error to tell and nothing to sum up.
        if not self.quiet and (self.statuses or error is None):
            print(self._summary(), file=sys.stderr)
        if self.as_json and not isinstance(error, (BrokenPipeError, OutputError)):
            self._write(json_line(self._totals()).encode() + b"\n")

    def show(self, row: dict[str, Any]) -> None:
        """Tells of one image."""
        self.statuses[row["status"]] += 1
        if row["status"] == "failed":
            self.errors[row["error"]["kind"]] += 1
            self.bar.write(printable(f"{row['error']['kind']}: {row['error']['message']}"), file=sys.stderr)
            self.bar.set_postfix_str(f"{self.failed} failed", refresh=False)
        if self.as_json:
            self._write(json_line({key: row[key] for key in FIELDS if key in row}).encode() + b"\n")
        else:
            for part in row.get("explanations", [row]):
                if part.get("outputs"):
                    self._write(self._line(next(iter(part["outputs"].values()))))
        self.bar.update()

    def _line(self, path: str) -> bytes:
        """Exact bytes for a program, harmless text for a terminal."""
        if self.end == b"\n" and sys.stdout.isatty():
            return printable(path).replace("\n", "\\n").encode() + self.end
        return os.fsencode(path) + self.end

    def _write(self, data: bytes) -> None:
        # The bar makes room where both go to one terminal; flushed at once: what reads the pipe begins immediately.
        with tqdm.external_write_mode(file=sys.stdout):
            try:
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise OutputError(f"Standard output cannot be written: {error.strerror}.") from error

    def _seconds(self) -> float:
        return perf_counter() - self.started

    def _summary(self) -> str:
        seconds = self._seconds()
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.errors.items()))
        failures = f", {self.failed} failed ({kinds})" if self.failed else ""
        images = f"{self.total} image" + ("" if self.total == 1 else "s")
        speed = f"{sum(self.statuses.values()) / seconds:.1f}" if seconds else "0"
        folder = printable(str(self.output))
        skipped = f"\nSkipped: {self.skipped}." if self.skipped else ""
        before = f", {self.statuses['skipped']} already done" if self.statuses["skipped"] else ""
        left = self.total - sum(self.statuses.values())
        stopped = f", {left} left" if left else ""
        done = f"{images}: {self.statuses['ok']} explained{before}{failures}{stopped}"
        return f"{done}; {seconds:.1f} s, {speed} images/s. See {folder}{skipped}"

    def _totals(self) -> dict[str, Any]:
        return {
            "type": "summary",
            "images": self.total,
            **{status: self.statuses[status] for status in ("ok", "skipped", "failed")},
            "errors": dict(sorted(self.errors.items())),
            "seconds": round(self._seconds(), 3),
        }
