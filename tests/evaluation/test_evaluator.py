"""The measure on a tiny net against a plain loop that perturbs one region at a time."""

import numpy as np
import pytest
import torch

import lrpcli
from lrpcli.errors import DeviceError, ImageError, UsageError
from lrpcli.evaluation.evaluator import Evaluator
from lrpcli.evaluation.localisation import Boxes
from lrpcli.evaluation.perturbation import blur_fill, mean_fill, noise_fill, random_ranks
from lrpcli.evaluation.settings import EvaluationSettings, PerturbationSettings
from lrpcli.images.find import Discovery
from tests.evaluation.measuring import measure
from tests.photos import TINY, folder_of_photos
from tests.shared import shared

REGION = 5  # does not divide 32: the last regions are smaller


@pytest.fixture(scope="module")
def model():
    return lrpcli.load_model(TINY, input_shape=(3, 32, 32), preprocessing={"mean": (104, 117, 123)})


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return list(Discovery([str(folder_of_photos(tmp_path_factory.mktemp("photos"), 10))]))


def evaluator(
    model, *configs, lrn=(), controls=("random",), batch_size=None, boxes=None, precision="float64", **perturbation
):
    perturbation = {"region": REGION, "steps": 20, **perturbation}
    settings = EvaluationSettings(
        configs or ("epsilon",), lrn, controls, PerturbationSettings(**perturbation), batch_size=batch_size,
        precision=precision,
    )  # fmt: skip
    return Evaluator(model, settings, boxes)


def plain_curve(predict, x, relevance, fill, order, steps, score):
    """[S16] as it is written: sort the regions, replace one, run the net on one image, again and again."""
    corners = [(top, left) for top in range(0, 32, REGION) for left in range(0, 32, REGION)]

    def area(corner):
        return (..., slice(corner[0], corner[0] + REGION), slice(corner[1], corner[1] + REGION))

    if order != "random":
        sums = [float(relevance.double()[area(corner)].sum()) for corner in corners]
        sign = -1 if order == "morf" else 1
        places = sorted(range(len(corners)), key=lambda place: sign * sums[place])
    else:
        places = relevance

    def scored(image):
        logits = predict(image[None])[0]
        return logits.softmax(0) if score == "softmax" else logits

    target = int(scored(x).argmax())
    x, curve = x.clone(), [float(scored(x)[target])]
    for place in places[:steps]:
        x[area(corners[place])] = fill[area(corners[place])]
        curve.append(float(scored(x)[target]))
    return target, curve


def summed(result):
    return result.relevance[0].sum(0)


@pytest.mark.slow
@pytest.mark.parametrize("score", ["softmax", "logit"])
@pytest.mark.parametrize("fill", ["noise", "mean", "blur"])
def test_ten_images_equal_a_plain_loop(model, sources, fill, score):
    if fill != "noise":
        sources = sources[:3]
    found = measure(evaluator(model, "epsilon", "beta-1", fill=fill, score=score, steps=6, seed=3), sources, at_once=4)
    low, high = model.pixel_range
    explainers = {config: lrpcli.Explainer(model, config, dtype=torch.float64) for config in ("epsilon", "beta-1")}
    loader, predict = evaluator(model), explainers["epsilon"].predict
    for source, measured in zip(sources, found, strict=True):
        x = loader.as_input([loader.preparation(source)])[0]
        fills = {"noise": noise_fill(x[None], low, high, 3, 0), "mean": mean_fill(x[None]),
                 "blur": blur_fill(x[None], low, high)}[fill]  # fmt: skip
        for config, explainer in explainers.items():
            relevance = summed(explainer(x[None]))
            for order in ("morf", "lerf"):
                target, curve = plain_curve(predict, x, relevance, fills[0], order, 6, score)
                assert measured.target == target
                np.testing.assert_allclose(measured.curves[config][order], curve, rtol=1e-9, atol=1e-9)
        shuffled = random_ranks(x[None], 49, 3, 0)[0].argsort().tolist()
        _, curve = plain_curve(predict, x, shuffled, fills[0], "random", 6, score)
        np.testing.assert_allclose(measured.curves["random"]["random"], curve, rtol=1e-9, atol=1e-9)


