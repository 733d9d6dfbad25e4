"""`lrp explain`: options to settings, rows to stdout."""

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from lrpcli.cli.inputs import decode_policy, find_sources, input_options
from lrpcli.cli.options import (
    Finite,
    Texts,
    colour_scale,
    grouped,
    model_option,
    model_options,
    model_settings,
    overlay_side,
    verbosity,
)
from lrpcli.cli.settings import Configurable, settings_options, usable_cpus
from lrpcli.cli.signals import Interrupts
from lrpcli.errors import UsageError
from lrpcli.lrp.composites.default import DEFAULT_CONFIG

explanation_options = grouped(
    click.option("--config", default=DEFAULT_CONFIG, show_default=True, metavar="NAME|FILE",
                 help="Rules for every layer, see 'lrp configs list'."),
    click.option("--lrn", metavar="RULE", help="Rule of every LRN layer, whatever the config says."),
    click.option("--target", "targets", metavar="CLASS", multiple=True, type=Texts(),
                 help="What to explain: top, topK such as top3, an index, a label, or from-folder. Indices and labels "
                 "can be given several times, for one map each.  [default: the predicted class]"),
    click.option("--start", metavar="START", help="Relevance to start from: logit, one, probability, softmax-gradient, "
                 "contrastive or contrastive-positive.  [default: the config's, logit]"),
    click.option("--precision", default="float32", show_default=True, metavar="TYPE", help="float32 or float64."),
)  # fmt: skip
output_options = grouped(
    click.option("-o", "--output", metavar="OUTPUT", type=click.Path(),
                 help="Output folder; then all arguments are inputs."),
    click.option("--save", default="overlay,map", show_default=True, metavar="KINDS",
                 help="Any of overlay, heatmap, map, layers, separated by commas; or none."),
    click.option("--map-space", default="model", show_default=True, metavar="SPACE",
                 help="Pixels of the map: model (the net's input grid) or image (the photo)."),
    click.option("--channels", default="sum", show_default=True, metavar="sum|keep", help="Map (h, w) or (3, h, w)."),
    click.option("--dtype", default="float32", show_default=True, metavar="TYPE", help="float32 or float16."),
    click.option("--overlay-size", default="512", show_default=True, metavar="PIXELS|model",
                 help="Longest side of a picture at most."),
    click.option("--style", default="overlay", show_default=True, metavar="STYLE",
                 help="overlay, heatmap, side-by-side or contour."),
    click.option("--cmap", default="bwr", show_default=True, metavar="NAME", help="Diverging matplotlib colour map."),
    click.option("--alpha", default=0.9, show_default=True, type=Finite(0, 1), metavar="0..1",
                 help="Opacity of the strongest relevance."),
    click.option("--smooth", default=1.0, show_default=True, type=Finite(0, 50), metavar="PERCENT",
                 help="Blur of the picture, not of the map: sigma in per cent of the map's longer side."),
    click.option("--scale", default="image", show_default=True, metavar="image|run|VALUE",
                 help="Relevance that gets the full colour: of each image, one for all, or a number."),
)  # fmt: skip
run_options = grouped(
    click.option("--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps."),
    click.option("-b", "--batch-size", type=click.IntRange(1, 4096), metavar="N",
                 help="Images at once.  [default: 16; 64 on a GPU]"),
    click.option("-j", "--jobs", type=click.IntRange(1, 1024), metavar="N",
                 help="Images read and written at once.  [default: the usable CPUs]"),
    click.option("--timeout", default=60.0, show_default=True, type=Finite(0, 86400), metavar="SECONDS",
                 help="Give up an image that takes longer to decode; 0 for never."),
    click.option("--force", is_flag=True, help="Compute everything anew, whatever OUTPUT holds."),
    click.option("--fail-fast", is_flag=True, help="Stop at the first image that fails."),
    click.option("--shard", default="1/1", show_default=True, metavar="I/N|auto",
                 help="Explain every N-th image only, beginning with the I-th; auto asks torchrun's, SLURM's or "
                 "Kubernetes' variables."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object per image on stdout, and a summary last."),
    click.option("--print0", is_flag=True, help="Paths on stdout end with NUL."),
    settings_options,
    verbosity,
)  # fmt: skip


@click.command(cls=Configurable)
@click.argument("paths", nargs=-1, metavar="INPUT... OUTPUT", type=click.Path())
@model_option
@model_options
@explanation_options
@input_options
@output_options
@run_options
def explain(paths: tuple[str, ...], **values: Any) -> None:
    """Explain every image: an overlay PNG and a relevance map (.npy) each.

    INPUT is an image, a folder (searched to any depth) or - for one image on stdin; OUTPUT is a folder, in which the
    inputs' tree is mirrored: cats/a.jpg becomes cats/a.jpg.png and cats/a.jpg.npy. The path of each overlay is printed
    as soon as it is written.
    """
    inputs, output = _divided(paths, values.pop("output"), bool(values["files_from"]))
    sources, skipped = find_sources(inputs, output, values)
    from lrpcli.cli.console import Reporter
    from lrpcli.pipeline.shard import parse_part

    part = parse_part(values.pop("shard"), os.environ)
    flow = {name: values.pop(name) for name in ("force", "fail_fast", "timeout")}
    flags = {name: values.pop(name) for name in ("as_json", "print0", "quiet")}
    reporter = Reporter(len(part.share(sources)), output, skipped, **flags)
    if sources:
        _explain(sources, reporter, part, output, values, **flow)
    else:
        with reporter:
            pass
    if reporter.failed:
        click.get_current_context().exit(1)


def _explain(
    sources: Any, reporter: Any, part: Any, output: Path, values: dict[str, Any],
    *, force: bool, fail_fast: bool, timeout: float,
) -> None:  # fmt: skip
    """Explains the part's images and reports each. Raises LrpError, Interrupted or BrokenPipeError."""
    from lrpcli.pipeline.workers import Workers

    jobs = values.pop("jobs") or usable_cpus()
    # The processes that decode get ready while torch is imported and the model loaded.
    with Workers(max(1, min(jobs, reporter.total)), timeout or None) as workers:
        from lrpcli.lrp.batch_limit import keep_freed_memory
        from lrpcli.pipeline.run import prepare_run

        keep_freed_memory()
        run = prepare_run(_settings(output, values, jobs))
        with Interrupts() as interrupts, reporter:
            rows = run.rows(sources, workers, part=part, force=force, stop=interrupts.stop)
            with closing(rows):
                for row in rows:
                    reporter.show(row)
                    if fail_fast and reporter.failed:
                        break


def _divided(paths: tuple[str, ...], output: str | None, listed: bool) -> tuple[tuple[str, ...], Path]:
    """Inputs and output among the arguments."""
    if output is None:
        if not paths:
            raise UsageError("No output folder is given. Name it last, or with -o.")
        paths, output = paths[:-1], paths[-1]
    if not paths and not listed:
        raise UsageError(f"Only one path is given, {output!r}. Name at least one input and then the output folder.")
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"The output {output!r} is a file. Name a folder; it is made if it does not exist.")
    return paths, folder


def _settings(output: Path, values: dict[str, Any], jobs: int) -> Any:
    """RunSettings from the options' values."""
    from lrpcli.pictures.picture import PictureStyle
    from lrpcli.pipeline.settings import ExplainSettings, OutputSettings, RunSettings

    model = model_settings(values.pop("model"), values)
    picture = PictureStyle(**{key: values.pop(key) for key in ("style", "cmap", "alpha", "smooth")})
    save = tuple(kind.strip() for kind in values.pop("save").split(","))
    files = OutputSettings(
        output,
        () if save == ("none",) else save,
        **{key: values.pop(key) for key in ("map_space", "channels", "dtype")},
        overlay_size=overlay_side(values.pop("overlay_size")),
        picture=picture,
        scale=colour_scale(values.pop("scale")),
    )
    return RunSettings(
        model,
        ExplainSettings(**{key: values.pop(key) for key in ("config", "lrn", "start", "targets", "precision")}),
        files,
        decode_policy(values),
        values.pop("device"),
        values.pop("batch_size"),
        jobs,
    )
