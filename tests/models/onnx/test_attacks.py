"""ONNX files that lie, or ask for what no machine has: each is refused with a sentence that names the file."""

import itertools
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lrpcli
from lrpcli.errors import LrpError, ModelError, UnsupportedLayer, WeightsError
from tests.models.onnx.files import (
    equals_onnxruntime,
    make,
    node,
    save,
    small,
    small_nodes,
    small_tensors,
    tensor,
    value,
    weights,
)

BILLION = 10**9


def refused(path: Path, message: str, kind: type[LrpError] = ModelError, **more) -> None:
    with pytest.raises(kind, match=message) as raised:
        lrpcli.load_model(path, **more)
    text = str(raised.value)
    assert str(path) in text or path.name in text
    assert text.endswith((".", ")", "?"))
    assert len(text) < 1200


def with_node(path: Path, one, *tensors, opset: int = 17) -> Path:
    """A net whose convolution "c" is followed by a node that makes "y" of it, or of fixed tensors."""
    last = [node("GlobalAveragePool", "y", "scores")]
    if "c" not in one.input and one.op_type != "If":
        last = [
            node("ReduceMean", "y", "m_", keepdims=0),
            node("Add", "c m_", "z"),
            node("GlobalAveragePool", "z", "scores"),
        ]
    nodes = [node("Conv", "input w b", "c", "conv", pads=[1, 1, 1, 1]), one, *last]
    return save(path, make(nodes, [*small_tensors(), *tensors], opset=opset))


# -- data beside the file


def external(folder: Path, location: str, **fields: str) -> Path:
    tensors = small_tensors()
    (folder / "net").mkdir(exist_ok=True)
    data = tensors[0].raw_data
    for place in (folder / "data.bin", folder / "net" / "data.bin"):
        place.write_bytes(b"\0" * 64 + data)
    tensors[0].ClearField("raw_data")
    tensors[0].data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, "offset": "64", "length": str(len(data)), **fields}.items():
        tensors[0].external_data.add(key=key, value=text)
    return save(folder / "net" / "net.onnx", make(small_nodes(), tensors))


def test_data_beside_the_file_is_read_and_hashed(tmp_path):
    path = external(tmp_path, "data.bin")
    own = equals_onnxruntime(path).weights_sha256
    import hashlib

    both = path.read_bytes() + (tmp_path / "net" / "data.bin").read_bytes()
    assert own == hashlib.sha256(both).hexdigest()
    with (tmp_path / "net" / "data.bin").open("r+b") as file:
        file.seek(64)
        file.write(b"\1\2")
    assert lrpcli.load_model(path).weights_sha256 != own


def test_data_in_a_folder_below(tmp_path):
    path = external(tmp_path, "inner/data.bin")
    (tmp_path / "net" / "inner").mkdir()
    (tmp_path / "net" / "data.bin").rename(tmp_path / "net" / "inner" / "data.bin")
    equals_onnxruntime(path)


@pytest.mark.parametrize(
    "location", ["../data.bin", "/etc/passwd", "inner/../../data.bin", "", ".", "a\\b", "a\0b", ".."]
)
def test_data_elsewhere_is_not_read(location, tmp_path):
    path = external(tmp_path, location)
    with pytest.raises(LrpError, match=r"Only files in the folder of the net are read|cannot be read"):
        lrpcli.load_model(path)


def test_data_behind_links_is_not_read(tmp_path):
    path = external(tmp_path, "link.bin")
    (tmp_path / "net" / "link.bin").symlink_to(tmp_path / "data.bin")
    refused(path, "no links")
    path = external(tmp_path, "folder/data.bin")
    (tmp_path / "net" / "folder").symlink_to(tmp_path)
    refused(path, "no links")


def test_data_that_is_no_regular_file_is_not_read(tmp_path):
    path = external(tmp_path, "pipe")
    os.mkfifo(tmp_path / "net" / "pipe")
    with pytest.raises(WeightsError, match="not a regular file"):
        lrpcli.load_model(path)
    (tmp_path / "net" / "pipe").unlink()
    (tmp_path / "net" / "pipe").mkdir()
    with pytest.raises(WeightsError, match="Is a directory"):
        lrpcli.load_model(path)


