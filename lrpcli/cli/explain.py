"""`lrp explain`: options to settings, records to stdout."""

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrpcli.cli.expected_size import LARGE, expected_size
from lrpcli.cli.inputs import InputSettings, find_sources, input_options, require_place
from lrpcli.cli.options import (
    ConsoleSettings,
    FilledPath,
    PlacePath,
    from_options,
    grouped,
    model_option,
    model_options,
    model_settings,
    options_of_settings,
    say_loading,
    verbosity,
)
from lrpcli.cli.records_table import require_table_file, write_table
from lrpcli.cli.settings import Configurable, settings_options
from lrpcli.cli.signals import Interrupts
from lrpcli.cli.terminal import note
from lrpcli.errors import UsageError
from lrpcli.images.formats import DecodePolicy
from lrpcli.paths import is_url
from lrpcli.pictures.style import PictureStyle
from lrpcli.pipeline.settings import ExplainSettings, FlowSettings, OutputSettings, RunSettings
from lrpcli.scale import INLINE, Assignment, EngineSettings, Job, find_executor
from lrpcli.scale.devices import usable_cpus

if TYPE_CHECKING:
    from lrpcli.cli.console import Console
    from lrpcli.images.find import Source
    from lrpcli.pipeline.shard import Shard
    from lrpcli.records.folder import RunFolder

output_options = grouped(
    click.option("-o", "--out", metavar="OUTPUT", type=PlacePath(),
                 help="Output folder; then all arguments are inputs."),
    options_of_settings(OutputSettings, but=("scale",)),
    options_of_settings(PictureStyle),
    options_of_settings(
        OutputSettings,
        but=("save", "map_space", "channels", "dtype", "overlay_size", "picture_format", "quality", "pack"),
    ),
)  # fmt: skip


USUAL_OUTPUT = "lrp-out"
"""Where the results of a single input go, if no folder is named."""


