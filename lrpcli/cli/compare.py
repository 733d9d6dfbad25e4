"""`lrp compare`: options to settings, sheets to stdout."""

import os
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrpcli.cli.expected_size import LARGE, expected_size
from lrpcli.cli.inputs import InputSettings, find_sources, input_options, require_folder
from lrpcli.cli.options import (
    ConsoleSettings,
    FilledPath,
    from_options,
    grouped,
    model_options,
    model_settings,
    options_of_settings,
    say_loading,
    verbosity,
)
from lrpcli.cli.settings import Configurable, settings_options
from lrpcli.cli.signals import Interrupts
from lrpcli.compare.settings import CompareRunSettings, CompareSettings, SheetSettings
from lrpcli.errors import UsageError
from lrpcli.images.formats import DecodePolicy
from lrpcli.pictures.style import PictureStyle
from lrpcli.pipeline.settings import FlowSettings
from lrpcli.scale.devices import usable_cpus

if TYPE_CHECKING:
    from lrpcli.cli.compare_console import CompareConsole
    from lrpcli.images.find import Source
    from lrpcli.pipeline.shard import Shard

sheet_options = grouped(
    options_of_settings(SheetSettings, but=("scale", "per_page")),
    options_of_settings(PictureStyle),
    options_of_settings(SheetSettings, but=("difference", "picture_format", "quality", "overlay_size")),
)


@click.command(cls=Configurable)
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=FilledPath())
@click.option("-o", "--out", metavar="OUTPUT", type=FilledPath(), required=True, help="Folder for the sheets.")
@options_of_settings(CompareSettings, but=("precision",))
@sheet_options
@model_options
@options_of_settings(CompareSettings, but=("models", "configs", "lrn", "starts", "targets"))
@input_options
@options_of_settings(CompareRunSettings)
@options_of_settings(FlowSettings)
@options_of_settings(ConsoleSettings)
@settings_options
@verbosity
def compare(inputs: tuple[str, ...], out: str, **values: Any) -> None:
    """Show maps of several configs, LRN rules, starts, targets or models side by side.

    Each image gets a sheet, cats/a.jpg.compare.png: the photo beside a map for each of what is named several times (of
    several such options, for every combination, up to 8). Its maps lie beside it in cats/a.jpg.compare.npz, about a
    megabyte. At the end the sheet of all is made: sheet.png, or sheet-1.png and so on, with --per-page images each; as
    PDF, 20 pages a file. A stopped run goes on when it is started again. With --shard, the shard that ends last makes
    the sheet of all.
    """
    say_loading(", ".join(values["models"]), quiet=values["quiet"])
    folder = require_folder(out)
    if not inputs and values["files_from"] is None:
        raise UsageError("No input is given. Name images or folders.")
    policy = from_options(DecodePolicy, values)
    settings = _settings(folder, values, policy)
    sources, skipped = find_sources(inputs, folder, from_options(InputSettings, values), policy)
    from lrpcli.cli.compare_console import CompareConsole
    from lrpcli.pipeline.shard import parse_shard

    shard = parse_shard(settings.flow.shard, os.environ)
    said = from_options(ConsoleSettings, values, quiet=values["quiet"])
    console = CompareConsole(len(shard.share(sources)), folder, skipped, said)
    if sources:
        _compare(sources, console, shard, settings)
    else:
        with console:
            pass
    if console.failed:
        click.get_current_context().exit(1)


def _compare(
    sources: "Sequence[Source]", console: "CompareConsole", shard: "Shard", settings: CompareRunSettings
) -> None:
    """Makes the sheets of the shard's images and shows each, and then that of all."""
    from lrpcli.scale import Job
    from lrpcli.scale.inline import execute

    job = Job("lrpcli.compare.run:prepare_run", (settings, shard))
    with execute(job, console.total, settings.flow) as execution:
        from lrpcli.compare.results import write_sheet_of_all

        def announce(count: int) -> None:
            if count > LARGE:
                smaller = "--overlay-size and --picture-format"
                console.announce(expected_size(count, execution.sizes(), settings.folder, smaller))

        # No other comparison works here until the sheet of all is written.
        with Interrupts() as interrupts, ExitStack() as held, console:
            run = execution.run
            with closing(run.records(sources, execution.workers, interrupts.stop, held, announce)) as records:
                console.show_all(records, fail_fast=settings.flow.fail_fast)
            if not console.left and settings.sheet.per_page:
                sheets, ended = write_sheet_of_all(run, sources)
                console.say_sheets(sheets, ended, len(sources))


def _settings(folder: Path, values: dict[str, Any], policy: DecodePolicy) -> CompareRunSettings:
    """CompareRunSettings from the options' values."""
    flow = from_options(FlowSettings, values)
    comparison = from_options(CompareSettings, values)
    return from_options(
        CompareRunSettings,
        values,
        folder=folder,
        models=tuple(model_settings(name, values, quiet=values["quiet"]) for name in comparison.models),
        compare=comparison,
        sheet=from_options(SheetSettings, values, picture=from_options(PictureStyle, values)),
        decode=policy,
        flow=replace(flow, jobs=flow.jobs or usable_cpus()),
    )