def test_data_that_is_missing_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.bin' cannot be read \(No such file"):
        lrpcli.load_model(external(tmp_path, "gone.bin"))


@pytest.mark.parametrize(
    "fields",
    [
        {"offset": "-1"}, {"offset": "x"}, {"offset": "1e3"}, {"offset": "9" * 5000}, {"offset": str(2**62)},
        {"offset": "65"}, {"length": "0"}, {"length": "-4"}, {"length": "99999999999999"}, {"length": "٣"},
    ],
    ids=str,
)  # fmt: skip
def test_lying_offsets_and_lengths(fields, tmp_path):
    refused(external(tmp_path, "data.bin", **fields), "is no number of bytes|Fetch both files again")


# -- tensors


def with_weight(path: Path, **fields) -> Path:
    tensors = small_tensors()
    for key, given in fields.items():
        if isinstance(given, list):
            del getattr(tensors[0], key)[:]
            getattr(tensors[0], key).extend(given)
        elif given is None:
            tensors[0].ClearField(key)
        else:
            setattr(tensors[0], key, given)
    return save(path, make(small_nodes(), tensors))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dims": [-6, 3, 3, 3]}, "has the shape"),
        ({"dims": [2**40, 2**20]}, "more than 2 GiB of memory for its tensors"),
        ({"dims": [2**62, 2**62, 2**62]}, "more than 2 GiB"),
        ({"dims": [6, 3, 3, 4]}, "claims 864 bytes and holds 648"),
        ({"dims": [0, 3, 3, 3]}, "claims 0 bytes"),
        ({"dims": [1] * 100}, "has the shape"),
        ({"raw_data": b""}, "claims 648 bytes and holds 0"),
        ({"raw_data": None}, "does not hold as many numbers"),
        ({"raw_data": None, "float_data": [1.0] * 3}, "does not hold as many numbers"),
        ({"data_type": 8}, "numbers of the type STRING"),
        ({"data_type": 14}, "COMPLEX64"),
        ({"data_type": 99}, "the type 99"),
        ({"data_type": 0}, "UNDEFINED"),
        ({"data_type": 7, "dims": [81]}, "does not fit|cannot be imported"),
        ({"raw_data": np.full(162, np.nan, np.float32).tobytes()}, "not finite"),
        ({"raw_data": np.full(162, np.inf, np.float32).tobytes()}, "not finite"),
        ({"dims": [162]}, "does not fit|cannot be imported"),
        ({"dims": [6, 27]}, "does not fit|cannot be imported|kernel"),
        ({"dims": [3, 6, 3, 3]}, "does not fit|has the shape"),
        ({"name": "other"}, "reads 'w', which no node before it makes"),
        ({"name": "b"}, "two tensors named 'b'"),
    ],
    ids=str,
)
def test_lying_tensors(fields, message, tmp_path):
    refused(with_weight(tmp_path / "net.onnx", **fields), message)


# -- graphs


def test_nodes_out_of_order(tmp_path):
    nodes = small_nodes()
    nodes[1], nodes[2] = nodes[2], nodes[1]
    refused(save(tmp_path / "net.onnx", make(nodes, small_tensors())), "reads 'r', which no node before it makes")


def test_cycles(tmp_path):
    nodes = small_nodes()
    for name in ("n", "r"):
        nodes[1] = node("Add", f"c {name}", "r", "sum")
        refused(
            save(tmp_path / "net.onnx", make(nodes, small_tensors())), f"reads '{name}', which no node before it makes"
        )


@pytest.mark.parametrize("name", ["input", "w", "r"])
def test_values_that_are_made_twice(name, tmp_path):
    nodes = small_nodes()
    nodes[3].output[0] = name
    refused(
        save(tmp_path / "net.onnx", make(nodes, small_tensors())), f"makes the value '{name}', which there is already"
    )


