"""Metrics stand in one table, and one that is new there is in the table, in JSON and in CSV."""

import csv
import json

from lrpcli.evaluation.metrics import MAIN, METRICS, PERTURBATION, Metric, Observed
from tests.photos import folder_of_photos
from tests.resilience.runs import TINY_OPTIONS, lrp


def test_a_new_metric_needs_one_line(tmp_path, monkeypatch):
    def first_score(observed: Observed) -> float:
        return float(next(iter(observed.curves.values()))[0])

    monkeypatch.setitem(METRICS, "first", Metric("first", "First", PERTURBATION, "higher", first_score))
    source, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    result = lrp("evaluate", *TINY_OPTIONS, "--region", "8", "--steps", "5", source, "-o", out)
    assert result.exit_code == 0, result.output
    heading = next(line for line in result.stdout.splitlines() if "ABPC" in line and "better" not in line)
    assert heading.split().index("First") == 4
    assert "AOPC, LeRF, ABPC and First: higher is better." in " ".join(result.stdout.split())
    methods = json.loads((out / "results.json").read_text())["methods"]
    assert all(method["metrics"]["first"]["mean"] > 0 for method in methods)
    with (out / "results.csv").open(newline="") as file:
        assert all(float(row["first"]) > 0 for row in csv.DictReader(file))


def test_every_metric_says_which_way_is_better():
    assert {metric.better for metric in METRICS.values()} == {"lower", "higher", ""}  # empty: a guard
    assert all(METRICS[name].better for names in MAIN.values() for name in names)
    assert all(metric.name == name and metric.heading for name, metric in METRICS.items())
