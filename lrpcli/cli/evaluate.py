"""`lrp evaluate`: options to settings, results to stdout."""

import shutil
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import click

from lrpcli.cli.inputs import decode_policy, find_sources, input_options
from lrpcli.cli.options import Texts, grouped, model_option, model_options, model_settings, verbosity
from lrpcli.cli.settings import Configurable, settings_options
from lrpcli.errors import UsageError
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from lrpcli.records.text import printable

method_options = grouped(
    click.option("--config", "configs", metavar="NAME|FILE", multiple=True, type=Texts(), default=(DEFAULT_CONFIG,),
                 show_default=True,
                 help="A config to measure; can be given several times, and the first is what the others are compared "
                 "to."),
    click.option("--lrn", metavar="RULE", multiple=True, type=Texts(),
                 help="Measure every config with this rule in its LRN layers; can be given several times.  [default: "
                 "each config's own]"),
    click.option("--control", "controls", metavar="NAME", multiple=True, type=Texts(),
                 help="What to compare the configs to: random, gradient, gradient-times-input, or none; can be given "
                 "several times.  [default: random]"),
)  # fmt: skip
perturbation_options = grouped(
    click.option("--region", type=click.IntRange(min=1), metavar="PIXELS",
                 help="Side of a region on the model's grid.  [default: 9 at 227, and in proportion]"),
    click.option("--steps", type=click.IntRange(min=1), default=100, show_default=True, metavar="N",
                 help="Regions that are replaced, one after the other."),
    click.option("--order", default="both", show_default=True, metavar="morf|lerf|both",
                 help="Most relevant first, least relevant first, or both, which takes twice as long."),
    click.option("--fill", default="noise", show_default=True, metavar="noise|mean|blur",
                 help="What replaces a region: uniform noise, the image's mean colour, or the blurred image."),
    click.option("--score", default="softmax", show_default=True, metavar="softmax|logit",
                 help="What is recorded of the predicted class."),
    click.option("--repeats", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
                 help="Draw noise and random orders so many times and average."),
    click.option("--seed", default=0, show_default=True, metavar="N", help="Of noise, random orders and --images."),
    click.option("--images", type=click.IntRange(min=1), metavar="N",
                 help="Measure N of the images, drawn at random.  [default: all]"),
    click.option("--boxes", metavar="FILE", type=click.Path(),
                 help="CSV with the columns file, x1, y1, x2, y2 in pixels of the photo: measures localisation too."),
)  # fmt: skip


@click.command(cls=Configurable)
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=click.Path())
@click.option("-o", "--output", metavar="OUTPUT", type=click.Path(), required=True, help="Folder for the results.")
@model_option
@method_options
@perturbation_options
@model_options
@input_options
@click.option("--device", default="auto", show_default=True, metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps.")
@click.option(
    "-b", "--batch-size", type=click.IntRange(min=1), metavar="N",
    help="Perturbed images at once.  [default: as many as make 16 at 224 x 224; 128 on a GPU]",
)  # fmt: skip
@click.option("--precision", default="float32", show_default=True, metavar="TYPE", help="float32 or float64.")
@click.option("--force", is_flag=True, help="Start anew where OUTPUT holds an evaluation with other settings.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per image on stdout, and the results last.")
@settings_options
@verbosity
def evaluate(inputs: tuple[str, ...], output: str, **values: Any) -> None:
    """Measure how well configs find what the net looks at.

    The regions of each image that a config calls relevant are replaced one by one, and the score of the predicted
    class is recorded: the faster it falls, the better the config (AUC, AOPC). The table is printed; OUTPUT gets
    results.json, results.csv, curves.png and strip.png. A stopped evaluation goes on when it is started again.
    """
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"The output {output!r} is a file. Name a folder; it is made if it does not exist.")
    if not inputs and values["files_from"] is None:
        raise UsageError("No input is given. Name images or folders.")
    sources, _ = find_sources(inputs, folder, values, unique_names=False)
    if not sources:
        click.echo("0 images: the list is empty.", err=True)
        return
    from lrpcli.evaluation.run import choose_images

    sources = choose_images(sources, values.pop("images"), values["seed"])
    flags = {name: values.pop(name) for name in ("as_json", "quiet")}
    failed = _evaluate(sources, folder, values, **flags)
    if failed:
        click.get_current_context().exit(1)