class _Explain(Configurable):
    """The command, which refuses a second --config rather than to take the last one in silence."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """UsageError if --config is given twice, except while a shell completes the line."""
        _, _, order = self.make_parser(context).parse_args(list(args))
        if sum(parameter.name == "config" for parameter in order) > 1 and not context.resilient_parsing:
            raise UsageError(
                "--config is given twice, but lrp explain makes maps of one config. Show several side by side with lrp "
                "compare, or measure which is better with lrp evaluate."
            )
        return super().parse_args(context, args)


@click.command(cls=_Explain)
@click.argument("paths", nargs=-1, metavar="INPUT... OUTPUT", type=PlacePath())
@model_option
@model_options
@options_of_settings(ExplainSettings)
@input_options
@output_options
@options_of_settings(RunSettings)
@options_of_settings(FlowSettings)
@options_of_settings(EngineSettings)
@click.option("--report", is_flag=True, help="Make a gallery at the end, OUTPUT/index.html; see lrp report.")
@options_of_settings(ConsoleSettings)
@click.option(
    "--csv",
    "table_file",
    metavar="FILE",
    type=FilledPath(),
    help="At the end, also write the table of OUTPUT that lrp table prints.",
)
@settings_options
@verbosity
def explain(paths: tuple[str, ...], **values: Any) -> None:
    """Explain every image: an overlay and a relevance map (.npy) each.

    INPUT is an image, a folder (searched to any depth) or - for one image on stdin; OUTPUT is a folder, in which the
    inputs' tree is mirrored: cats/a.jpg becomes cats/a.jpg.png and cats/a.jpg.npy. Both may be URLs, such as
    s3://bucket/photos. Without OUTPUT, the results of one INPUT go to lrp-out. The path of each overlay is printed as
    soon as it is written.
    """
    say_loading(values["name"], quiet=values["quiet"])
    require_table_file(values["table_file"])
    inputs, output = _divided(paths, values["out"], listed=values["files_from"] is not None, quiet=values["quiet"])
    policy = from_options(DecodePolicy, values)
    sources, skipped = find_sources(inputs, output, from_options(InputSettings, values), policy, urls=True)
    from lrpcli.cli.explain_console import ExplainConsole
    from lrpcli.pipeline.shard import parse_shard

    flow, engine = from_options(FlowSettings, values), from_options(EngineSettings, values)
    shard = parse_shard(flow.shard, os.environ)
    if values["report"]:
        _require_place_for_report(output)
    said = from_options(ConsoleSettings, values, quiet=values["quiet"])
    share = shard.share(sources)
    console = ExplainConsole(len(share), output, skipped, said, share)
    if sources:
        _explain(sources, console, shard, _settings(output, values, policy, flow), engine)
    else:
        with console:
            pass
    if values["table_file"] is not None and sources:
        from lrpcli.records.table import Records

        write_table(Records(output), Path(values["table_file"]))
    if values["report"]:
        _report(output, flow, quiet=values["quiet"])
    if console.failed:
        click.get_current_context().exit(1)


def _require_place_for_report(output: "RunFolder") -> None:
    """UsageError if the page cannot be put there, before anything is computed."""
    from lrpcli.report.run import require_own_page

    if not isinstance(output, Path):
        raise UsageError(
            f"--report makes a page in a folder of this machine, and {output.url!r} is a URL. Leave it out, copy the "
            "folder here afterwards, and use lrp report there."
        )
    require_own_page(output)


def _report(output: "RunFolder", flow: FlowSettings, *, quiet: bool) -> None:
    """Makes the gallery of what the folder holds now; none of a folder into which nothing was ever explained."""
    from lrpcli.cli.report import make_report
    from lrpcli.records.description import EXPLAIN_FILES
    from lrpcli.report.settings import ReportSettings

    if isinstance(output, Path) and EXPLAIN_FILES.journals_in(output):
        make_report(output, ReportSettings(jobs=flow.jobs), quiet=quiet)


def _explain(
    sources: "Sequence[Source]", console: "Console", shard: "Shard", settings: RunSettings, engine: EngineSettings
) -> None:
    """Explains the shard's images and shows each. Raises LrpError, Interrupted or BrokenPipeError."""
    from lrpcli.records.description import EXPLAIN_FILES

    engine.require_rows(sources, settings.output.scale, settings.folder)
    from lrpcli.remote import opened_inputs

    inputs = () if engine.engine == INLINE else opened_inputs(source.path for source in shard.share(sources))
    job = Job("lrpcli.pipeline.explain_run:prepare_run", (settings, shard), inputs)
    read = "lrpcli.pipeline.finished:read_finished"
    assignment = Assignment(
        job,
        read,
        sources,
        shard,
        settings.folder,
        EXPLAIN_FILES,
        settings.flow,
        engine,
        console.announce,
        settings.store(shard.name),
    )

    def announce(count: int) -> None:
        if count > LARGE or (count and settings.output.layers):
            console.announce(expected_size(count, execution.sizes(), settings.folder))

    with (
        find_executor(engine.engine)(assignment) as execution,
        Interrupts() as interrupts,
        console,
        closing(execution.records(interrupts.stop, announce)) as records,
    ):
        console.show_all(records, fail_fast=settings.flow.fail_fast)
        if not console.left and not console.failed:
            execution.note_done()


def _divided(
    paths: tuple[str, ...], output: str | None, *, listed: bool, quiet: bool
) -> "tuple[tuple[str, ...], RunFolder]":
    """Inputs and output among the arguments."""
    if output is None and not listed and len(paths) == 1 and _is_input(paths[0]):
        output = USUAL_OUTPUT
        if not quiet:
            note(f"No output folder is named; the results go to {output}.")
    elif output is None:
        if not paths:
            raise UsageError("No input is given. Name photos or folders, and then the output folder.")
        paths, output = paths[:-1], paths[-1]
    if not paths and not listed:
        raise UsageError(f"Only one path is given, {output!r}, and it does not exist. Name at least one input and then"
                         " the output folder.")  # fmt: skip
    return paths, require_place(output)


def _is_input(path: str) -> bool:
    return path == "-" or is_url(path) or os.path.lexists(path)


def _settings(output: "RunFolder", values: dict[str, Any], policy: DecodePolicy, flow: FlowSettings) -> RunSettings:
    """RunSettings from the options' values."""
    return from_options(
        RunSettings,
        values,
        folder=output,
        model=model_settings(values["name"], values, quiet=values["quiet"]),
        explain=from_options(ExplainSettings, values),
        output=from_options(OutputSettings, values, picture=from_options(PictureStyle, values)),
        decode=policy,
        flow=replace(flow, jobs=flow.jobs or usable_cpus()),
    )