def test_inputs_and_outputs_of_one_name(tmp_path):
    twice = [value("input", (1, 3, 8, 8))] * 2
    refused(save(tmp_path / "a.onnx", make(small_nodes(), small_tensors(), inputs=twice)), "two inputs of one name")
    refused(save(tmp_path / "b.onnx", make(small_nodes(), small_tensors(), outputs=["scores"] * 2)), "two of one name")
    refused(save(tmp_path / "c.onnx", make(small_nodes(), small_tensors(), outputs=[])), "has no output")
    refused(
        save(tmp_path / "d.onnx", make(small_nodes(), small_tensors(), outputs=["gone"])), "0 inputs|does not depend"
    )
    refused(
        save(tmp_path / "e.onnx", make(small_nodes(), small_tensors(), outputs=["input"])), "not one score per class"
    )
    refused(save(tmp_path / "f.onnx", make(small_nodes(), small_tensors(), outputs=["b"])), "0 inputs")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "reads 0 inputs"),
        ([value("input", (1, 3, 8, 8)), value("w", (6, 3, 3, 3))], "reads 2 inputs"),
        ([value("input", (3, 8, 8))], r"3 axes \(3, 8, 8\)"),
        ([value("input", None)], "0 axes"),
        ([value("input", (1, 3, 8, 8), TensorProto.STRING)], "no batch of images"),
        ([value("input", (1, 3, 8, 8), TensorProto.COMPLEX64)], "no batch of images"),
        ([helper.make_tensor_sequence_value_info("input", 1, (1, 3, 8, 8))], "no batch of images"),
        ([value("input", (1, 3, 10**6, 10**6))], "is not usable"),
        ([value("input", (1, 3, 2**62, 8))], "is not usable"),
        ([value("input", (2**62, 3, 8, 8))], "does not fit"),
        ([value("input", (1, 4, 8, 8))], "does not fit"),
        ([value("input", (1, 3, 16384, 16384))], "more than 2 GiB of memory for the values"),
        ([value("input", (1, 3, 1, 1))], "does not fit|shape"),
    ],
    ids=str,
)
def test_inputs_that_are_no_image(inputs, message, tmp_path):
    tensors = [proto for proto in small_tensors() if proto.name != "w" or len(inputs) < 2]
    refused(save(tmp_path / "net.onnx", make(small_nodes(), tensors, inputs=inputs)), message)


@pytest.mark.parametrize(
    ("depth", "message"), [(5, None), (9, "more than 8 deep"), (30, "more than 8 deep|cannot be read")]
)
def test_graphs_within_graphs(depth, message, tmp_path):
    inner = helper.make_graph([node("Relu", "c", "i0")], "g", [], [value("i0", None)])
    for number in range(1, depth):
        again = node("If", "flag", f"i{number}", f"if{number}", then_branch=inner, else_branch=inner)
        inner = helper.make_graph([again], "g", [], [value(f"i{number}", None)])
        if len(inner.SerializeToString()) > 10**6:
            break
    flag = onnx.numpy_helper.from_array(np.array(True), "flag")
    path = with_node(tmp_path / "net.onnx", node("If", "flag", "y", "top", then_branch=inner, else_branch=inner), flag)
    if message is None:
        equals_onnxruntime(path)
    else:
        refused(path, f"{message}|more than 20,000 nodes")


def test_branches_that_make_what_there_is(tmp_path):
    inner = helper.make_graph([node("Relu", "c", "b")], "g", [], [value("b", None)])
    flag = onnx.numpy_helper.from_array(np.array(True), "flag")
    path = with_node(tmp_path / "net.onnx", node("If", "flag", "y", then_branch=inner, else_branch=inner), flag)
    refused(path, "makes the value 'b', which there is already", UnsupportedLayer)


def test_branches_that_the_image_chooses(tmp_path):
    inner = helper.make_graph([node("Relu", "c", "i")], "g", [], [value("i", None)])
    path = with_node(tmp_path / "net.onnx", node("If", "c", "y", then_branch=inner, else_branch=inner))
    refused(path, "depends on the image", UnsupportedLayer)


