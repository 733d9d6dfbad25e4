"""Each measure on images, through the evaluator, against the library used by hand."""

import json

import numpy as np
import pytest
import torch

import lrpcli
from lrpcli.errors import UsageError
from lrpcli.evaluation.classes import ClassFolders
from lrpcli.evaluation.evaluator import Evaluator
from lrpcli.evaluation.imputation import imputed
from lrpcli.evaluation.localisation import Boxes
from lrpcli.evaluation.map_metrics import gini, histogram_entropy, positive_shares, rank_correlations
from lrpcli.evaluation.measurement import Measurement
from lrpcli.evaluation.measures import Allowed, choose_measures
from lrpcli.evaluation.metrics import METRICS, VALUES
from lrpcli.evaluation.perturbation import road_noise
from lrpcli.evaluation.randomised import with_reset_last_layer, with_reset_parameters
from lrpcli.evaluation.settings import MEASURES, EvaluationSettings, PerturbationSettings
from lrpcli.images.find import Discovery
from lrpcli.records.json_values import Fields, json_line
from tests.evaluation.measuring import measure
from tests.photos import TINY, photo

EVERYTHING = {name for names in VALUES.values() for name in names} - set(VALUES["ground-truth"])
"""What is measured where there are no masks."""


@pytest.fixture(scope="module")
def model():
    return lrpcli.load_model(TINY, input_shape=(3, 32, 32), preprocessing={"mean": (104, 117, 123)})


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Three images of each of the classes 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(9):
        photo(folder / str(2 + number % 3 * 2) / f"{number}.png", number)
    return list(Discovery([str(folder)]))


def evaluator(model, sources, *configs, measures=(), controls=(), **others):
    settings = EvaluationSettings(
        configs or ("epsilon",), (), controls or ("none",), PerturbationSettings(region=8, steps=4),
        precision="float64", measures=measures, **others,
    )  # fmt: skip
    return Evaluator(model, settings, None, ClassFolders.of(sources, {str(n): n for n in range(10)}, 0))


def explained(model, config, x, target, start="one"):
    return lrpcli.Explainer(model, config, start=start, dtype=torch.float64)(x, target=target)


def cosine(left, right):
    return float((left * right).sum() / left.norm() / right.norm())


@pytest.fixture
def signed(tmp_path):
    """A net half of whose logits are negative, and a config whose start is no multiple of `one`."""
    torch.manual_seed(1)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, stride=2), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(1350, 10)
    ).eval()
    with torch.no_grad():
        net[3].bias -= 3  # so that every logit is negative, that of the predicted class too
    path = tmp_path / "gradient-start.toml"
    path.write_text('start = "softmax-gradient"\n[kind]\nlinear = { rule = "epsilon", epsilon = 0.01 }\n')
    return lrpcli.load_model(net, input_shape=(3, 32, 32)), str(path)


def test_class_is_the_cosine_of_maps_that_start_from_one(model, sources, signed):
    net, odd = signed
    for tested, configs in ((model, ("epsilon", "beta-1")), (net, ("epsilon", odd))):
        whole = evaluator(tested, sources, *configs, measures=("class", "kept"))
        found = measure(whole, sources[:3])
        for source, measured in zip(sources, found, strict=False):
            x = whole.as_input([whole.preparation(source)])
            logits = lrpcli.Explainer(tested, "epsilon", dtype=torch.float64).predict(x)[0]
            first, second = logits.argsort(descending=True)[:2].tolist()
            assert measured.target == first
            for method, config in zip(whole.methods, configs, strict=True):
                one, two = (explained(tested, config, x, number).relevance[0].sum(0) for number in (first, second))
                values = measured.values[method.name]
                assert values["class_second"] == pytest.approx(cosine(one, two), abs=1e-9)
                assert values["class_second_abs"] == pytest.approx(cosine(one.abs(), two.abs()), abs=1e-9)
                others = [
                    cosine(one, explained(tested, config, x, number).relevance[0].sum(0))
                    for number in range(10)
                    if number != first
                ]
                assert min(abs(other - values["class_random"]) for other in others) < 1e-9


def test_a_map_that_does_not_depend_on_class_or_net_is_found_out(model, sources):
    measures = ("class", "randomise", "kept")
    tested = evaluator(model, sources, "epsilon", controls=("edges", "gradient"), measures=measures)
    for measured in measure(tested, sources[:2]):
        edges = measured.values["edges"]
        for name in VALUES["class"]:
            assert edges[name] == pytest.approx(1) and measured.values["epsilon"][name] < 0.999
        assert edges["entropy"] == pytest.approx(0, abs=1e-9) and edges["last_layer"] == pytest.approx(1)
        assert abs(measured.values["epsilon"]["entropy"]) > 1e-3 and measured.values["epsilon"]["last_layer"] < 0.999
        assert edges["kept"] is edges["wrong_sign"] is measured.values["gradient-norm"]["kept"] is None


