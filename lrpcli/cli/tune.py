"""`lrp tune`: options to settings, the report to stdout."""

from collections.abc import Sequence
from contextlib import closing
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
from lrpcli.evaluation.settings import EvaluationSettings, PerturbationSettings
from lrpcli.images.formats import DecodePolicy
from lrpcli.pipeline.settings import FlowSettings, ModelSettings, PreprocessingSettings
from lrpcli.scale.devices import usable_cpus
from lrpcli.setting import settings_of
from lrpcli.tuning.settings import SearchSettings, TuningRunSettings

if TYPE_CHECKING:
    from lrpcli.images.find import Source

OWN = ("configs", "lrn", "controls", "measures", "all_measures")
"""Settings of an evaluation that a search chooses itself."""


@click.command(cls=Configurable)
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=FilledPath())
@click.option("-o", "--out", metavar="OUTPUT", type=FilledPath(), required=True, help="Folder for the results.")
@model_option
@options_of_settings(SearchSettings)
@options_of_settings(PerturbationSettings, but=("order", "seed"))
@model_options
@input_options
@options_of_settings(EvaluationSettings, but=OWN)
@options_of_settings(FlowSettings, but=("shard",))
@click.option("--json", "as_json", is_flag=True, help="The results as one JSON object on stdout.")
@settings_options
@verbosity
def tune(inputs: tuple[str, ...], out: str, **values: Any) -> None:
    """Search the config that explains this net best on these images.

    Candidates have a lower rule (epsilon, gamma, alpha-beta) up to a part of the net's depth and a relative epsilon
    above; they differ in the first layer's rule, the LRN rule and the start. All built-in configs are tried too. Many
    are compared on few images, the best ones on more: guards first (MoRF < random < LeRF, class, kept share), then
    ABPC. Half of the images are held out, and say what is gained over the default. OUTPUT gets tuned.toml, a config;
    table.csv and tune.json have the search that led to it.
    """
    say_loading(values["name"], quiet=values["quiet"])
    folder = require_folder(out)
    if not inputs and values["files_from"] is None:
        raise UsageError("No input is given. Name images or folders.")
    policy = from_options(DecodePolicy, values)
    sources, _ = find_sources(inputs, folder, from_options(InputSettings, values), policy, unique_names=False)
    from lrpcli.images.sources import choose_images

    settings = _settings(folder, values, policy)
    if not sources:
        note("0 images: the list is empty.")
        return
    chosen = choose_images(sources, settings.search.images, settings.search.seed)
    if _tune(chosen, settings, from_options(ConsoleSettings, values, quiet=values["quiet"])):
        click.get_current_context().exit(1)


def _tune(sources: "Sequence[Source]", settings: TuningRunSettings, said: ConsoleSettings) -> int:
    """Reads the images, tunes and writes the results; how many images failed."""
    from lrpcli.cli.tuning_console import TuningConsole
    from lrpcli.scale import Job
    from lrpcli.scale.inline import execute
    from lrpcli.tuning.files import require_room, try_to_write, write_files
    from lrpcli.tuning.photos import Photo, require_enough
    from lrpcli.tuning.report import report
    from lrpcli.tuning.run import Stopped

    require_enough(len(sources))
    require_room(settings.folder, force=settings.flow.force)
    job = Job("lrpcli.tuning.run:prepare_run", (settings,))
    with execute(job, len(sources), settings.flow) as execution:
        try_to_write(settings.folder)
        run, console = execution.run, TuningConsole(len(sources), settings.folder, "", said)
        with Interrupts() as interrupts, console:
            with closing(run.photos(sources, execution.workers, interrupts.stop)) as records:
                read = list(console.passing(records, fail_fast=settings.flow.fail_fast))
            failed = [record for record in read if record.failure is not None]
            if interrupts.stop.is_set() or (failed and settings.flow.fail_fast):
                return len(failed)
            photos = [record for record in read if isinstance(record, Photo)]
            try:
                tuned = run.tune(photos, interrupts.stop, console.passed)
            except Stopped:
                return len(failed)
            console.results = write_files(run, tuned, failed)
            console.report = report(tuned, settings.folder, _model_options(click.get_current_context()))
    return len(failed)


def _model_options(context: click.Context) -> list[str]:
    """The options that say which model it is, as they were given."""
    names = {item.name for kind in (ModelSettings, PreprocessingSettings) for item, _ in settings_of(kind)}
    words = []
    for option in context.command.params:
        value = context.params.get(option.name or "")
        if option.name in names and value is not None and value != option.default:
            words += [option.opts[0], ",".join(map(str, value)) if isinstance(value, tuple) else str(value)]
    return words


def _settings(folder: Path, values: dict[str, Any], policy: DecodePolicy) -> TuningRunSettings:
    """TuningRunSettings from the options' values."""
    perturbation = from_options(PerturbationSettings, values)
    flow = from_options(FlowSettings, values)
    return TuningRunSettings(
        folder,
        model_settings(values["name"], values, quiet=values["quiet"]),
        from_options(SearchSettings, values),
        from_options(EvaluationSettings, values, perturbation=perturbation, decode=policy),
        replace(flow, jobs=flow.jobs or usable_cpus()),
    )
