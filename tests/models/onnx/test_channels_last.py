"""Nets as tf2onnx writes them: an input with its channels last, Transpose pairs, and LRN's alpha times its size."""

import numpy as np
import pytest
import torch
from torch import nn

import lrpcli
from lrpcli.errors import ModelError
from lrpcli.models.layer_table import layer_table
from tests.models.onnx.files import difference, equals_onnxruntime, images, make, node, save, tensor, value, weights

FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]
ALPHA = 1e-3
"""TensorFlow's own, which it does not divide by the size of the window; tf2onnx multiplies by it."""


def _nodes():
    return [
        node("Transpose", "input", "t1", "conv1__6", perm=FIRST),
        node("Conv", "t1 w1", "c1", "conv1", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Transpose", "c1", "t2", "conv1__20", perm=LAST),
        node("Add", "t2 b1", "a1", "BiasAdd"),
        node("Relu", "a1", "r1", "Relu"),
        node("Transpose", "r1", "t3", "LRN__8", perm=FIRST),
        node("LRN", "t3", "n1", "LRN", size=5, alpha=5 * ALPHA, beta=0.75, bias=1.0),
        node("Transpose", "n1", "t4", "LRN__10", perm=LAST),
        node("Transpose", "t4", "t5", "pool__11", perm=FIRST),
        node("MaxPool", "t5", "p1", "pool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
        node("Transpose", "p1", "t6", "pool__12", perm=LAST),
        node("Reshape", "t6 s", "f", "flatten"),
        node("MatMul", "f w2", "m", "dense/MatMul"),
        node("Add", "m b2", "z", "dense/BiasAdd"),
        node("Softmax", "z", "scores", "Softmax", axis=1),
    ]


def _tensors():
    return [
        tensor("w1", weights((8, 3, 3, 3), 1)),
        tensor("b1", weights((8,), 2)),
        tensor("s", [-1, 8 * 9]),
        tensor("w2", weights((72, 5), 3)),
        tensor("b2", weights((5,), 4)),
    ]


class TensorFlowNet(nn.Module):
    """The same net by torch: uneven padding before the convolution, NHWC order in the flatten."""

    def __init__(self):
        super().__init__()
        numbers = {proto.name: torch.from_numpy(_numbers(proto)) for proto in _tensors()}
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 2), nn.Linear(72, 5)
        self.conv.weight.data, self.conv.bias.data = numbers["w1"], numbers["b1"]
        self.fc.weight.data, self.fc.bias.data = numbers["w2"].T.contiguous(), numbers["b2"]
        self.lrn, self.pool = nn.LocalResponseNorm(5, 5 * ALPHA, 0.75, 1.0), nn.MaxPool2d(3, 2)

    def forward(self, x):
        x = torch.relu(self.conv(nn.functional.pad(x, (0, 1, 0, 1))))
        x = self.pool(nn.functional.pad(self.lrn(x), (0, 1, 0, 1)))
        return torch.softmax(self.fc(torch.flatten(x.permute(0, 2, 3, 1), 1)), 1)


def _numbers(proto):
    from onnx import numpy_helper

    return numpy_helper.to_array(proto).copy()


@pytest.mark.parametrize("shape", [(None, 12, 12, 3), (1, 12, 12, 3), ("unk__1", 12, 12, 3), (4, 12, 12, 3)])
def test_scores_are_those_of_onnxruntime_and_torch(shape, tmp_path):
    path = save(tmp_path / "net.onnx", make(_nodes(), _tensors(), shape))
    model = lrpcli.load_model(path)
    assert model.input_shape == (3, 12, 12)
    x = images(model, 4)
    with torch.no_grad():
        assert difference(model.module(x).numpy(), TensorFlowNet()(x).numpy()) < 1e-6
    if shape[0] != 4:
        from tests.models.onnx.files import run

        wanted = np.concatenate([run(path, image[None].permute(0, 2, 3, 1).contiguous()) for image in x])
        assert difference(model.module(x).numpy(), wanted) < 1e-6


def test_maps_are_those_of_torch(tmp_path):
    path = save(tmp_path / "net.onnx", make(_nodes(), _tensors(), (None, 12, 12, 3)))
    model = lrpcli.load_model(path)
    x = images(model).double()
    own = lrpcli.Explainer(model, dtype=torch.float64)(x)
    other = lrpcli.Explainer(lrpcli.load_model(TensorFlowNet(), input_shape=(3, 12, 12)), dtype=torch.float64)(x)
    assert difference(own.relevance, other.relevance) < 1e-6
    rows = {row.name: row for row in layer_table(model)}
    assert rows["LRN"].kind == "lrn"
    assert rows["LRN"].details == "n=5 alpha=0.005 beta=0.75 k=1 across-channels"


def test_transposes_that_undo_each_other_leave_nothing(tmp_path):
    path = save(tmp_path / "net.onnx", make(_nodes(), _tensors(), (None, 12, 12, 3)))
    kinds = [(row.name, row.kind) for row in layer_table(lrpcli.load_model(path))]
    views = [name for name, kind in kinds if kind == "view"]
    assert not {"conv1__6", "LRN__10", "pool__11"}.intersection(views)


def test_sizes_that_nobody_states(tmp_path):
    """All axes open: what reads the input moves its channels to the front."""
    path = save(tmp_path / "net.onnx", make(_nodes(), _tensors(), (None, None, None, None)))
    with pytest.raises(ModelError, match="does not say how large an image it reads"):
        lrpcli.load_model(path)
    x = torch.randn(2, 3, 12, 12)
    model = lrpcli.load_model(path, input_shape=(3, 12, 12))
    with torch.no_grad():
        assert difference(model.module(x).numpy(), TensorFlowNet()(x).numpy()) < 1e-6


def test_channels_last_with_no_transpose_pair_around_what_is_fixed(tmp_path):
    """A mean that is subtracted from the input with its channels last."""
    nodes = [node("Sub", "input mean", "x", "normalise"), *_nodes()]
    nodes[1].input[0] = "x"
    path = save(tmp_path / "net.onnx", make(nodes, [*_tensors(), tensor("mean", [0.1, 0.2, 0.3])], (None, 12, 12, 3)))
    model = lrpcli.load_model(path)
    x = images(model)
    shifted = x - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    with torch.no_grad():
        assert difference(model.module(x).numpy(), TensorFlowNet()(shifted).numpy()) < 1e-6
    assert lrpcli.Explainer(model)(x).relevance.isfinite().all()


def test_channels_first_inputs_stay_so(tmp_path):
    nodes = [node("Conv", "input w", "c"), node("GlobalAveragePool", "c", "scores")]
    path = save(tmp_path / "net.onnx", make(nodes, [tensor("w", weights((2, 3, 2, 2)))], (1, 3, 5, 3)))
    assert equals_onnxruntime(path).input_shape == (3, 5, 3)
    assert value("x", (1,)).name == "x"


@pytest.mark.parametrize("given", [(3, 5, 4), (3, 6, 3), (1, 5, 3)])
def test_a_size_that_the_file_fixes_is_not_overruled(given, tmp_path):
    nodes = [node("Conv", "input w", "c"), node("GlobalAveragePool", "c", "scores")]
    path = save(tmp_path / "net.onnx", make(nodes, [tensor("w", weights((2, 3, 2, 2)))], (1, 3, 5, 3)))
    with pytest.raises(ModelError, match=r"reads images of \(3, 5, 3\) .*, and not"):
        lrpcli.load_model(path, input_shape=given)
    assert lrpcli.load_model(path, input_shape=(3, 5, 3)).input_shape == (3, 5, 3)
