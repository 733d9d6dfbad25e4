"""The scores of an image are what the model itself puts out: softmax, or one sigmoid per class."""

import numpy as np
import pytest
import torch
from torch import nn

import lrpcli
from lrpcli.evaluation.evaluator import Evaluator
from lrpcli.evaluation.settings import EvaluationSettings, PerturbationSettings
from lrpcli.images.find import Source
from lrpcli.pipeline.explain import Engine
from lrpcli.pipeline.targets import Targets
from tests.photos import photo

HEADS = [(4, nn.Sigmoid()), (1, nn.Sigmoid()), (4, nn.Softmax(1)), (4, nn.Hardsigmoid()), (4, nn.LogSoftmax(1))]


def loaded(outputs, head):
    torch.manual_seed(0)
    layer = nn.Linear(48, outputs)
    layer.bias.data.fill_(-0.5)  # more than one class with less than one half
    return lrpcli.load_model(nn.Sequential(nn.Flatten(), layer, head).eval(), input_shape=(3, 4, 4))


def prepared(model, folder):
    settings = EvaluationSettings(
        ("epsilon",), (), ("random",), PerturbationSettings(region=2, steps=2), precision="float64"
    )
    evaluator = Evaluator(model, settings)
    path = photo(folder / "a.png")
    return evaluator, evaluator.preparation(Source(str(path), "a.png"))


def output(model, item):
    with torch.no_grad():
        values = model.module(torch.from_numpy(item.pixels)[None])[0].double()
    return values.exp() if isinstance(model.module[2], nn.LogSoftmax) else values


@pytest.mark.parametrize(("outputs", "head"), HEADS)
def test_a_score_is_the_probability_that_the_model_puts_out(outputs, head, tmp_path):
    model = loaded(outputs, head)
    _, item = prepared(model, tmp_path)
    (answer,) = Engine(lrpcli.Explainer(model, device="cpu"), Targets(model))([item])
    expected = output(model, item)
    order = expected.argsort(descending=True).tolist()
    assert [index for index, _ in answer.top] == order
    assert [score for _, score in answer.top] == pytest.approx(expected[order].tolist(), rel=1e-5)
    (explanation,) = answer.explanations
    assert explanation.target == order[0]
    assert explanation.score == pytest.approx(float(expected[order[0]]), rel=1e-5)


@pytest.mark.parametrize(("outputs", "head"), HEADS)
def test_a_curve_begins_at_the_probability_that_the_model_puts_out(outputs, head, tmp_path):
    model = loaded(outputs, head)
    evaluator, item = prepared(model, tmp_path)
    (measured,) = evaluator([item], lambda passes: None)
    expected = output(model, item).max()
    for curve in measured.curves["epsilon"].values():
        assert np.asarray(curve)[0] == pytest.approx(float(expected), rel=1e-5)
