"""Where relevance goes: what each layer absorbs, by the formula, and that nothing is unaccounted for."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import lrpcli
from lrpcli.cli import main
from lrpcli.pipeline.layer_flow import COLUMNS, LayerFlow, flow_csv, flow_of
from tests.library.nets import small_net
from tests.photos import TINY, photo

EPSILON = {"kind": {"linear": {"rule": "epsilon", "epsilon": 0.25}}}


def flow(net, x, config=EPSILON, start=None, target=0):
    explainer = lrpcli.Explainer(net, config=config, start=start, dtype=torch.float64)
    result = explainer(x, target, keep_layers=True)
    layers = {name: values[0].numpy() for name, values in result.layers.items()}
    absorbed = {name: float(values[0]) for name, values in result.absorbed.items()}
    return flow_of(explainer, result.relevance[0].numpy(), layers, absorbed, float(result.start[0])), result


def test_a_dense_layer_absorbs_its_bias_and_epsilon():
    """Sum over outputs of R (b + e) / (z + e), where e has the sign of z."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    x = torch.randn(1, 1, 2, 3, dtype=torch.float64)
    rows, result = flow(net, x)
    by_name = {row.name: row for row in rows}
    relevance = np.zeros(3)
    relevance[0] = float(result.logits[0, 0])
    hidden = net[:2](x)[0].detach().numpy()
    for layer, inputs in (("3", hidden.clip(0)), ("1", x.flatten().numpy())):
        weight, bias = (p.detach().numpy() for p in net[int(layer)].parameters())
        absorbed, passed = 0.0, np.zeros(len(inputs))
        for j in range(len(bias)):
            z = sum(weight[j, i] * inputs[i] for i in range(len(inputs))) + bias[j]
            stabiliser = 0.25 if z >= 0 else -0.25
            for i in range(len(inputs)):
                passed[i] += relevance[j] * weight[j, i] * inputs[i] / (z + stabiliser)
            absorbed += relevance[j] * (bias[j] + stabiliser) / (z + stabiliser)
        assert by_name[layer].total == pytest.approx(relevance.sum())
        assert by_name[layer].absorbed == pytest.approx(absorbed)
        assert by_name[layer].positive == pytest.approx(relevance.clip(min=0).sum())
        assert by_name[layer].negative == pytest.approx(relevance.clip(max=0).sum())
        relevance = passed
    assert by_name["input"].total == pytest.approx(relevance.sum())


@pytest.mark.parametrize("config", [EPSILON, "epsilon-plus", "composite", "epsilon"])
def test_nothing_is_unaccounted_for_where_layers_lie_beside_each_other(config):
    x = torch.rand(1, 3, 8, 8)
    rows, result = flow(small_net(), x, config)
    start = float(result.start[0])
    assert [row.name for row in rows if "conv" in row.name or row.name in ("fc", "input")] == [
        "fc", "conv2", "conv1", "input",
    ]  # fmt: skip
    assert start - sum(row.absorbed for row in rows) == pytest.approx(float(result.relevance.sum()), abs=1e-9)
    assert rows[-1].kept == pytest.approx(float(result.kept[0])) and rows[-1].name == "input"
    assert rows[-2].kept == pytest.approx(rows[-1].kept)
    totals = {row.name: row.total for row in rows}
    assert totals == pytest.approx({name: float(result.conservation[name][0]) for name in totals})


def test_what_only_hands_on_absorbs_nothing():
    rows, _ = flow(small_net(), torch.rand(1, 3, 8, 8))
    passing = [row for row in rows if row.kind in ("activation", "view", "concat", "max-pool")]
    assert passing and all(abs(row.absorbed) < 1e-12 for row in passing)


def test_starts_that_are_no_score_have_no_shares():
    explainer = lrpcli.Explainer(small_net(), config=EPSILON, start="contrastive")
    result = explainer(torch.rand(1, 3, 8, 8), keep_layers=True)
    layers = {name: values[0].numpy() for name, values in result.layers.items()}
    absorbed = {name: float(values[0]) for name, values in result.absorbed.items()}
    rows = flow_of(explainer, result.relevance[0].numpy(), layers, absorbed, None)
    assert all(row.kept is None for row in rows)
    assert float(result.layers["fc"].sum()) - sum(absorbed.values()) == pytest.approx(
        float(result.relevance.sum()), abs=1e-4
    )


