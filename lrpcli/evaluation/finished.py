"""What can be known of a finished evaluation without its net."""

import json
from pathlib import Path
from typing import cast

from lrpcli.evaluation.measurement import Measurement
from lrpcli.evaluation.settings import EvaluationRunSettings
from lrpcli.evaluation.summary import Results
from lrpcli.pipeline.finished import NetFacts
from lrpcli.records.description import RunDescription
from lrpcli.records.json_values import Fields

RESULT_FILES = ("results.json", "results.csv", "profile.png", "curves.png", "strip.png")
"""What an evaluation makes of all images, as far as its measures have it."""


def read_results(folder: Path) -> Results:
    """The results as they were written; the file is known to be as it was."""
    return cast(Results, json.loads((folder / RESULT_FILES[0]).read_bytes()))


def read_finished(
    fields: Fields, settings: EvaluationRunSettings, description: RunDescription, facts: NetFacts
) -> Measurement | None:
    """The record in a journal's line if it has a whole curve of every method, see Evaluator.fits.

    None where only the net can say. ValueError if the line is damaged.
    """
    measurement, described = Measurement.from_json(fields), Fields(dict(description.settings))
    methods = {method.text("name") for method in described.objects("methods")}
    lengths = {len(curve) for orders in measurement.curves.values() for curve in orders.values()}
    perturbs = "perturbation" in described.items("measures")
    whole = (
        facts.have(measurement.target)
        and (set(measurement.curves) == methods if perturbs else measurement.first is not None)
        and lengths <= {described.whole("steps") + 1}
    )
    return measurement if whole else None