@pytest.mark.parametrize("operator", ["Loop", "Scan"])
def test_loops(operator, tmp_path):
    inner = helper.make_graph([node("Relu", "c", "i")], "g", [], [value("i", None)])
    more = {"num_scan_inputs": 1} if operator == "Scan" else {}
    path = with_node(tmp_path / "net.onnx", node(operator, "c c", "y", body=inner, **more))
    refused(path, rf"\({operator}, opset 17\).*the operator is not known", UnsupportedLayer)


def test_too_many_nodes(tmp_path):
    nodes = [node("Relu", f"v{n}" if n else "input", f"v{n + 1}", f"n{n}") for n in range(20_001)]
    refused(save(tmp_path / "net.onnx", make(nodes, outputs=["v20001"])), "more than 20,000 nodes")


def test_names_that_are_no_text(tmp_path):
    path = small(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes().replace(b"relu1", b"rel\xff1"))
    refused(path, "no UTF-8|cannot be read|holds no nodes")
    nodes = small_nodes()
    nodes[1].name = "x" * 5000
    refused(save(path, make(nodes, small_tensors())), "too long")


# -- memory and time

SENTENCES = (
    "asks for more than 2 GiB|computes more with its weights|does not fit|cannot be imported|would put out|not finite|"
    "has the shape"
)


