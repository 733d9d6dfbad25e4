"""`lrp explain`: options to settings, records to stdout."""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrpcli.cli.inputs import InputSettings, find_sources, input_options, require_folder
from lrpcli.cli.options import (
    ConsoleSettings,
    from_options,
    grouped,
    model_option,
    model_options,
    model_settings,
    options_of_settings,
    verbosity,
)
from lrpcli.cli.settings import Configurable, settings_options, usable_cpus
from lrpcli.cli.signals import Interrupts
from lrpcli.errors import UsageError
from lrpcli.images.formats import DecodePolicy
from lrpcli.pictures.style import PictureStyle
from lrpcli.pipeline.settings import ExplainSettings, FlowSettings, OutputSettings, RunSettings

if TYPE_CHECKING:
    from lrpcli.cli.console import Console
    from lrpcli.images.find import Source
    from lrpcli.pipeline.shard import Shard

output_options = grouped(
    click.option("-o", "--out", metavar="OUTPUT", type=click.Path(),
                 help="Output folder; then all arguments are inputs."),
    options_of_settings(OutputSettings, but=("scale",)),
    options_of_settings(PictureStyle),
    options_of_settings(OutputSettings, but=("save", "map_space", "channels", "dtype", "overlay_size")),
)  # fmt: skip


@click.command(cls=Configurable)
@click.argument("paths", nargs=-1, metavar="INPUT... OUTPUT", type=click.Path())
@model_option
@model_options
@options_of_settings(ExplainSettings)
@input_options
@output_options
@options_of_settings(RunSettings)
@options_of_settings(FlowSettings)
@options_of_settings(ConsoleSettings)
@settings_options
@verbosity
def explain(paths: tuple[str, ...], **values: Any) -> None:
    """Explain every image: an overlay PNG and a relevance map (.npy) each.

    INPUT is an image, a folder (searched to any depth) or - for one image on stdin; OUTPUT is a folder, in which the
    inputs' tree is mirrored: cats/a.jpg becomes cats/a.jpg.png and cats/a.jpg.npy. The path of each overlay is printed
    as soon as it is written.
    """
    inputs, output = _divided(paths, values["out"], bool(values["files_from"]))
    policy = from_options(DecodePolicy, values)
    sources, skipped = find_sources(inputs, output, from_options(InputSettings, values), policy)
    from lrpcli.cli.console import Console
    from lrpcli.pipeline.shard import parse_shard

    flow = from_options(FlowSettings, values)
    shard = parse_shard(flow.shard, os.environ)
    said = from_options(ConsoleSettings, values, quiet=values["quiet"])
    console = Console(len(shard.share(sources)), output, skipped, said)
    if sources:
        _explain(sources, console, shard, _settings(output, values, policy, flow))
    else:
        with console:
            pass
    if console.failed:
        click.get_current_context().exit(1)


def _explain(sources: "Sequence[Source]", console: "Console", shard: "Shard", settings: RunSettings) -> None:
    """Explains the shard's images and shows each. Raises LrpError, Interrupted or BrokenPipeError."""
    from lrpcli.scale import Job, find_executor

    job = Job("lrpcli.pipeline.explain_run:prepare_run", (settings, shard))
    with (
        find_executor()(job, console.total, settings.flow) as execution,
        Interrupts() as interrupts,
        console,
        closing(execution.records(sources, interrupts.stop)) as records,
    ):
        console.show_all(records, fail_fast=settings.flow.fail_fast)


def _divided(paths: tuple[str, ...], output: str | None, listed: bool) -> tuple[tuple[str, ...], Path]:
    """Inputs and output among the arguments."""
    if output is None:
        if not paths:
            raise UsageError("No output folder is given. Name it last, or with -o.")
        paths, output = paths[:-1], paths[-1]
    if not paths and not listed:
        raise UsageError(f"Only one path is given, {output!r}. Name at least one input and then the output folder.")
    return paths, require_folder(output)


def _settings(output: Path, values: dict[str, Any], policy: DecodePolicy, flow: FlowSettings) -> RunSettings:
    """RunSettings from the options' values."""
    return from_options(
        RunSettings,
        values,
        folder=output,
        model=model_settings(values["name"], values),
        explain=from_options(ExplainSettings, values),
        output=from_options(OutputSettings, values, picture=from_options(PictureStyle, values)),
        decode=policy,
        flow=replace(flow, jobs=flow.jobs or usable_cpus()),
    )