def test_scores_depend_neither_on_the_batch_nor_on_the_neighbours(model, sources):
    sources = sources[:4]
    usual = measure(evaluator(model, "beta-1", steps=10), sources)
    for batch_size, at_once, order in ((1, 3, 1), (7, 1, 1), (64, 4, -1)):
        other = measure(evaluator(model, "beta-1", steps=10, batch_size=batch_size), sources[::order], at_once)[::order]
        for one, two in zip(usual, other, strict=True):
            assert one.input == two.input and one.target == two.target
            for method in ("beta-1", "random"):
                for name, curve in one.curves[method].items():
                    np.testing.assert_allclose(two.curves[method][name], curve, rtol=0, atol=1e-9)


def test_on_a_trained_net_float32_is_exact_enough(tmp_path):
    """The tiny net's random weights make logits of hundreds, which float32 rounds visibly; a real net's are small."""
    folder = shared("models")
    net = lrpcli.load_model(
        folder / "cifar10_full_iter_70000_v2format.caffemodel",
        prototxt=folder / "cifar10_full_v2.prototxt",
        preprocessing={"mean": (104, 117, 123)},
    )
    found = list(Discovery([str(folder_of_photos(tmp_path, 2))]))
    exact = measure(evaluator(net, "composite", steps=10), found)
    for batch_size in (3, None):
        rounded = measure(evaluator(net, "composite", steps=10, precision="float32", batch_size=batch_size), found)
        for one, two in zip(exact, rounded, strict=True):
            for method in ("composite", "random"):
                for name, curve in one.curves[method].items():
                    np.testing.assert_allclose(two.curves[method][name], curve, rtol=0, atol=1e-6)


def test_metrics_are_those_of_the_formulas(model, sources):
    (measured,) = measure(evaluator(model), sources[:1])
    morf, lerf = (measured.curves["epsilon"][order] for order in ("morf", "lerf"))
    assert len(morf) == len(lerf) == 21 and morf[0] == lerf[0] == measured.score
    metrics = measured.metrics("epsilon")
    assert metrics["auc"] == pytest.approx(sum(morf) / 21)
    assert metrics["aopc"] == pytest.approx(sum(morf[0] - value for value in morf) / 21)
    assert metrics["abpc"] == pytest.approx(sum(two - one for one, two in zip(morf, lerf, strict=True)) / 21)
    random = measured.metrics("random")
    assert random["auc"] == random["lerf_auc"] and random["abpc"] is None
    assert metrics["pointing"] is metrics["share"] is None


def test_one_order_alone(model, sources):
    for order, known, unknown in (("morf", "auc", "lerf_auc"), ("lerf", "lerf_auc", "auc")):
        (measured,) = measure(evaluator(model, order=order), sources[:1])
        assert list(measured.curves["epsilon"]) == [order]
        metrics = measured.metrics("epsilon")
        assert metrics[known] is not None and metrics[unknown] is None and metrics["abpc"] is None


def test_a_relevance_that_is_random_measures_as_the_random_control(model, sources, monkeypatch):
    def shuffled(self, place, x, target):
        return torch.rand(x[:, 0].shape, generator=torch.Generator().manual_seed(len(x)))

    monkeypatch.setattr("lrpcli.evaluation.methods.Maps.one", shuffled)
    found = measure(evaluator(model, repeats=4, order="morf", score="logit", precision="float32"), sources)
    means = {name: np.mean([item.metrics(name)["aopc"] for item in found]) for name in ("epsilon", "random")}
    spread = np.std([item.metrics("epsilon")["aopc"] - item.metrics("random")["aopc"] for item in found], ddof=1)
    assert abs(means["epsilon"] - means["random"]) < 3 * spread / len(found) ** 0.5