@pytest.mark.parametrize(
    ("one", "tensors"),
    [
        (node("ConstantOfShape", "s", "y"), [tensor("s", [2**20, 2**20])]),
        (node("ConstantOfShape", "s", "y"), [tensor("s", [2**31, 2**31, 2**31])]),
        (node("ConstantOfShape", "s", "y"), [tensor("s", [-1])]),
        (node("Expand", "c s", "y"), [tensor("s", [1, 6, 2**17, 2**17])]),
        (node("Expand", "b s", "y"), [tensor("s", [2**40, 6])]),
        (node("Tile", "c s", "y"), [tensor("s", [1, 1, 2**20, 2**20])]),
        (node("Tile", "b s", "y"), [tensor("s", [2**40])]),
        (node("Tile", "b s", "y"), [tensor("s", [-1])]),
        (node("Pad", "c s", "y"), [tensor("s", [0, 0, 0, 0, 0, 0, 2**30, 2**30])]),
        (node("Pad", "b s", "y"), [tensor("s", [2**40, 2**40])]),
        (node("Pad", "c s", "y"), [tensor("s", [0, 0, -99, 0, 0, 0, 0, 0])]),
        (node("Pad", "c s", "y"), [tensor("s", [1])]),
        (node("Resize", "c  k", "y"), [tensor("k", [1.0, 1.0, 1e6, 1e6])]),
        (node("Resize", "c  k", "y"), [tensor("k", [1.0, 1.0, 0.0, 1.0])]),
        (node("Resize", "c  k", "y"), [tensor("k", [1.0, 1.0, float("nan"), 1.0])]),
        (node("Resize", "c  k", "y"), [tensor("k", [1.0, 1.0, float("inf"), 1.0])]),
        (node("Range", "i j k", "y"), [tensor("i", 0), tensor("j", 2**50), tensor("k", 1)]),
        (node("Range", "i j k", "y"), [tensor("i", 0), tensor("j", 9), tensor("k", 0)]),
        (node("Range", "i j k", "y"), [tensor("i", 0.0), tensor("j", float("inf")), tensor("k", 1.0)]),
        (node("Add", "i j", "y"), [tensor("i", np.zeros((2**16, 1))), tensor("j", np.zeros((1, 2**16)))]),
        (node("MatMul", "i j", "y"), [tensor("i", np.zeros((2**16, 1))), tensor("j", np.zeros((1, 2**16)))]),
        (node("MatMul", "i j", "y"), [tensor("i", np.zeros((2**12, 2**10))), tensor("j", np.zeros((2**10, 2**12)))]),
        (node("Gather", "b j", "y"), [tensor("j", np.full((5,), 6))]),
        (node("Gather", "c j", "y", axis=1), [tensor("j", np.full((5,), -7))]),
        (node("Gather", "c j", "y", axis=9), [tensor("j", [0])]),
        (node("Conv", "c m", "y", pads=[2**30] * 4, strides=[2**28] * 2), [tensor("m", np.zeros((2, 6, 1, 1)))]),
        (node("Conv", "c m", "y", pads=[-1] * 4), [tensor("m", np.zeros((2, 6, 1, 1)))]),
        (node("Conv", "c m", "y", strides=[0, 0]), [tensor("m", np.zeros((2, 6, 1, 1)))]),
        (node("Conv", "c m", "y", strides=[1]), [tensor("m", np.zeros((2, 6, 1, 1)))]),
        (node("Conv", "c m", "y", group=0), [tensor("m", np.zeros((2, 6, 1, 1)))]),
        (node("Conv", "c m", "y", group=-3), [tensor("m", np.zeros((2, 6, 1, 1)))]),
        (node("Conv", "c m", "y", kernel_shape=[3, 3]), [tensor("m", np.zeros((2, 6, 1, 1)))]),
        (node("Conv", "c m", "y", auto_pad="SOME"), [tensor("m", np.zeros((2, 6, 1, 1)))]),
        (node("Conv", "c m", "y"), [tensor("m", np.zeros((0, 6, 1, 1)))]),
        (node("Conv", "c m e", "y"), [tensor("m", np.zeros((2, 6, 1, 1))), tensor("e", np.zeros(5))]),
        (node("Conv", "c c", "y"), []),
        (node("ConvTranspose", "c m", "y", strides=[2**15] * 2), [tensor("m", np.zeros((6, 2, 1, 1)))]),
        (node("ConvTranspose", "c m", "y", output_shape=[2**40] * 2), [tensor("m", np.zeros((6, 2, 1, 1)))]),
        (node("MaxPool", "c", "y", kernel_shape=[2, 2], pads=[2**30] * 4, strides=[2**30] * 2), []),
        (node("MaxPool", "c", "y", kernel_shape=[0, 0]), []),
        (node("MaxPool", "c", "y", kernel_shape=[2]), []),
        (node("AveragePool", "c", "y", kernel_shape=[99, 99]), []),
        (node("AveragePool", "c", "y", kernel_shape=[2, 2], pads=[1, 2, 3]), []),
        (node("Reshape", "c s", "y"), [tensor("s", [-1, -1])]),
        (node("Reshape", "c s", "y"), [tensor("s", [1, 7, 9])]),
        (node("Reshape", "c s", "y"), [tensor("s", [0] * 9)]),
        (node("Reshape", "c s", "y"), [tensor("s", np.ones(5000))]),
        (node("Reshape", "c c", "y"), []),
        (node("Transpose", "c", "y", perm=[0, 1, 1, 2]), []),
        (node("Transpose", "c", "y", perm=[0, 1]), []),
        (node("Transpose", "c", "y", perm=[1, 0, 2, 3]), []),
        (node("Squeeze", "c s", "y"), [tensor("s", [0])]),
        (node("Squeeze", "c s", "y"), [tensor("s", [77])]),
        (node("Squeeze", "c s", "y"), [tensor("s", [1])]),
        (node("Unsqueeze", "c s", "y"), [tensor("s", [0])]),
        (node("Or", "c c", "y"), []),
        (node("Add", "c s", "y"), [tensor("s", [1])]),
        (node("Gelu", "c", "y"), []),
        (node("MaxPool", "c", "y", kernel_shape=[2, 2], strides=[2, 2**62]), []),
        (node("LRN", "c", "y", size=3, alpha=-1.0), []),
        (node("LRN", "c", "y", size=3, bias=float("nan")), []),
        (node("Unsqueeze", "c s", "y"), [tensor("s", list(range(1, 300)))]),
        (node("Concat", "c c", "y", axis=0), []),
        (node("Concat", "c c", "y", axis=8), []),
        (node("Concat", "c m", "y", axis=1), [tensor("m", np.zeros((1, 1, 8, 8)))]),
        (node("Split", "c s", "y z", axis=1), [tensor("s", [3, 4])]),
        (node("Split", "c s", "y z", axis=1), [tensor("s", [-3, 9])]),
        (node("Slice", "c s e", "y"), [tensor("s", [0, 0, 9]), tensor("e", [1, 6, 5])]),
        (node("Slice", "c s e a t", "y"), [tensor(n, [v]) for n, v in zip("seat", (0, 1, 1, 0), strict=True)]),
        (node("Slice", "c s e a", "y"), [tensor("s", [0]), tensor("e", [1]), tensor("a", [9])]),
        (node("Add", "c m", "y"), [tensor("m", np.zeros((7, 7)))]),
        (node("Add", "c m", "y"), [tensor("m", np.zeros((1, 1, 1, 1, 1)))]),
        (node("Add", "c m", "y"), [tensor("m", np.zeros((2, 6, 8, 8)))]),
        (node("Mul", "c m", "y"), [tensor("m", np.full((6, 1, 1), np.inf))]),
        (node("Mul", "c m", "y"), [tensor("m", np.nan)]),
        (node("Clip", "c m", "y"), [tensor("m", np.nan)]),
        (node("Clip", "c m", "y"), [tensor("m", np.zeros(3))]),
        (node("Clip", "c c", "y"), []),
        (node("Softmax", "c", "y", axis=0), []),
        (node("Softmax", "c", "y", axis=40), []),
        (node("ReduceMean", "c", "y"), []),
        (node("ReduceMean", "c", "y", axes=[5]), []),
        (node("LRN", "c", "y", size=0), []),
        (node("LRN", "c", "y", size=-3), []),
        (node("LRN", "c", "y", size=4), []),
        (node("DepthToSpace", "c", "y", blocksize=0), []),
        (node("DepthToSpace", "c", "y", blocksize=4), []),
        (node("SpaceToDepth", "c", "y", blocksize=3), []),
        (node("LayerNormalization", "c m", "y", axis=0), [tensor("m", np.ones((1, 6, 8, 8)))]),
        (node("LayerNormalization", "c m", "y"), [tensor("m", np.ones(5))]),
        (node("InstanceNormalization", "c m m", "y"), [tensor("m", np.ones(5))]),
        (node("BatchNormalization", "c m m m m", "y"), [tensor("m", np.ones(5))]),
        (node("BatchNormalization", "c m m m m", "y z u", training_mode=1), [tensor("m", np.ones(6))]),
        (node("PRelu", "c m", "y"), [tensor("m", np.ones((2, 6, 1, 1)))]),
        (node("Dropout", "c m k", "y"), [tensor("m", 0.5), tensor("k", True, np.bool_)]),
        (node("Cast", "c", "y", to=7), []),
        (node("Cast", "c", "y", to=8), []),
        (node("Cast", "c", "y", to=99), []),
        (node("Constant", "", "y", value_strings=["a"]), []),
        (node("MatMul", "c m", "y"), [tensor("m", np.zeros((9, 9)))]),
        (node("Gemm", "c m", "y"), [tensor("m", np.zeros((8, 8)))]),
        (node("Relu", "", "y"), []),
        (node("Relu", "c c", "y"), []),
        (node("Relu", "c", "y z"), []),
        (node("Conv", "c", "y"), []),
        (node("MaxPool", "c", "y"), []),
        (node("Conv", "c m", "y", strides=1.5), [tensor("m", np.zeros((2, 6, 1, 1)))]),
        (node("Conv", "c m", "y", strides="x"), [tensor("m", np.zeros((2, 6, 1, 1)))]),
        (node("Conv", "c m", "y", colour=1), [tensor("m", np.zeros((2, 6, 1, 1)))]),
        (node("Conv", "c m", "y"), [tensor("m", np.zeros((2, 6, 1, 1)), np.int64)]),
        (node("Upsample", "c k", "y"), [tensor("k", [1.0, 1.0, 2.0, 2.0])]),
        (node("relu", "c", "y"), []),
    ],
    ids=lambda given: given.op_type if isinstance(given, onnx.NodeProto) else None,
)  # fmt: skip
def test_nodes_that_ask_for_too_much_or_fit_nothing(one, tensors, tmp_path):
    refused(with_node(tmp_path / "net.onnx", one, *tensors), SENTENCES)


