"""Means, intervals and the printed table."""

import json

import numpy as np
import pytest
from matplotlib.axes import Axes

from lrpcli.evaluation.measurement import Measurement
from lrpcli.evaluation.methods import Method
from lrpcli.evaluation.plots import curves_picture
from lrpcli.evaluation.summary import Results, Summary, paired_intervals
from lrpcli.evaluation.table import results_table
from lrpcli.records.json_values import Fields, json_line

METHODS = (
    Method("a/taylor", "a", "taylor"), Method("a/identity", "a", "identity"),
    Method("b/taylor", "b", "taylor"), Method("b/identity", "b", "identity"), Method("random", control=True),
)  # fmt: skip
SETTINGS = {"steps": 2, "region": 9, "fill": "noise", "score": "softmax"}


def measured(name, aucs, random=0.5, localisation=None):
    """An image whose MoRF curves have these AUCs, its LeRF curves 0.2 more."""
    curves = {
        method.name: {
            order: np.array([1.0, 0.75, 3 * (auc + more) - 1.75]) for order, more in (("morf", 0.0), ("lerf", 0.2))
        }
        for method, auc in zip(METHODS, aucs, strict=False)
    }
    curves["random"] = {"random": np.array([1.0, 0.75, 3 * random - 1.75])}
    return Measurement(
        input=name, name=name, target=0, label="cat", curves=curves, area=0.25 if localisation else None,
        localisation=localisation or {},
    )  # fmt: skip


def summary(images):
    result = Summary(METHODS)
    for image in images:
        result.add(image)
    return result


def test_a_known_difference_lies_in_its_interval():
    generator = np.random.default_rng(1)
    images = 400
    differences = np.stack([generator.normal(0.02, 0.1, images), generator.normal(0, 0.1, images)], 1)
    low, high = paired_intervals(differences)
    assert low[0] < 0.02 < high[0] and low[1] < 0 < high[1]
    for column in range(2):  # what the central limit theorem says
        mean, error = differences[:, column].mean(), differences[:, column].std(ddof=1) / images**0.5
        assert low[column] == pytest.approx(mean - 1.96 * error, abs=0.1 * error)
        assert high[column] == pytest.approx(mean + 1.96 * error, abs=0.1 * error)


def test_intervals_cover_as_often_as_they_say():
    generator = np.random.default_rng(0)
    low, high = paired_intervals(generator.normal(0.3, 1, (60, 500)))  # 500 studies of 60 images
    assert 0.90 < ((low < 0.3) & (high > 0.3)).mean() < 0.98


def test_intervals_are_the_same_whatever_stands_beside_them():
    values = np.random.default_rng(0).normal(size=(30, 3))
    values[:5, 1] = np.nan
    low, high = paired_intervals(values)
    for column in range(3):
        kept = values[np.isfinite(values[:, column]), column][:, None]
        one_low, one_high = paired_intervals(kept)
        assert one_low[0] == pytest.approx(low[column]) and one_high[0] == pytest.approx(high[column])
    assert not np.allclose(paired_intervals(values, seed=1)[0], low)


def test_too_few_images_have_no_interval():
    low, high = paired_intervals(np.array([[1.0, np.nan], [np.nan, np.nan]]))
    assert np.isnan([low, high]).all()
    assert np.isnan(paired_intervals(np.empty((0, 2)))).all()
    assert np.isnan(paired_intervals(np.full((19, 1), 0.25))).all()
    low, high = paired_intervals(np.full((20, 1), 0.25))
    assert low[0] == high[0] == 0.25
    scattered = np.full((25, 2), 0.25)
    scattered[:6, 1] = np.nan
    low, high = paired_intervals(scattered)
    assert low[0] == 0.25 and np.isnan([low[1], high[1]]).all()


@pytest.mark.parametrize("count", [1, 2, 19, 20])
def test_fewer_than_twenty_images_are_said_to_bear_no_interval(count):
    images = [measured(f"{n}", (0.4 + n / 100, 0.5, 0.3, 0.2), random=0.6) for n in range(count)]
    results: Results = {"settings": SETTINGS, **summary(images).results()}
    rows = [*(row["difference"] for row in results["methods"]), *results["lrn"]]
    ends = {row["auc"][end] is None for row in rows for end in ("low", "high")}
    table = results_table(results, 120)
    if count == 20:
        assert ends == {False} and results["warnings"] == [] and "[95 %]" in table and "with 95 % interval" in table
    else:
        noun = "image" if count == 1 else "images"
        warning = f"{count} {noun} measured: too few for intervals, which need 20."
        assert ends == {True} and results["warnings"] == [warning]
        assert warning in table and "95 %" not in table and "[" not in table


@pytest.mark.parametrize("count", [19, 20])
def test_curves_of_fewer_than_twenty_images_have_no_band(count, monkeypatch):
    bands = []
    monkeypatch.setattr(Axes, "fill_between", lambda *arguments, **keywords: bands.append(arguments))
    images = [measured(f"{n}", (0.4 + n / 100, 0.5, 0.3, 0.2), random=0.6) for n in range(count)]
    curves_picture({"settings": SETTINGS, **summary(images).results()})
    assert bool(bands) == (count == 20)