def test_the_net_itself_as_relevance_falls_fastest_first(model, sources, monkeypatch):
    """A map that knows what each region is worth by trying it: MoRF < random < LeRF."""

    def tried(self, place, x, target):
        values = torch.zeros(x[:, 0].shape)
        before = self.predict(x).gather(1, target[:, None])
        for top in range(0, 32, REGION):
            for left in range(0, 32, REGION):
                changed = x.clone()
                area = (slice(top, top + REGION), slice(left, left + REGION))
                changed[(..., *area)] = x.mean((2, 3))[..., None, None]
                values[(..., *area)] = before[:, :, None] - self.predict(changed).gather(1, target[:, None])[:, :, None]
        return values / REGION**2

    monkeypatch.setattr("lrpcli.evaluation.methods.Maps.one", tried)
    found = measure(evaluator(model, fill="mean", score="logit", repeats=2), sources[:5])
    morf, lerf, random = (
        np.mean([item.metrics(method)[metric] for item in found])
        for method, metric in (("epsilon", "auc"), ("epsilon", "lerf_auc"), ("random", "auc"))
    )
    assert morf < random < lerf


def test_repeats_average_over_noise(model, sources):
    several = measure(evaluator(model, repeats=3), sources[:1])[0]
    noisy = several.curves["epsilon"]["morf"]
    once = measure(evaluator(model, repeats=1), sources[:1])[0].curves["epsilon"]["morf"]
    assert not np.allclose(noisy, once) and noisy[0] == pytest.approx(once[0])
    assert evaluator(model, repeats=3).passes_per_image == 1 + (2 * 3 + 3) * 20
    assert evaluator(model, repeats=3, fill="mean").passes_per_image == 1 + (2 + 3) * 20


def test_controls(model, sources):
    found = measure(evaluator(model, controls=("gradient", "gradient-times-input"), steps=3), sources[:2])
    x = evaluator(model).as_input([evaluator(model).preparation(sources[0])])[0]
    low, high = model.pixel_range
    fill = noise_fill(x[None], low, high, 0, 0)[0]
    for name, config, score in (
        ("gradient-norm", "gradient", lambda result: result.relevance[0].square().sum(0).sqrt()),
        ("gradient-times-input", "gradient-times-input", summed),
    ):
        explainer = lrpcli.Explainer(model, config, dtype=torch.float64)
        relevance = score(explainer(x[None]))
        _, curve = plain_curve(explainer.predict, x, relevance, fill, "morf", 3, "softmax")
        np.testing.assert_allclose(found[0].curves[name]["morf"], curve, rtol=0, atol=1e-6)


def test_configs_under_lrn_rules_share_one_model(model):
    several = evaluator(model, "epsilon", "beta-1", lrn=("taylor", "identity"))
    assert [method.name for method in several.methods] == [
        "epsilon/taylor", "epsilon/identity", "beta-1/taylor", "beta-1/identity", "random"]  # fmt: skip
    rules = [{item.rule_name for item in explainer.assignments if item.layer.kind == "lrn"}
             for explainer in several.maps.explainers.values()]  # fmt: skip
    assert rules == [{"taylor"}, {"identity"}] * 2
    assert len({id(explainer.graph) for explainer in several.maps.explainers.values()}) == 1


def test_steps_end_with_the_regions(model):
    assert evaluator(model, steps=100).steps == 49
    assert evaluator(model, region=40).steps == 1
    assert evaluator(model, region=None).grid.size == 1


def test_images_are_taken_together_until_batches_are_full(model):
    assert evaluator(model, batch_size=4).images_at_once == 2  # 61 passes each
    assert evaluator(model, batch_size=4, steps=1).images_at_once == 4
    assert evaluator(model, batch_size=1, steps=49).images_at_once == 1
    assert evaluator(model).batch_size == 256


