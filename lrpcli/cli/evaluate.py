"""`lrp evaluate`: options to settings, results to stdout."""

import os
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrpcli.cli.inputs import InputSettings, find_sources, input_options, require_folder
from lrpcli.cli.options import (
    ConsoleSettings,
    FilledPath,
    from_options,
    model_option,
    model_options,
    model_settings,
    options_of_settings,
    say_loading,
    verbosity,
)
from lrpcli.cli.settings import Configurable, settings_options, usable_cpus
from lrpcli.cli.signals import Interrupts
from lrpcli.cli.terminal import note
from lrpcli.errors import UsageError
from lrpcli.evaluation.settings import EvaluationRunSettings, EvaluationSettings, PerturbationSettings
from lrpcli.images.formats import DecodePolicy
from lrpcli.pipeline.settings import FlowSettings

if TYPE_CHECKING:
    from lrpcli.evaluation.masks import Masks
    from lrpcli.images.find import Source
    from lrpcli.pipeline.shard import Shard


@click.command(cls=Configurable)
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=FilledPath())
@click.option("-o", "--out", metavar="OUTPUT", type=FilledPath(), required=True, help="Folder for the results.")
@model_option
@options_of_settings(EvaluationSettings, but=("batch_size", "precision", "measures", "all_measures"))
@options_of_settings(EvaluationSettings, but=("configs", "lrn", "controls", "batch_size", "precision"))
@options_of_settings(PerturbationSettings)
@options_of_settings(EvaluationRunSettings)
@model_options
@input_options
@options_of_settings(EvaluationSettings, but=("configs", "lrn", "controls", "measures", "all_measures"))
@options_of_settings(FlowSettings)
@options_of_settings(ConsoleSettings, but=("print0",))
@settings_options
@verbosity
def evaluate(inputs: tuple[str, ...], out: str, **values: Any) -> None:
    """Measure how well configs find what the net looks at.

    The regions of each image that a config calls relevant are replaced one by one, and the score of the predicted
    class is recorded: the faster it falls, the better the config (perturbation: AUC, AOPC, ABPC). Other measures ask
    other questions, see --measure. The tables are printed; OUTPUT gets results.json, results.csv, profile.png,
    curves.png and strip.png. A stopped evaluation goes on when it is started again. With
    --shard, the shard that ends last writes the results.
    """
    say_loading(values["name"], quiet=values["quiet"])
    folder = require_folder(out)
    if not inputs and values["files_from"] is None:
        raise UsageError("No input is given. Name images or folders.")
    policy = from_options(DecodePolicy, values)
    sources, _ = find_sources(inputs, folder, from_options(InputSettings, values), policy, unique_names=False)
    from lrpcli.images.sources import by_path, choose_images
    from lrpcli.pipeline.shard import parse_shard

    settings = _settings(folder, values, policy)
    shard = parse_shard(settings.flow.shard, os.environ)
    if not sources:
        note("0 images: the list is empty.")
        return
    chosen = choose_images(sources, settings.images, settings.evaluation.perturbation.seed)
    masks = _masks(settings, chosen)
    if values["base"] is None:
        chosen = by_path(chosen)
    failed = _evaluate(chosen, shard, settings, masks, from_options(ConsoleSettings, values, quiet=values["quiet"]))
    if failed:
        click.get_current_context().exit(1)


def _masks(settings: EvaluationRunSettings, sources: "Sequence[Source]") -> "Masks | None":
    """The masks of the images, as long as these have their names below the INPUTs."""
    if settings.masks is None:
        return None
    from lrpcli.evaluation.masks import find_masks

    return find_masks(settings.masks, sources, settings.evaluation.decode)


def _evaluate(
    sources: "Sequence[Source]",
    shard: "Shard",
    settings: EvaluationRunSettings,
    masks: "Masks | None",
    said: ConsoleSettings,
) -> int:
    """Measures the shard's images, shows each, and then the results; how many images failed."""
    from lrpcli.scale import Job
    from lrpcli.scale.inline import execute

    share = shard.share(sources)
    job = Job("lrpcli.evaluation.run:prepare_run", (settings, sources, shard, masks))
    with execute(job, len(share), settings.flow) as execution:
        from lrpcli.cli.evaluation_console import EvaluationConsole
        from lrpcli.evaluation.results import Collected

        passes = execution.run.evaluator.passes_per_image
        console = EvaluationConsole(len(share), settings.folder, "", said, passes=passes)
        run = execution.run.reporting(console.passed)
        collected = Collected(run)
        # No other evaluation works here until the results are written.
        with Interrupts() as interrupts, ExitStack() as held, console:
            with closing(run.records(sources, execution.workers, interrupts.stop, held)) as records:
                whole = len(share) == len(sources)
                console.show_all(collected.passing(records) if whole else records, fail_fast=settings.flow.fail_fast)
            if not whole:
                collected.add_journaled(sources)
            if collected.ended == len(sources):
                console.results = collected.write(execution.workers)
            elif not console.left:
                console.unfinished = (
                    f"; {collected.ended} of all {len(sources)} images have ended, and the shard that ends last writes "
                    "the results"
                )
    return console.failed


def _settings(folder: Path, values: dict[str, Any], policy: DecodePolicy) -> EvaluationRunSettings:
    """EvaluationRunSettings from the options' values."""
    perturbation = from_options(PerturbationSettings, values)
    flow = from_options(FlowSettings, values)
    return from_options(
        EvaluationRunSettings,
        values,
        folder=folder,
        model=model_settings(values["name"], values, quiet=values["quiet"]),
        evaluation=from_options(EvaluationSettings, values, perturbation=perturbation, decode=policy),
        flow=replace(flow, jobs=flow.jobs or usable_cpus()),
    )