@pytest.mark.parametrize("start", ["b", "c"])
def test_doubling_again_and_again(start, tmp_path):
    axis = 1 if start == "c" else 0
    names = [start, *(f"x{n}" for n in range(60))]
    nodes = [node("Concat", f"{a} {a}", b, b, axis=axis) for a, b in itertools.pairwise(names)]
    nodes = [small_nodes()[0], *nodes, node("Relu", "x59", "scores")]
    refused(save(tmp_path / "net.onnx", make(nodes, small_tensors())), "asks for more than 2 GiB|reads 0 inputs")


def test_products_again_and_again(tmp_path):
    names = ["m", *(f"x{n}" for n in range(500))]
    nodes = [node("MatMul", f"{a} m", b, b) for a, b in itertools.pairwise(names)]
    nodes = [small_nodes()[0], *nodes, node("ReduceMean", "x499", "k", keepdims=0), node("Mul", "c k", "scores")]
    tensors = [*small_tensors(), tensor("m", weights((1000, 1000)) / 30)]
    refused(save(tmp_path / "net.onnx", make(nodes, tensors)), "computes more with its weights")


def test_folding_again_and_again(tmp_path):
    names = ["c", *(f"x{n}" for n in range(800))]
    nodes = [node("Mul", f"{a} k", b, b) for a, b in itertools.pairwise(names)]
    nodes = [node("Conv", "input w b", "c"), *nodes, node("GlobalAveragePool", "x799", "scores")]
    tensors = [tensor("w", weights((1000, 3, 32, 32))), tensor("b", weights((1000,))), tensor("k", [1.0])]
    refused(save(tmp_path / "net.onnx", make(nodes, tensors, (1, 3, 32, 32))), "computes more with its weights")