def test_kept_is_what_arrives_of_the_start(model, sources, signed):
    net, odd = signed
    for tested, config in ((model, "epsilon"), (model, "beta-1"), (net, "epsilon")):
        whole = evaluator(tested, sources, config, measures=("kept",))
        for source, measured in zip(sources, measure(whole, sources[:3]), strict=False):
            result = explained(tested, config, whole.as_input([whole.preparation(source)]), measured.target, "logit")
            share = float(result.conservation["input"] / result.start)
            assert measured.values[config] == pytest.approx({"kept": share, "wrong_sign": float(share < 0)}, rel=1e-9)
    (measured,) = measure(evaluator(net, sources, odd, measures=("kept",)), sources[:1])
    assert measured.values[odd]["kept"] is None or abs(measured.values[odd]["kept"]) > 0  # its start sums to nothing


def test_focus_explains_the_class_of_the_folder_on_a_mosaic(model, sources):
    whole = evaluator(model, sources, "epsilon", "beta-1", measures=("focus",))
    for source, measured in zip(sources, measure(whole, sources, at_once=4), strict=True):
        mosaic = whole.preparation(source).mosaic
        assert mosaic.target == int(source.path.split("/")[-2])
        x = torch.from_numpy(mosaic.pixels)[None]
        for config in ("epsilon", "beta-1"):
            scores = explained(model, config, x, mosaic.target, "logit").relevance.sum(1)
            expected = float(positive_shares(scores, torch.tensor([mosaic.cells])))
            assert measured.values[config]["focus"] == pytest.approx(expected, rel=1e-9)


def test_randomise_compares_with_reset_models(model, sources):
    whole = evaluator(model, sources, "epsilon", measures=("randomise", "complexity"))
    everything, last = with_reset_parameters(model, 0), with_reset_last_layer(model, 0)
    for source, measured in zip(sources, measure(whole, sources[:3]), strict=False):
        x = whole.as_input([whole.preparation(source)])
        own, reset, near = (
            explained(one, "epsilon", x, measured.target, "logit").relevance.sum(1) for one in (model, everything, last)
        )
        values = measured.values["epsilon"]
        before, after = float(histogram_entropy(own)), float(histogram_entropy(reset))
        assert values["entropy"] == pytest.approx((after - before) / before, abs=1e-9)
        assert values["last_layer"] == pytest.approx(float(rank_correlations(own, near)), abs=1e-9)
        assert values["gini"] == pytest.approx(float(gini(own)), rel=1e-9)


def test_road_solves_anew_after_every_step(model, sources):
    settings = EvaluationSettings(
        ("epsilon",), (), ("random",), PerturbationSettings(region=8, steps=5, fill="road", order="morf"),
        precision="float64", measures=("perturbation",),
    )  # fmt: skip
    whole = Evaluator(model, settings)
    (measured,) = measure(whole, sources[:1])
    x = whole.as_input([whole.preparation(sources[0])])
    explainer = lrpcli.Explainer(model, "epsilon", dtype=torch.float64)
    relevance = explainer(x).relevance[0].sum(0)
    sums = relevance.view(4, 8, 4, 8).sum((1, 3)).flatten()
    low, high = model.pixel_range
    noise, removed = road_noise(x, low, high, 0, 0), torch.zeros(1, 32, 32, dtype=torch.bool)
    expected = [float(explainer.predict(x).softmax(1)[0, measured.target])]
    for region in sums.argsort(descending=True)[:5].tolist():
        row, column = divmod(region, 4)
        removed[:, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = True
        filled = low + (high - low) * imputed((x - low) / (high - low), removed)
        image = torch.where(removed, filled + noise, x)
        expected.append(float(explainer.predict(image).softmax(1)[0, measured.target]))
    np.testing.assert_allclose(measured.curves["epsilon"]["morf"], expected, rtol=0, atol=1e-9)


def test_values_depend_neither_on_the_batch_nor_on_the_neighbours(model, sources):
    whole = evaluator(model, sources, "epsilon", "beta-1", controls=("edges",), all_measures=True)
    usual = measure(whole, sources, at_once=4)
    other = measure(whole, sources[::-1], at_once=1)[::-1]
    for one, two in zip(usual, other, strict=True):
        assert set(one.values["epsilon"]) == EVERYTHING
        for method, values in one.values.items():
            assert two.values[method] == pytest.approx(values, abs=1e-9)


def test_measures_share_their_passes(model, sources, monkeypatch):
    """For each image one forward pass and three maps for `class`, of which one is that of all others."""
    calls = {"explained": 0, "maps": 0, "predicted": 0}
    explain, predict = lrpcli.Explainer.__call__, lrpcli.Explainer.predict

    def counted(self, x, target=None, **others):
        calls["explained"] += len(x)
        calls["maps"] += target.numel()
        return explain(self, x, target, **others)

    def counted_predict(self, x):
        calls["predicted"] += len(x)
        return predict(self, x)

    monkeypatch.setattr(lrpcli.Explainer, "__call__", counted)
    monkeypatch.setattr(lrpcli.Explainer, "predict", counted_predict)
    whole = evaluator(model, sources, "epsilon", "beta-1", controls=("random", "edges"), all_measures=True)
    measure(whole, sources[:2])
    perturbed = (3 * 2 + 1) * 4
    assert calls == {"explained": 2 * 2 * 4, "maps": 2 * 2 * 6, "predicted": 2 * (1 + perturbed)}
    assert whole.passes_per_image == 1 + perturbed + 2 * 5


def test_without_perturbation_there_are_values_alone(model, sources):
    whole = evaluator(model, sources, "epsilon", controls=("random",), measures=("complexity",))
    assert [method.name for method in whole.methods] == ["epsilon"] and whole.passes_per_image == 1
    (measured,) = measure(whole, sources[:1])
    x = whole.as_input([whole.preparation(sources[0])])
    score = float(lrpcli.Explainer(model, "epsilon", dtype=torch.float64).predict(x).softmax(1).max())
    assert measured.curves == {} and measured.score == pytest.approx(score)
    assert measured.as_shown()["methods"]["epsilon"]["gini"] > 0
    again = Measurement.from_json(Fields(json.loads(json_line(measured.as_json()))))
    assert again.score == measured.score and again.values == measured.values
    assert whole.fits(again, sources[0].path)


def test_results_that_lack_a_value_are_measured_anew(model, sources):
    whole = evaluator(model, sources, "epsilon", measures=("focus", "complexity"))
    (measured,) = measure(whole, sources[:1])
    assert whole.fits(measured, sources[0].path)
    assert not whole.fits(measured, sources[0].path.replace("/2/", "/4/"))  # another class
    del measured.values["epsilon"]["gini"]
    assert not whole.fits(measured, sources[0].path)


def test_a_net_of_one_output_has_no_other_class(sources):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 1)).eval()
    single = lrpcli.load_model(net, input_shape=(3, 32, 32))
    whole = evaluator(single, sources, measures=("class", "complexity"))
    (measured,) = measure(whole, sources[:1])
    assert {measured.values["epsilon"][name] for name in VALUES["class"]} == {None}


