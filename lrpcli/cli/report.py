"""`lrp report`: a page of an output folder's results."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrpcli.cli.options import FilledPath, from_options, options_of_settings, verbosity
from lrpcli.cli.settings import Configurable, settings_options
from lrpcli.cli.terminal import note, say_json, say_path
from lrpcli.records.json_values import json_path
from lrpcli.records.text import one_line
from lrpcli.report.settings import ReportSettings
from lrpcli.scale.devices import usable_cpus

if TYPE_CHECKING:
    from lrpcli.report.run import Report


@click.command(cls=Configurable)
@click.argument("output", metavar="OUTPUT", type=FilledPath())
@options_of_settings(ReportSettings)
@click.option("--json", "as_json", is_flag=True, help="As JSON: the page, its images and their status.")
@settings_options
@verbosity
def report(output: str, as_json: bool, quiet: bool, **values: Any) -> None:
    """Make OUTPUT/index.html, a gallery of what lrp explain wrote into OUTPUT.

    It opens in a browser straight from the disk and needs no network. Small pictures lie in OUTPUT/lrp-report; results
    stay as they are. It may be made at any time and as often as wanted, also while a run is at work. Where OUTPUT
    itself holds no results, those of the folders in it are shown side by side. The path of the page is printed.
    """
    made = make_report(Path(output), from_options(ReportSettings, values), quiet=quiet)
    if as_json:
        images = {"images": made.counts.total(), "statuses": dict(sorted(made.counts.items()))}
        say_json({"page": json_path(os.fspath(made.page)), **images, "pictures": made.pictures, "bytes": made.bytes})
    else:
        say_path(made.page)


def make_report(output: Path, settings: ReportSettings, *, quiet: bool) -> "Report":
    """Makes the report of an output folder, with a bar on a terminal, and says what it shows. Raises LrpError."""
    from lrpcli.report.run import build_report

    with _Bar(shown=not quiet and sys.stderr.isatty()) as bar:
        made = build_report(output, settings, settings.jobs or usable_cpus(), bar)
    if not quiet:
        counts = ", ".join(f"{count} {status}" for status, count in made.counts.items())
        note(one_line(f"Report of {made.counts.total()} images ({counts or 'none yet'}): {made.page}"))
    return made


class _Bar:
    """Shows how many small pictures are there."""

    def __init__(self, *, shown: bool) -> None:
        from tqdm import tqdm

        self._bar = tqdm(unit=" pictures", file=sys.stderr, dynamic_ncols=True, disable=not shown, leave=False)

    def begin(self, total: int) -> None:
        """See Progress."""
        self._bar.reset(total)

    def step(self) -> None:
        """See Progress."""
        self._bar.update()

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *raised: object) -> None:
        self._bar.close()