def _evaluate(sources: list[Any], output: Path, values: dict[str, Any], *, as_json: bool, quiet: bool) -> int:
    """Runs and reports; how many images failed."""
    from lrpcli.evaluation.evaluator import Evaluator
    from lrpcli.evaluation.localisation import read_boxes
    from lrpcli.evaluation.measurement import Measured
    from lrpcli.evaluation.results import write_results
    from lrpcli.evaluation.run import Record, describe, failed_row, image_row, run
    from lrpcli.evaluation.summary import Summary
    from lrpcli.lrp.batch_limit import keep_freed_memory
    from lrpcli.models import load_model

    keep_freed_memory()
    file, force = values.pop("boxes"), values.pop("force")
    boxes = read_boxes(file) if file else None
    if boxes:
        boxes.require_any((source.path for source in sources), file)
    chosen = model_settings(values.pop("model"), values)
    settings = _settings(values)
    evaluator = Evaluator(load_model(chosen.name, **chosen.keywords()), settings, boxes)
    description = describe(evaluator)
    record = Record(output, description, force=force)
    summary, measured = Summary(evaluator.methods, settings.perturbation.seed), []
    with _Reporter(len(sources), evaluator.passes_per_image, as_json=as_json, quiet=quiet) as reporter:
        for source, answer, skipped in run(evaluator, sources, record, reporter.passed):
            if isinstance(answer, Measured):
                summary.add(answer)
                measured.append(source)
                reporter.show(image_row(answer, skipped=skipped))
            else:
                reporter.show(failed_row(source, answer))
    results = write_results(output, evaluator, description, summary, measured) if measured else None
    reporter.finish(results, output)
    return reporter.statuses["failed"]


def _settings(values: dict[str, Any]) -> Any:
    """EvaluationSettings from the options' values."""
    from lrpcli.evaluation.settings import EvaluationSettings, PerturbationSettings

    names = ("region", "steps", "order", "fill", "score", "repeats", "seed")
    perturbation = PerturbationSettings(**{name: values.pop(name) for name in names})
    controls = values.pop("controls") or ("random",)
    if "none" in controls and len(controls) > 1:
        raise UsageError("--control none stands alone; it cannot be given together with other controls.")
    return EvaluationSettings(
        values.pop("configs"),
        values.pop("lrn"),
        () if controls == ("none",) else controls,
        perturbation,
        decode_policy(values),
        values.pop("device"),
        values.pop("batch_size"),
        values.pop("precision"),
    )


class _Reporter:
    """Rows or a table on stdout; a bar that counts perturbed images, failures and a summary on stderr."""

    def __init__(self, images: int, passes: int, *, as_json: bool, quiet: bool) -> None:
        from tqdm import tqdm

        self.images, self.passes, self.as_json, self.quiet = images, passes, as_json, quiet
        self.statuses: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.computed = 0
        self.started = perf_counter()
        self.bar = tqdm(total=images * passes, unit=" passes", unit_scale=True, file=sys.stderr, dynamic_ncols=True,
                        disable=quiet or not sys.stderr.isatty())  # fmt: skip

    def __enter__(self) -> "_Reporter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.close()

    def passed(self, count: int) -> None:
        """So many images went through the net."""
        self.computed += count
        self.bar.update(count)

    def show(self, row: dict[str, Any]) -> None:
        """Tells of one image."""
        self.statuses[row["status"]] += 1
        if row["status"] == "failed":
            self.errors[row["error"]["kind"]] += 1
            self.bar.write(printable(f"{row['error']['kind']}: {row['error']['message']}"), file=sys.stderr)
        if row["status"] != "ok":
            self.bar.total -= self.passes
        self.bar.set_postfix_str(f"{sum(self.statuses.values())} of {self.images} images", refresh=False)
        if self.as_json:
            self._write(row)

    def finish(self, results: dict[str, Any] | None, output: Path) -> None:
        """The results on stdout, and a closing line on stderr."""
        from lrpcli.evaluation.table import results_table

        seconds = perf_counter() - self.started
        counts = {status: self.statuses[status] for status in ("ok", "skipped", "failed")}
        if self.as_json:
            totals = {"images": self.images, **counts, "errors": dict(sorted(self.errors.items()))}
            self._write({"type": "summary", **totals, "passes": self.computed, "seconds": round(seconds, 3),
                         "results": results})  # fmt: skip
        elif results is not None:
            click.echo(printable(results_table(results, shutil.get_terminal_size().columns)))
        if not self.quiet:
            failures = ", ".join(f"{count} {kind}" for kind, count in sorted(self.errors.items()))
            told = f"{counts['ok']} measured, {counts['skipped']} already done"
            told += f", {counts['failed']} failed ({failures})" if failures else ""
            folder = printable(str(output))
            images = f"{self.images} image" + ("" if self.images == 1 else "s")
            speed = f"{self.computed} passes in {seconds:.1f} s"
            click.echo(f"{images}: {told}; {speed}. See {folder}", err=True)

    def _write(self, row: dict[str, Any]) -> None:
        from lrpcli.records.journal import json_line

        click.echo(json_line(row))
