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
from lrpcli.cli.settings import Configurable, settings_options
from lrpcli.cli.signals import Interrupts
from lrpcli.cli.terminal import note
from lrpcli.errors import UsageError
from lrpcli.evaluation.settings import EvaluationRunSettings, EvaluationSettings, PerturbationSettings
from lrpcli.images.formats import DecodePolicy
from lrpcli.pipeline.settings import FlowSettings
from lrpcli.scale import INLINE, Assignment, EngineSettings, Job, find_executor
from lrpcli.scale.devices import usable_cpus

if TYPE_CHECKING:
    from lrpcli.evaluation.masks import Masks
    from lrpcli.images.find import Source


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
@options_of_settings(EngineSettings)
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
    from lrpcli.cli.console import warner
    from lrpcli.images.sources import by_path, choose_images
    from lrpcli.pipeline.shard import parse_shard
    from lrpcli.records.description import EVALUATE_FILES

    settings = _settings(folder, values, policy)
    shard = parse_shard(settings.flow.shard, os.environ)
    if not sources:
        note("0 images: the list is empty.")
        return
    chosen = choose_images(sources, settings.images, settings.evaluation.perturbation.seed)
    masks = _masks(settings, chosen)
    if values["base"] is None:
        chosen = by_path(chosen)
    said = from_options(ConsoleSettings, values, quiet=values["quiet"])
    engine = from_options(EngineSettings, values)
    engine.require_rows(chosen)
    job = Job("lrpcli.evaluation.run:prepare_run", (settings, chosen, shard, masks))
    read = "lrpcli.evaluation.finished:read_finished"
    warn = warner(quiet=said.quiet)
    assignment = Assignment(job, read, chosen, shard, settings.folder, EVALUATE_FILES, settings.flow, engine, warn)
    failed = (_evaluate if engine.engine == INLINE else _evaluate_rows)(assignment, said)
    if failed:
        click.get_current_context().exit(1)


def _masks(settings: EvaluationRunSettings, sources: "Sequence[Source]") -> "Masks | None":
    """The masks of the images, as long as these have their names below the INPUTs."""
    if settings.masks is None:
        return None
    from lrpcli.evaluation.masks import find_masks

    return find_masks(settings.masks, sources, settings.evaluation.decode)


def _evaluate(assignment: Assignment, said: ConsoleSettings) -> int:
    """Measures the shard's images in this process, shows each, and then the results; how many images failed."""
    from lrpcli.scale.inline import execute

    sources, share, flow = assignment.sources, assignment.share, assignment.flow
    with execute(assignment.job, len(share), flow) as execution:
        from lrpcli.cli.evaluation_console import EvaluationConsole
        from lrpcli.evaluation.results import Collected

        passes = execution.run.evaluator.passes_per_image
        console = EvaluationConsole(len(share), assignment.disk, "", said, passes=passes)
        run = execution.run.reporting(console.passed)
        collected = Collected(run)
        # No other evaluation works here until the results are written.
        with Interrupts() as interrupts, ExitStack() as held, console:
            with closing(run.records(sources, execution.workers, interrupts.stop, held)) as records:
                whole = len(share) == len(sources)
                console.show_all(collected.passing(records) if whole else records, fail_fast=flow.fail_fast)
            ended = collected.ended if whole else collected.add_ended(sources)
            if ended == len(sources):
                console.results = collected.write(execution.workers)
            elif not console.left:
                console.await_shards(ended, len(sources))
    return console.failed


def _evaluate_rows(assignment: Assignment, said: ConsoleSettings) -> int:
    """The same where other processes measure, one of which writes the results; this one loads no net."""
    from lrpcli.cli.evaluation_console import EvaluationConsole
    from lrpcli.evaluation.finished import RESULT_FILES, read_results

    sources, share = assignment.sources, assignment.share
    with find_executor(assignment.engine.engine)(assignment) as execution:
        passes = 1 if execution.is_finished else execution.ask("lrpcli.evaluation.run:passes_per_image")
        console = EvaluationConsole(len(share), assignment.disk, "", said, passes=passes)
        with Interrupts() as interrupts, ExitStack() as held, console:
            with closing(execution.records(interrupts.stop, held=held)) as records:
                console.show_all(console.passing(records), fail_fast=assignment.flow.fail_fast)
            if execution.is_finished:
                console.results = read_results(assignment.disk)
            elif not console.left:
                whole = len(share) == len(sources)
                console.results, ended = execution.ask("lrpcli.evaluation.results:write_results", sources, whole)
                if console.results is not None and not console.failed:
                    execution.note_done([name for name in RESULT_FILES if (assignment.disk / name).exists()])
                elif console.results is None and not whole:
                    console.await_shards(ended, len(sources))
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