def test_a_map_that_is_not_finite_fails_alone(model, sources, monkeypatch):
    original = lrpcli.Explainer.__call__

    def odd(self, x, *arguments, **keywords):
        result = original(self, x, *arguments, **keywords)
        if self.composite.title == "beta-1":
            result.relevance[1].view(-1)[0] = float("nan")
        return result

    monkeypatch.setattr(lrpcli.Explainer, "__call__", odd)
    settings = EvaluationSettings(
        ("epsilon", "beta-1"), (), ("random",), PerturbationSettings(region=REGION, steps=2), precision="float64",
        all_measures=True,
    )  # fmt: skip
    tested = Evaluator(model, settings)
    first, second, third = tested([tested.preparation(source) for source in sources[:3]], lambda count: None)
    assert isinstance(second, ImageError) and second.kind == "compute" and "under beta-1" in str(second)
    monkeypatch.undo()
    for place, measured in ((0, first), (2, third)):
        (alone,) = measure(evaluator(model, "epsilon", "beta-1", steps=2), sources[place : place + 1])
        np.testing.assert_allclose(measured.curves["beta-1"]["morf"], alone.curves["beta-1"]["morf"], atol=1e-6)


def test_batches_too_large_for_the_memory_are_taken_in_parts(model, sources, monkeypatch):
    usual = measure(evaluator(model, steps=5), sources[:3])
    original, sizes = lrpcli.Explainer.predict, []

    def greedy(limit):
        def predict(self, x):
            sizes.append(len(x))
            if len(x) > limit:
                raise torch.OutOfMemoryError("out of memory")
            return original(self, x)

        return predict

    monkeypatch.setattr(lrpcli.Explainer, "predict", greedy(3))
    for one, two in zip(usual, measure(evaluator(model, steps=5), sources[:3]), strict=True):
        np.testing.assert_allclose(two.curves["epsilon"]["lerf"], one.curves["epsilon"]["lerf"], atol=1e-6)
    assert sizes.count(3) > 0 and sum(size > 3 for size in sizes) <= 7, "what was too large once is not tried again"
    monkeypatch.setattr(lrpcli.Explainer, "predict", greedy(0))
    with pytest.raises(DeviceError, match="too little memory even for one image"):
        measure(evaluator(model), sources[:1])


def test_boxes_are_measured_where_there_are_any(model, sources):
    name = sources[0].path.rpartition("/")[2]
    tested = evaluator(model, boxes=Boxes({name: [(name, (0, 0, 24, 40))]}, ""), steps=2)
    first, second = measure(tested, sources[:2])
    assert first.area == pytest.approx(0.5)  # photos are 48 x 40
    points, share = first.localisation["epsilon"]
    relevance = summed(
        lrpcli.Explainer(model, "epsilon")(torch.from_numpy(tested.preparation(sources[0]).pixels)[None])
    )
    positive = relevance.clamp(min=0).double()
    assert share == pytest.approx(float(positive[:, :16].sum() / positive.sum()), rel=1e-6)
    assert isinstance(points, bool) and first.metrics("epsilon")["pointing"] == float(points)
    assert "random" not in first.localisation and second.area is None and second.localisation == {}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"order": "mrof"}, "--order 'mrof' is not known. Did you mean 'morf'?"),
        ({"fill": "noize"}, "--fill 'noize' is not known. Did you mean 'noise'?"),
        ({"score": "soft"}, "--score 'soft' is not known."),
        ({"steps": 0}, "--steps must be at least 1, not 0."),
        ({"region": -1}, "--region must be at least 1, not -1."),
        ({"seed": -1}, "--seed must lie in 0..4294967295, not -1."),
        ({"seed": 2**64}, "--seed must lie in 0..4294967295"),
    ],
)
def test_settings_that_cannot_be_used(wrong, message):
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        PerturbationSettings(**wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"configs": ()}, "Name at least one with --config"),
        ({"configs": ("epsilon", "beta-1", "epsilon")}, "--config epsilon is given twice"),
        ({"configs": ("epsilon",), "lrn": ("taylor", "taylor")}, "--lrn taylor is given twice"),
        ({"configs": ("epsilon",), "controls": ("randon",)}, "Did you mean 'random'"),
    ],
)
def test_methods_that_cannot_be_compared(arguments, message):
    with pytest.raises(UsageError, match=message):
        EvaluationSettings(**arguments)


def test_a_config_and_a_control_of_one_name(model):
    with pytest.raises(UsageError, match="'gradient-times-input' is given as a config and as a control"):
        evaluator(model, "gradient-times-input", controls=("gradient-times-input",))