NOTHING, ALL = Allowed(False, False, 1), Allowed(True, True, 10, masks=True)


def test_the_measures_where_none_is_named():
    usual = ("perturbation", "kept", "complexity")
    assert choose_measures(EvaluationSettings(), Allowed(False, True, 10)) == (usual, ())
    objects = ("localisation", "ground-truth")
    assert choose_measures(EvaluationSettings(), ALL)[0] == ("perturbation", *objects, "kept", "complexity")
    named = EvaluationSettings(measures=("focus", "class"))
    assert choose_measures(named, ALL)[0] == (*objects, "class", "focus")


def test_all_takes_what_is_possible_and_says_what_is_not():
    chosen, left_out = choose_measures(EvaluationSettings(all_measures=True), NOTHING)
    assert chosen == ("perturbation", "kept", "randomise", "complexity")
    assert [sentence.split()[2] for sentence in left_out] == ["localisation", "ground-truth", "class", "focus"]
    assert all(sentence.endswith("it is left out.") for sentence in left_out)
    assert choose_measures(EvaluationSettings(all_measures=True), ALL) == (MEASURES, ())


@pytest.mark.parametrize(
    ("measure", "message"),
    [
        ("localisation", "The measure localisation needs the boxes of objects, --boxes FILE"),
        ("ground-truth", "The measure ground-truth needs pictures that mark the objects, --masks DIR"),
        ("focus", "The measure focus needs images in folders named after classes"),
        ("class", "The measure class needs a model with more than one output"),
    ],
)
def test_a_measure_that_is_named_and_cannot_be_taken(measure, message):
    with pytest.raises(UsageError, match=message):
        choose_measures(EvaluationSettings(measures=(measure,)), NOTHING)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"measures": ("clas",)}, "--measure 'clas' is not known. Did you mean 'class'"),
        ({"measures": ("class", "class")}, "--measure class is given twice"),
        ({"measures": ("class",), "all_measures": True}, "--all takes every measure"),
    ],
)
def test_measures_that_cannot_be_chosen(settings, message):
    with pytest.raises(UsageError, match=message):
        EvaluationSettings(**settings)


def test_boxes_are_measured_without_perturbation(model, sources):
    name = sources[0].path.rpartition("/")[2]
    settings = EvaluationSettings(("epsilon",), (), ("none",), measures=("localisation",))
    whole = Evaluator(model, settings, Boxes({name: [(name, (0, 0, 24, 40))]}, ""))
    (measured,) = measure(whole, sources[:1])
    assert measured.metrics("epsilon")["share"] is not None and measured.metrics("epsilon")["auc"] is None
    assert whole.fits(measured, sources[0].path)
    assert set(measured.metrics("epsilon")) == set(METRICS)
