"""`lrp explain`: options to settings, rows to stdout."""

import os
from pathlib import Path
from typing import Any

import click

from lrpcli.cli.inputs import decode_policy, find_sources, input_options
from lrpcli.cli.options import colour_scale, grouped, model_options, model_settings, overlay_side, verbosity
from lrpcli.errors import UsageError

DEFAULT_MODEL = "caffenet-small"

explanation_options = grouped(
    click.option("--config", metavar="NAME|FILE", help="Rules for every layer, see 'lrp configs list'."),
    click.option("--lrn", metavar="RULE", help="Rule of every LRN layer, whatever the config says."),
    click.option("--target", "targets", metavar="CLASS", multiple=True,
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
    click.option("--alpha", default=0.9, show_default=True, type=click.FloatRange(0, 1), metavar="0..1",
                 help="Opacity of the strongest relevance."),
    click.option("--smooth", default=1.0, show_default=True, type=click.FloatRange(0, 50), metavar="PERCENT",
                 help="Blur of the picture, not of the map: sigma in per cent of the map's longer side."),
    click.option("--scale", default="image", show_default=True, metavar="image|run|VALUE",
                 help="Relevance that gets the full colour: of each image, one for all, or a number."),
)  # fmt: skip
run_options = grouped(
    click.option("--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps."),
    click.option("-b", "--batch-size", type=click.IntRange(min=1), metavar="N",
                 help="Images at once.  [default: 16; 64 on a GPU]"),
    click.option("-j", "--jobs", type=click.IntRange(min=1), metavar="N",
                 help="Images read and written at once.  [default: the usable CPUs]"),
    click.option("--json", "as_json", is_flag=True, help="One JSON object per image on stdout, and a summary last."),
    click.option("--print0", is_flag=True, help="Paths on stdout end with NUL."),
    verbosity,
)  # fmt: skip


@click.command()
@click.argument("paths", nargs=-1, metavar="INPUT... OUTPUT", type=click.Path())
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    metavar="NAME|FILE",
    help="A named model ('lrp models list') or a .caffemodel, .caffemodel.h5 or .safetensors file.",
)
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
    from lrpcli.cli.report import Reporter
    from lrpcli.pipeline.run import prepare_run

    names = ("as_json", "print0", "quiet")
    reporter = Reporter(len(sources), output, skipped, **{name: values.pop(name) for name in names})
    run = prepare_run(_settings(output, values)) if sources else None
    with reporter:
        for row in run.rows(sources) if run else ():
            reporter.show(row)
    if reporter.failed:
        click.get_current_context().exit(1)


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


def _settings(output: Path, values: dict[str, Any]) -> Any:
    """RunSettings from the options' values."""
    from lrpcli.lrp.explainer import DEFAULT_CONFIG
    from lrpcli.output.picture import PictureStyle
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
    explanation = {key: values.pop(key) for key in ("config", "lrn", "start", "targets", "precision")}
    return RunSettings(
        model,
        ExplainSettings(**{**explanation, "config": explanation["config"] or DEFAULT_CONFIG}),
        files,
        decode_policy(values),
        values.pop("device"),
        values.pop("batch_size"),
        values.pop("jobs") or len(os.sched_getaffinity(0)),
    )