# -- the file itself


@pytest.mark.parametrize(
    ("opset", "message"),
    [
        (0, "does not say which version"),
        (-5, "does not say which version"),
        (3, "7 is the oldest"),
        (6, "7 is the oldest"),
        (2**40, "Update onnx"),
    ],
)
def test_versions_that_are_not_read(opset, message, tmp_path):
    refused(small(tmp_path / "net.onnx", opset=opset), message)


def test_a_net_that_says_no_version(tmp_path):
    model = make(small_nodes(), small_tensors())
    del model.opset_import[:]
    refused(save(tmp_path / "net.onnx", model), "does not say which version")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 2\n", "Git LFS pointer"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "HDF5"),
        (b"\x08\x08" + b"\xff" * 50, "cannot be read|holds no nodes"),
        (b"\0\1\2\3" * 50, "cannot be read|holds no nodes"),
        (b'\n\x04tiny"\x02hi', "A Caffe net is named .caffemodel"),
    ],
    ids=lambda given: given[:12] if isinstance(given, bytes) else None,
)
def test_files_that_are_something_else(content, message, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    refused(path, message)


@pytest.mark.parametrize("suffix", [".caffemodel", ".safetensors", ".caffemodel.h5"])
def test_onnx_under_another_name_is_recognised(suffix, tmp_path):
    path = small(tmp_path / f"net{suffix}")
    with pytest.raises(ModelError, match=r"it is an ONNX file\. Name it \.onnx\."):
        lrpcli.load_model(path)


def test_files_that_were_cut_off(tmp_path):
    data = small(tmp_path / "net.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    for end in range(0, len(data), 7):
        path.write_bytes(data[:end])
        with pytest.raises(LrpError) as raised:
            lrpcli.load_model(path)
        assert re.search(r"cut\.onnx", str(raised.value))