def test_channels_are_sorted_by_their_positive_relevance():
    x = torch.rand(1, 3, 8, 8)
    rows, result = flow(small_net(), x)
    for row in rows:
        if row.name.startswith("conv"):
            sums = [float(plane.clamp(min=0).sum()) for plane in result.layers[row.name][0]]
            order = sorted(range(4), key=lambda channel: -sums[channel])
            assert [channel for channel, _ in row.channels] == [c for c in order if sums[c] > 0]
            assert [amount for _, amount in row.channels] == pytest.approx([sums[c] for c in order if sums[c] > 0])


class Tokens(nn.Module):
    """Patches as tokens (N, T, D): features come last, and behind a transpose nobody knows."""

    def __init__(self):
        super().__init__()
        self.patches, self.mlp, self.head = nn.Conv2d(3, 5, 4, 4), nn.Linear(5, 7), nn.Linear(7, 2)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        return self.head(self.mlp(x).relu().mean(1))


def test_features_of_tokens_are_channels_and_what_is_not_known_has_none():
    torch.manual_seed(0)
    net = Tokens().eval()
    rows, result = flow(net, torch.rand(1, 3, 8, 8))
    found = {row.name: row for row in rows}
    sums = result.layers["mlp"][0].clamp(min=0).sum(0)  # (T, D) over tokens
    assert found["mlp"].channels[0] == (int(sums.argmax()), pytest.approx(float(sums.max())))
    assert [row.name for row in rows if row.kind == "view" and row.channels] == []
    assert found["patches"].channels[0][0] == int(result.layers["patches"][0].clamp(min=0).sum((1, 2)).argmax())


def test_folded_layers_are_one_row():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    rows, result = flow(net, torch.rand(1, 3, 8, 8))
    assert {"0", "1"} <= set(result.absorbed)
    assert [row.name for row in rows].count("0") == 1 and "1" not in [row.name for row in rows]
    assert float(result.start[0]) - sum(row.absorbed for row in rows) == pytest.approx(float(result.relevance.sum()))


def test_several_classes_and_images_have_their_own(monkeypatch):
    explainer = lrpcli.Explainer(small_net(), config=EPSILON, dtype=torch.float64)
    x = torch.rand(2, 3, 8, 8)
    both = explainer(x, torch.tensor([[0, 1], [2, 0]]), keep_layers=True)
    for image in range(2):
        for place, target in enumerate(((0, 1), (2, 0))[image]):
            alone = explainer(x[image : image + 1], target, keep_layers=True)
            for name, values in alone.absorbed.items():
                assert float(both.absorbed[name][image, place]) == pytest.approx(float(values[0]), abs=1e-9)
    assert explainer(x).absorbed == {}


def test_a_table_survives_any_name():
    row = LayerFlow('a,"b"\nc\udce9', "kind", "rule", 1 / 3, 0.0, None, 0.5, -1 / 6, ())
    lines = list(csv.reader(io.StringIO(flow_csv([row]).decode())))
    assert lines == [list(COLUMNS), ['a,"b"\nc\\udce9', "kind", "rule", "0.333333", "0", "", "0.5", "-0.166667", ""]]


def test_the_command_writes_the_table_of_each_class(tmp_path):
    path = photo(tmp_path / "a.png")
    options = ("explain", "--model", TINY, "--input-shape", "3,32,32", "--preprocessing", "caffe", "--json")
    result = CliRunner().invoke(
        main, [*options, str(path), str(tmp_path / "out"), "--save", "layer-table,layers", "--target", "top2"]
    )
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout.splitlines()[0])
    for one in record["explanations"]:
        with Path(one["outputs"]["layer-table"]).open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows[0]["layer"] == "fc4" and rows[-1]["layer"] == "input"
        assert float(rows[-1]["kept"]) == pytest.approx(one["relevance"]["kept"], rel=1e-4)
        with np.load(one["outputs"]["layers"]) as layers:
            assert float(rows[1]["total"]) == pytest.approx(float(layers[rows[1]["layer"]].sum()), rel=1e-4)
