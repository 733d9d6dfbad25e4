"""Nets that torch itself writes as ONNX, by both of its exporters: the same scores and the same maps."""

import logging
import warnings

import pytest
import torch
import torchvision
from torch import nn

import lrpcli
from lrpcli.errors import ModelError
from lrpcli.models.layer_table import layer_table
from tests.models.onnx.files import difference, equals_onnxruntime, scores

SHAPES = {"caffenet": (3, 67, 67), "resnet18": (3, 64, 64), "googlenet": (3, 64, 64), "mobilenet_v3_small": (3, 64, 64)}
BOTH = pytest.mark.parametrize("dynamo", [False, pytest.param(True, marks=pytest.mark.slow)])


def _caffenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 24, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5, 1e-2, 0.75),
        nn.Conv2d(24, 32, 5, padding=2, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.LocalResponseNorm(5, 1e-2, 0.75, 2.0), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Dropout(), nn.Linear(288, 40), nn.ReLU(), nn.Linear(40, 10),
    )  # fmt: skip


def _net(name: str) -> nn.Module:
    torch.manual_seed(0)
    more = {"transform_input": True, "init_weights": False} if name == "googlenet" else {}
    net = _caffenet() if name == "caffenet" else getattr(torchvision.models, name)(weights=None, **more)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def export(net, x, path, dynamo, **more):
    """Writes a net for one image, by the exporter that traces with torch.export or by the older one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            quiet = {"verbose": False} if dynamo else {}
            torch.onnx.export(net, (x[:1],), path, dynamo=dynamo, **quiet, **more)
        finally:
            logging.disable(logging.NOTSET)
    return path


@BOTH
@pytest.mark.parametrize("name", SHAPES)
def test_scores_and_maps_equal_those_of_the_torch_net(name, dynamo, tmp_path):
    net, shape = _net(name), SHAPES[name]
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    path = export(net, x, tmp_path / f"{name}.onnx", dynamo)
    model = equals_onnxruntime(path)
    with torch.no_grad():
        assert difference(scores(model, x), net(x).numpy()) < 1e-5
    maps = [
        lrpcli.Explainer(lrpcli.load_model(source, input_shape=shape), dtype=torch.float64)(x.double()).relevance
        for source in (net, path)
    ]
    assert difference(maps[1], maps[0]) < 1e-5


@BOTH
def test_lrn_of_both_exporters_is_lrn(dynamo, tmp_path):
    path = export(_net("caffenet"), torch.zeros(1, 3, 67, 67), tmp_path / "net.onnx", dynamo)
    rows = [row for row in layer_table(lrpcli.load_model(path)) if row.kind == "lrn"]
    assert [row.details for row in rows] == [
        "n=5 alpha=0.01 beta=0.75 k=1 across-channels",
        "n=5 alpha=0.01 beta=0.75 k=2 across-channels",
    ]


@pytest.mark.parametrize(
    "activation",
    [nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Hardswish(), nn.Mish(), nn.PReLU(8), nn.ELU(), nn.SELU(), nn.ReLU6()],
    ids=lambda module: type(module).__name__,
)
def test_activations_in_parts_give_the_maps_of_the_whole(activation, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), activation, nn.Flatten(), nn.Linear(512, 5)).eval()
    x = torch.randn(2, 3, 8, 8)
    path = export(net, x, tmp_path / "net.onnx", dynamo=False, opset_version=14)
    equals_onnxruntime(path)
    maps = [
        lrpcli.Explainer(lrpcli.load_model(source, input_shape=(3, 8, 8)), dtype=torch.float64)(x.double()).relevance
        for source in (net, path)
    ]
    assert difference(maps[1], maps[0]) < 1e-6


def test_sizes_that_are_read_at_run_time_are_fixed(tmp_path):
    """A view by sizes, exported with an open batch, height and width."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 36, 5)

        def forward(self, x):
            x = torch.relu(self.conv(x))
            return self.fc(x.view(x.size(0), x.size(1) * x.size(2) * x.size(3)))

    torch.manual_seed(0)
    axes = {"image": {0: "n", 2: "h", 3: "w"}}
    path = export(Net().eval(), torch.zeros(1, 3, 6, 6), tmp_path / "net.onnx", dynamo=False, dynamic_axes=axes,
                  input_names=["image"])  # fmt: skip
    with pytest.raises(ModelError, match=r"'image' is \(\?, 3, \?, \?\). Give its input shape"):
        lrpcli.load_model(path)
    equals_onnxruntime(path, input_shape=(3, 6, 6))
    with pytest.raises(ModelError, match="does not fit what it reads"):
        lrpcli.load_model(path, input_shape=(3, 7, 7))


@pytest.mark.slow
def test_data_beside_the_file(tmp_path):
    net = _net("caffenet")
    x = torch.randn(2, 3, 67, 67, generator=torch.Generator().manual_seed(1))
    path = export(net, x, tmp_path / "net.onnx", dynamo=True, external_data=True)
    assert (tmp_path / "net.onnx.data").exists()
    equals_onnxruntime(path)
