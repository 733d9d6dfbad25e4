"""The files of an evaluation: results.json, results.csv, curves.png and strip.png."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lrpcli.evaluation.evaluator import Evaluator
from lrpcli.evaluation.filmstrip import strip_picture
from lrpcli.evaluation.measurement import METRICS
from lrpcli.evaluation.plots import curves_picture
from lrpcli.evaluation.summary import Summary
from lrpcli.images.find import Source
from lrpcli.records.store import write_whole

COLUMNS = ("input", "config", "lrn", "control", "target", "label", "score", *METRICS, "box_area")


def write_results(
    output: Path, evaluator: Evaluator, description: dict[str, Any], summary: Summary, measured: Sequence[Source]
) -> dict[str, Any]:
    """Writes all four and gives the content of results.json; `measured` are the images in the summary's order.

    OutputError if the folder cannot be written.
    """
    results = {"settings": description, **summary.results()}
    write_whole(output / "results.json", json.dumps(results, indent=1).encode() + b"\n")
    write_whole(output / "results.csv", csv_bytes(summary))
    write_whole(output / "curves.png", curves_picture(results))
    strip = strip_picture(evaluator, measured)
    if strip is not None:
        write_whole(output / "strip.png", strip)
    return results


def csv_bytes(summary: Summary) -> bytes:
    """A row per image and method; empty where something was not measured."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    for image, metrics in zip(summary.images, summary.metrics, strict=True):
        for method in summary.methods:
            numbers = [metrics[method.name][metric] for metric in METRICS]
            name = method.name if method.control else method.config
            table.writerow(
                [image.input, name, method.lrn, int(method.control), image.target, image.label, image.score, *numbers,
                 image.area]
            )  # fmt: skip
    return text.getvalue().encode("utf-8", "surrogateescape")
