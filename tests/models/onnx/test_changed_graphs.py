"""Nets that are changed at random: each is refused with a sentence, or computes what onnxruntime does, image by image.

A seed makes the same net again: `changed(seed)`.
"""

import copy
import math
import random

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

import lrpcli
from lrpcli.errors import LrpError
from lrpcli.models.onnx.operators import OPERATORS
from tests.models.onnx.files import (
    difference,
    images,
    make,
    node,
    save,
    scores,
    small_nodes,
    small_tensors,
    tensor,
    weights,
)
from tests.models.onnx.test_channels_last import _nodes, _tensors

EXTREMES = [0, 1, -1, 2, 3, 4, -2, 5, 7, 8, 2**31, 2**62, -(2**62), -3]
SEEDS = range(300)


def _dense_nodes():
    return [
        node("Conv", "input w b", "c", pads=[1, 1, 1, 1]),
        node("Sigmoid", "c", "s"),
        node("Mul", "c s", "m"),
        node("Pad", "m p", "q"),
        node("AveragePool", "q", "a", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
        node("Split", "a", "x1 x2", axis=1, num_outputs=2),
        node("Concat", "x2 x1", "cc", axis=1),
        node("Slice", "cc st en ax", "sl"),
        node("Unsqueeze", "sl u", "un"),
        node("Squeeze", "un u", "sq"),
        node("Transpose", "sq", "t", perm=[0, 2, 3, 1]),
        node("Mul", "t k", "tk"),
        node("Transpose", "tk", "t2", perm=[0, 3, 1, 2]),
        node("Add", "t2 k2", "t3"),
        node("ReduceMean", "t3 ax", "r", keepdims=0),
        node("Reshape", "r sh", "rs"),
        node("MatMul", "rs mw", "mm"),
        node("Add", "mm mb", "z"),
        node("Softmax", "z", "scores", axis=1),
    ]


def _dense_tensors():
    lists = {"p": [0, 0, 1, 0, 0, 0, 0, 1], "st": [0, 0], "en": [4, 4], "ax": [2, 3], "u": [1], "sh": [-1, 6]}
    shapes = {"w": (6, 3, 3, 3), "b": (6,), "k": (6,), "k2": (1, 6, 1, 1), "mw": (6, 5), "mb": (5,)}
    return [*(tensor(name, numbers) for name, numbers in lists.items()),
            *(tensor(name, weights(shape)) for name, shape in shapes.items())]  # fmt: skip


SAMPLES = [
    make(small_nodes(), small_tensors(), (None, 3, 8, 8), opset=11),
    make(_nodes(), _tensors(), (1, 12, 12, 3)),
    make(_dense_nodes(), _dense_tensors(), (None, 3, 8, 8), opset=18),
    make(_dense_nodes(), _dense_tensors(), (3, 3, 8, 8), opset=18),
]


def changed(seed):
    """One of the samples after one to three changes."""
    chance = random.Random(seed)
    model = copy.deepcopy(chance.choice(SAMPLES))
    for _ in range(chance.choice([1, 1, 2, 3])):
        chance.choice(CHANGES)(model.graph, chance)
    for number, one in enumerate(model.graph.node):
        one.name = f"{one.name}.{number}"
    return model


def _rewire(graph, chance):
    one = chance.choice([one for one in graph.node if one.input])
    one.input[chance.randrange(len(one.input))] = chance.choice(_names(graph))


def _rename_operator(graph, chance):
    chance.choice(graph.node).op_type = chance.choice(sorted(OPERATORS))


def _change_attribute(graph, chance):
    entry = chance.choice([entry for one in graph.node for entry in one.attribute])
    if entry.ints:
        entry.ints[chance.randrange(len(entry.ints))] = chance.choice(EXTREMES)
    elif entry.type == onnx.AttributeProto.INT:
        entry.i = chance.choice(EXTREMES)
    else:
        entry.s = chance.choice([b"SAME_UPPER", b"SAME_LOWER", b"VALID", b"x"])


def _change_tensor(graph, chance):
    proto = chance.choice(graph.initializer)
    if math.prod(proto.dims) * (8 if proto.data_type == 7 else 4) != len(proto.raw_data):
        return  # it lies already
    array = numpy_helper.to_array(proto).copy()
    if array.dtype.kind == "i":
        array.flat[chance.randrange(array.size)] = chance.choice(EXTREMES)
    else:
        array = array.reshape([1] * chance.randrange(3) + list(array.shape) + [1] * chance.randrange(3))
    proto.CopyFrom(numpy_helper.from_array(array, proto.name))


def _lie_about_a_tensor(graph, chance):
    proto = chance.choice(graph.initializer)
    proto.dims[chance.randrange(len(proto.dims))] = chance.choice(EXTREMES)


def _drop(graph, chance):
    del graph.node[chance.randrange(len(graph.node))]


def _swap(graph, chance):
    first, second = chance.choice(graph.node), chance.choice(graph.node)
    kept = copy.deepcopy(first)
    first.CopyFrom(second)
    second.CopyFrom(kept)


def _insert(graph, chance):
    """A node behind another, which all that read that one now read."""
    place = chance.randrange(len(graph.node))
    source, order = graph.node[place].output[0], [0, 1, 2, 3]
    chance.shuffle(order)
    operator, attributes = chance.choice([
        ("Relu", {}), ("Identity", {}), ("Squeeze", {}), ("Dropout", {}), ("ReduceMean", {}), ("GlobalMaxPool", {}),
        ("Transpose", {"perm": order}), ("Flatten", {"axis": chance.randrange(-1, 3)}), ("Mul", {}), ("Sub", {}),
        ("Softmax", {"axis": chance.randrange(-1, 3)}), ("Max", {}), ("Div", {}), ("Add", {}),
        ("MaxPool", {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}),
    ])  # fmt: skip
    more = chance.choice(_names(graph)) if operator in ("Mul", "Sub", "Max", "Div", "Add") else ""
    new = onnx.helper.make_node(operator, [source, *filter(None, [more])], [f"{source}_new"], name="new", **attributes)
    nodes = list(graph.node)
    for one in nodes[place + 1 :]:
        for number, name in enumerate(one.input):
            if name == source:
                one.input[number] = new.output[0]
    del graph.node[:]
    graph.node.extend([*nodes[: place + 1], new, *nodes[place + 1 :]])


def _names(graph):
    return [*(name for one in graph.node for name in one.output), *(proto.name for proto in graph.initializer), "input"]


CHANGES = [
    _rewire,
    _rename_operator,
    _change_attribute,
    _change_tensor,
    _lie_about_a_tensor,
    _drop,
    _swap,
    _insert,
    _insert,
]


def _by_onnxruntime(model, x, output):
    """The scores of one image; None where onnxruntime refuses the net."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape
        batch = shape[0] if isinstance(shape[0], int) else 1
        x = x.repeat(batch, 1, 1, 1) if shape[3] != 3 else x.repeat(batch, 1, 1, 1).permute(0, 2, 3, 1).contiguous()
        found = session.run([output], {name: x.numpy()})[0]
    except Exception:  # onnxruntime has many errors without a common base
        return None
    return found.reshape(-1)[: found.size // batch]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_changed_net_is_refused_or_right(seed, tmp_path):
    model = changed(seed)
    try:
        own = lrpcli.load_model(save(tmp_path / "net.onnx", model))
    except LrpError as error:
        assert "net.onnx" in str(error)
        return
    x = images(own)
    together, alone = scores(own, x), np.concatenate([scores(own, image[None]) for image in x])
    assert torch.allclose(torch.as_tensor(together), torch.as_tensor(alone), atol=1e-5, equal_nan=True)
    wanted = _by_onnxruntime(model, x[:1], own.head)
    if wanted is not None and np.isfinite(wanted).all() and wanted.any():
        assert difference(alone[0].reshape(-1), wanted) < 2e-5


def test_some_changed_nets_are_read(tmp_path):
    """Otherwise nothing would be compared."""
    read = 0
    for seed in SEEDS[:60]:
        try:
            read += bool(lrpcli.load_model(save(tmp_path / "net.onnx", changed(seed))))
        except LrpError:
            continue
    assert read >= 5