def test_too_few_boxes_are_said_too():
    inside = dict.fromkeys(("a/taylor", "a/identity", "b/taylor", "b/identity"), (True, 0.5))
    images = [measured(f"{n}", (0.4,) * 4, localisation=inside if n < 3 else None) for n in range(25)]
    results: Results = {"settings": SETTINGS, **summary(images).results()}
    assert results["warnings"] == ["3 images with boxes: too few for intervals, which need 20."]
    assert results["methods"][1]["difference"]["share"] == {"mean": 0.0, "low": None, "high": None}
    assert results["methods"][1]["difference"]["auc"]["low"] is not None


def test_means_and_differences():
    first = [measured(f"{n}", (0.4 + n / 100, 0.45 + n / 100, 0.3, 0.3), random=0.6) for n in range(20)]
    results = summary(first).results()
    assert results["images"] == 20 and results["score"] == 1.0 and results["images_with_boxes"] == 0
    one, two, three, _, random = results["methods"]
    assert one["metrics"]["auc"]["mean"] == pytest.approx(0.495)
    assert one["metrics"]["aopc"]["mean"] == pytest.approx(0.505)
    assert one["metrics"]["lerf_auc"]["mean"] == pytest.approx(0.695)
    assert one["metrics"]["abpc"]["mean"] == pytest.approx(0.2)
    assert one["metrics"]["auc"]["standard_error"] == pytest.approx(np.std(np.arange(20) / 100, ddof=1) / 20**0.5)
    assert random["metrics"]["abpc"] is None and one["metrics"]["share"] is None
    assert one["difference"]["auc"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    for key in ("mean", "low", "high"):
        assert two["difference"]["auc"][key] == pytest.approx(0.05)
    assert three["difference"]["auc"]["low"] < -0.195 < three["difference"]["auc"]["high"] < 0
    assert results["lrn"][0]["config"] == "a" and results["lrn"][1]["config"] == "b"
    assert results["lrn"][0]["auc"]["mean"] == pytest.approx(0.05)
    assert results["lrn"][1]["auc"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert one["curves"]["morf"]["mean"] == pytest.approx([1, 0.75, 3 * 0.495 - 1.75])
    errors = np.std([3 * (0.4 + n / 100) for n in range(20)], ddof=1) / 20**0.5
    assert one["curves"]["morf"]["standard_error"] == pytest.approx([0, 0, errors])


def test_images_without_boxes_do_not_count_for_localisation():
    inside = {"a/taylor": (True, 0.75), "a/identity": (False, None), "b/taylor": (True, 0.5), "b/identity": (True, 0.5)}
    results = summary([measured("x", (0.4,) * 4, localisation=inside), measured("y", (0.4,) * 4)]).results()
    assert results["images_with_boxes"] == 1 and results["box_area"] == 0.25
    one, two, *_, random = results["methods"]
    assert one["metrics"]["pointing"]["mean"] == 1.0 and one["metrics"]["share"]["mean"] == 0.75
    assert two["metrics"]["pointing"]["mean"] == 0.0 and two["metrics"]["share"] is None
    assert random["metrics"]["pointing"] is None
    text = results_table({"settings": SETTINGS, **results}, 120)
    assert "1 image with boxes, which cover 0.250" in text and "inside less the first's" in text


def test_the_journal_keeps_everything():
    before = measured("x", (0.4, 0.5, 0.123456789, 0.3), localisation={"a/taylor": (True, None)})
    after = Measurement.from_json(Fields(json.loads(json_line(before.as_json()))))
    assert after.metrics("a/taylor") == pytest.approx(before.metrics("a/taylor"))
    assert after.localisation == before.localisation and after.area == before.area and after.label == "cat"
    np.testing.assert_array_equal(after.curves["b/taylor"]["lerf"], before.curves["b/taylor"]["lerf"])


@pytest.mark.parametrize("damage", [
    lambda row: row.update(curves={}), lambda row: row.update(curves=[1]), lambda row: row["curves"].update(random=3),
    lambda row: row.update(localisation=None), lambda row: row.update(target="cat"), lambda row: row.pop("label"),
    lambda row: row["curves"]["a/taylor"].update(morf=["x"]), lambda row: row["curves"]["a/taylor"].update(morf=[]),
    lambda row: row.update(area="wide"), lambda row: row.update(size=-1.5), lambda row: row.update(seconds=[]),
    lambda row: row.update(error=5), lambda row: row["localisation"].update({"a/taylor": [1]}),
    lambda row: row["curves"]["a/taylor"].update(morf=[float("nan")] * 3),
])  # fmt: skip
def test_a_damaged_line_is_a_value_error(damage):
    row = json.loads(json_line(measured("x", (0.4,) * 4, localisation={"a/taylor": (True, None)}).as_json()))
    Measurement.from_json(Fields(row))
    damage(row)
    with pytest.raises(ValueError):
        Measurement.from_json(Fields(row))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_fits_the_terminal(width):
    results = summary([measured(f"{n}", (0.4, 0.5 + n / 100, 0.3, 0.2)) for n in range(25)]).results()
    lines = results_table({"settings": SETTINGS, **results}, width).splitlines()
    numbers = [line for line in lines if "[" in line and "less" not in line]
    assert len(numbers) == 3 + 2 and all(("/" in line or "random" in line) == (width > 40) for line in numbers[:3])
    if width == 80:
        assert all(len(line) <= 80 for line in numbers)
    assert "ABPC of an LRN rule less that of taylor, with 95 % interval" in lines
