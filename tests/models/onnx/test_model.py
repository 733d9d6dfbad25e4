"""What an ONNX file says of its model: outputs, input, preprocessing, hash, facts, and what the commands show."""

import hashlib
import json
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

import lrpcli
from lrpcli.errors import ModelError, UnsupportedLayer
from tests.models.onnx.files import (
    difference,
    equals_onnxruntime,
    images,
    make,
    node,
    run,
    save,
    scores,
    small,
    small_nodes,
    small_tensors,
    tensor,
    value,
    weights,
)
from tests.resilience.runs import lrp


@pytest.fixture
def net(tmp_path):
    return small(tmp_path / "net.onnx")


def test_a_file_is_a_model(net):
    model = equals_onnxruntime(net)
    assert (model.name, model.source, model.input_shape, model.outputs) == ("net", str(net), (3, 8, 8), 4)
    assert (model.head, model.heads) == ("scores", ("scores",))
    assert model.weights_sha256 == hashlib.sha256(net.read_bytes()).hexdigest()


def test_relevance_is_conserved_down_to_the_last_bias(net):
    model = lrpcli.load_model(net)
    result = lrpcli.Explainer(model, config="epsilon", dtype=torch.float64)(images(model).double())
    assert result.relevance.isfinite().all()


def test_layers_are_named_as_nodes(net):
    shown = json.loads(lrp("models", "show", net, "--json").stdout)
    assert [layer["layer"] for layer in shown["layers"]] == ["conv1", "relu1", "pool1", "norm1", "pool2", "flat", "fc"]
    assert shown["preprocessing"] is None


def test_nodes_without_names_or_with_the_same_are_named_by_what_they_make(tmp_path):
    nodes = small_nodes()
    for one in nodes:
        one.name = "same" if one.op_type in ("Conv", "Relu") else ""
    model = lrpcli.load_model(save(tmp_path / "net.onnx", make(nodes, small_tensors())))
    from lrpcli.models.layer_table import layer_table

    assert [row.name for row in layer_table(model)] == ["c", "r", "p", "n", "g", "f", "scores"]


def test_preprocessing_is_unknown_until_it_is_given(net, tmp_path):
    assert lrpcli.load_model(net).preprocessing is None
    assert lrpcli.load_model(net, preprocessing="unit").preprocessing is not None
    refused = lrp("explain", "sample_images/astronaut.jpg", "-o", tmp_path / "out", "--model", net)
    assert refused.exit_code == 2
    assert "--preprocessing NAME" in refused.stderr


@pytest.mark.parametrize(
    ("pixels", "numbers", "order", "low", "high"),
    [
        ("Rgb8", "NominalRange_0_255", "RGB", 0, 255),
        ("Bgr8", "Normalized_0_1", "BGR", 0, 1),
        ("Rgb8", "Normalized_1_1", "RGB", -1, 1),
    ],
)
def test_metadata_of_images_say_what_pixels_become(pixels, numbers, order, low, high, tmp_path):
    model = make(small_nodes(), small_tensors())
    onnx.helper.set_model_props(model, {"Image.BitmapPixelFormat": pixels, "Image.NominalPixelRange": numbers})
    found = lrpcli.load_model(save(tmp_path / "net.onnx", model))
    assert found.preprocessing.channel_order == order
    assert [float(bound.max()) for bound in found.pixel_range] == pytest.approx([low, high])
    assert found.stated_by == "the file's metadata"


@pytest.mark.parametrize(
    "metadata",
    [
        {"Image.BitmapPixelFormat": "Rgb8"},
        {"Image.BitmapPixelFormat": "Gray8", "Image.NominalPixelRange": "NominalRange_0_255"},
        {"Image.BitmapPixelFormat": "Rgb8", "Image.NominalPixelRange": "NominalRange_16_235"},
        {
            "Image.BitmapPixelFormat": "Rgb8",
            "Image.NominalPixelRange": "Normalized_0_1",
            "Image.ColorSpaceGamma": "Linear",
        },
    ],
    ids=str,
)
def test_metadata_that_do_not_say_all_say_nothing(metadata, tmp_path):
    model = make(small_nodes(), small_tensors())
    onnx.helper.set_model_props(model, metadata)
    assert lrpcli.load_model(save(tmp_path / "net.onnx", model)).preprocessing is None


def _two_heads(path, second="more"):
    nodes = [*small_nodes(), node("Gemm", "f v2", "more", "fc2", transB=1), node("Softmax", "scores", "odds", "soft")]
    return save(path, make(nodes, [*small_tensors(), tensor("v2", weights((3, 6), 9))], outputs=["scores", second]))


def test_of_several_scores_one_must_be_chosen(tmp_path):
    path = _two_heads(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"outputs 'scores', 'more', of which 'scores', 'more' may be scores\. Choose"):
        lrpcli.load_model(path)
    model = equals_onnxruntime(path, output="more")
    assert (model.head, model.heads, model.outputs) == ("more", ("more", "scores"), 3)
    assert model.facts["heads"] == "'more' is explained; others are 'scores'; --output NAME chooses"
    with pytest.raises(ModelError, match=r"has no output 'scorse'\. Did you mean 'scores'\?"):
        lrpcli.load_model(path, output="scorse")


@pytest.mark.parametrize("other", ["r", "best"])
def test_the_only_output_that_is_scores_is_explained(other, tmp_path):
    kind = TensorProto.INT64 if other == "best" else TensorProto.FLOAT
    nodes = [*small_nodes(), node("ArgMax", "scores", "best", "arg", axis=1)]
    path = save(tmp_path / "net.onnx", make(nodes, small_tensors(), outputs=[value(other, None, kind), "scores"]))
    model = lrpcli.load_model(path)
    assert (model.head, model.heads) == ("scores", ("scores", other))
    assert difference(scores(model, images(model, 1)), run(path, images(model, 1), "scores")) < 1e-6


def test_an_output_that_is_no_scores_is_refused(tmp_path):
    path = save(tmp_path / "net.onnx", make(small_nodes()[:3], small_tensors(), outputs=["p"]))
    with pytest.raises(ModelError, match="not one score per class"):
        lrpcli.load_model(path)


def test_operators_behind_another_output_do_not_matter(tmp_path):
    strange = node("ZipMap", "scores", "map", "zip")
    strange.domain = "ai.onnx.ml"
    path = save(tmp_path / "net.onnx", make([*small_nodes(), strange], small_tensors(), outputs=["scores", "map"]))
    assert lrpcli.load_model(path).head == "scores"
    with pytest.raises(
        UnsupportedLayer, match=r"node 'zip' \(ai.onnx.ml.ZipMap, opset 17\).*not one of the ONNX standard"
    ):
        lrpcli.load_model(path, output="map")


def test_a_file_of_one_output_takes_its_name(net):
    assert lrpcli.load_model(net, output="scores").head == "scores"
    with pytest.raises(ModelError, match="has no output 'score'"):
        lrpcli.load_model(net, output="score")


@pytest.mark.parametrize("batch", [None, "N", 1, 2, 5, 0])
def test_any_batch_is_explained_image_by_image(batch, tmp_path):
    nodes = small_nodes()
    nodes[5] = node("Reshape", "g s", "f", "flat")
    shape = tensor("s", [batch if isinstance(batch, int) and batch else -1, 6])
    model = lrpcli.load_model(save(tmp_path / "net.onnx", make(nodes, [*small_tensors(), shape], (batch, 3, 8, 8))))
    other = lrpcli.load_model(small(tmp_path / "other.onnx"))
    x = images(model, 3)
    assert np.array_equal(scores(model, x), scores(other, x))


def test_ir_3_lists_every_tensor_as_an_input(tmp_path):
    inputs = [value(proto.name, list(proto.dims)) for proto in small_tensors()]
    model = make(small_nodes(), small_tensors(), inputs=[*inputs, value("input", (1, 3, 8, 8))], opset=8)
    model.ir_version = 3
    equals_onnxruntime(save(tmp_path / "net.onnx", model))


def test_whole_pixels_that_are_cast(tmp_path):
    nodes = [node("Cast", "input", "x", "cast", to=TensorProto.FLOAT), *small_nodes()]
    nodes[1].input[0] = "x"
    path = save(
        tmp_path / "net.onnx", make(nodes, small_tensors(), inputs=[value("input", (1, 3, 8, 8), TensorProto.UINT8)])
    )
    model = lrpcli.load_model(path)
    x = torch.randint(0, 256, (1, 3, 8, 8))
    assert difference(scores(model, x.float()), run(path, x.to(torch.uint8))) < 1e-5


def test_whole_pixels_that_are_computed_with_are_refused(tmp_path):
    nodes = [node("Add", "input input", "y", "twice"), node("Cast", "y", "x", "cast", to=1), *small_nodes()]
    nodes[2].input[0] = "x"
    path = save(
        tmp_path / "net.onnx", make(nodes, small_tensors(), inputs=[value("input", (1, 3, 8, 8), TensorProto.UINT8)])
    )
    with pytest.raises(UnsupportedLayer, match="whole numbers; cast the input"):
        lrpcli.load_model(path)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16])
def test_other_types_of_numbers_are_read_as_float32(kind, tmp_path):
    tensors = [onnx.helper.make_tensor(proto.name, kind, proto.dims, onnx.numpy_helper.to_array(proto).ravel().tolist())
               for proto in small_tensors()]  # fmt: skip
    model = make(small_nodes(), tensors, inputs=[value("input", (1, 3, 8, 8), kind)])
    own = lrpcli.load_model(save(tmp_path / "net.onnx", model))
    other = lrpcli.load_model(small(tmp_path / "other.onnx"))
    x = images(own)
    assert difference(scores(own, x), scores(other, x)) < 2e-2


def test_a_factor_behind_a_value_that_two_read_changes_only_one(tmp_path):
    """Identity gives a value a second name; the convolution behind both stays as it is."""
    nodes = [
        node("Conv", "input w b", "c", "conv"),
        node("Identity", "c", "same", "same"),
        node("Mul", "same k", "m", "times"),
        node("Add", "m c", "s", "sum"),
        node("GlobalAveragePool", "s", "scores", "pool"),
    ]
    tensors = [tensor("w", weights((4, 3, 3, 3))), tensor("b", weights((4,))), tensor("k", weights((4, 1, 1)) + 3)]
    equals_onnxruntime(save(tmp_path / "net.onnx", make(nodes, tensors)))


@pytest.mark.parametrize("opset", [9, 11, 13, 17, 21])
def test_versions_of_the_standard_are_known_by_meaning(opset, tmp_path):
    """Axes, bounds and sizes are attributes in earlier versions and inputs in later ones."""
    later = {"Clip": 11, "Pad": 11, "Slice": 10, "Squeeze": 13, "Unsqueeze": 13}
    lists = {"lo": -0.5, "hi": 0.7, "pads": [0, 0, 1, 0, 0, 0, 0, 2], "ax": [2, 3], "st": [1, 0], "en": [99, -1],
             "one": [4], "sq": [4]}  # fmt: skip

    def either(operator, source, target, name, given, attributes):
        if opset >= later[operator]:
            return node(operator, f"{source} {given}", target, name)
        return node(operator, source, target, name, **attributes)

    nodes = [
        node("Conv", "input w b", "c", "conv"),
        either("Clip", "c", "k", "clip", "lo hi", {"min": -0.5, "max": 0.7}),
        either("Pad", "k", "p", "pad", "pads", {"pads": lists["pads"]}),
        either("Slice", "p", "s", "slice", "st en ax", {"starts": [1, 0], "ends": [99, -1], "axes": [2, 3]}),
        either("Unsqueeze", "s", "u", "more", "one", {"axes": [4]}),
        either("Squeeze", "u", "q", "less", "sq", {"axes": [4]}),
        node("ReduceMean", "q", "m", "mean", axes=[2, 3], keepdims=0) if opset < 18 else
        node("ReduceMean", "q ax", "m", "mean", keepdims=0),
        node("Dropout", "m", "d", "drop"),
        node("Softmax", "d", "scores", "soft", axis=1),
    ]  # fmt: skip
    tensors = [
        tensor("w", weights((4, 3, 3, 3))),
        tensor("b", weights((4,))),
        *(tensor(n, v) for n, v in lists.items()),
    ]
    equals_onnxruntime(save(tmp_path / "net.onnx", make(nodes, tensors, opset=opset)))


def test_axes_before_opset_13_are_all_from_that_one_on(tmp_path):
    """Softmax of maps (N, C, 1, 1) along axis 1, as Caffe2's nets have it."""
    nodes = [
        node("Conv", "input w b", "c", "conv"),
        node("GlobalAveragePool", "c", "g"),
        node("Softmax", "g", "scores"),
    ]
    tensors = [tensor("w", weights((4, 3, 3, 3))), tensor("b", weights((4,)))]
    equals_onnxruntime(save(tmp_path / "net.onnx", make(nodes, tensors, opset=11)))


@pytest.mark.parametrize("batch", [None, 1, 2])
def test_shapes_that_name_the_batch_leave_it_open(batch, tmp_path):
    """A softmax over maps before opset 13, a slice of all images, and a Gather of several axes."""
    nodes = [
        node("Conv", "input w b", "c", "conv"),
        node("Softmax", "c", "s", "soft", axis=2),
        node("Slice", "s st en", "l", "slice"),
        node("Gather", "l ix", "g", "gather", axis=1),
        node("ReduceMean", "g", "scores", "mean", axes=[2, 3, 4], keepdims=0),
    ]
    tensors = [tensor("w", weights((4, 3, 3, 3))), tensor("b", weights((4,))), tensor("st", [0, 1]),
               tensor("en", [batch or 1, 9]), tensor("ix", [[0, 2], [1, 1], [2, 0]])]  # fmt: skip
    path = save(tmp_path / "net.onnx", make(nodes, tensors, (batch, 3, 8, 8), opset=11))
    model = lrpcli.load_model(path)
    x = images(model, 4)
    one_by_one = np.concatenate([scores(model, image[None]) for image in x])
    assert difference(scores(model, x), one_by_one) < 1e-6
    if batch == 2:
        wanted = np.concatenate([run(path, x[:2]), run(path, x[2:])])
        assert difference(one_by_one, wanted) < 1e-6


def test_pooling_over_nothing_is_refused(tmp_path):
    nodes = [*small_nodes()[:-1], node("GlobalMaxPool", "f", "scores", "pool")]
    path = save(tmp_path / "net.onnx", make(nodes, small_tensors()))
    with pytest.raises(UnsupportedLayer, match=r"node 'pool' \(GlobalMaxPool.*shape \(1, 6\)"):
        lrpcli.load_model(path)


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool", "Conv"])
@pytest.mark.parametrize(
    "pads",
    [{"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}, {"pads": [0, 0, 1, 1]}, {"pads": [1, 0, 0, 2]}],
    ids=str,
)
def test_uneven_padding(operator, pads, tmp_path):
    inputs = "r w2" if operator == "Conv" else "r"
    kernel = {} if operator == "Conv" else {"kernel_shape": [3, 3]}
    nodes = [
        node("Conv", "input w b", "c", "conv"),
        node("Relu", "c", "r"),
        node(operator, inputs, "p", "window", strides=[2, 2], **kernel, **pads),
        node("GlobalAveragePool", "p", "scores"),
    ]
    tensors = [tensor("w", weights((4, 3, 3, 3))), tensor("b", weights((4,))), tensor("w2", weights((4, 4, 3, 3)))]
    model = equals_onnxruntime(save(tmp_path / "net.onnx", make(nodes, tensors)))
    assert lrpcli.Explainer(model)(images(model)).relevance.isfinite().all()


def test_an_if_is_the_branch_that_its_condition_chooses(tmp_path):
    branches = {}
    for name, k in (("then_branch", "k1"), ("else_branch", "k2")):
        inner = onnx.helper.make_graph([node("Mul", f"c {k}", "inner", "times")], name, [], [value("inner", None)])
        branches[name] = inner
    for chosen in (True, False):
        nodes = [
            node("Conv", "input w b", "c", "conv"),
            node("If", "flag", "y", "choice", **branches),
            node("GlobalAveragePool", "y", "scores"),
        ]
        tensors = [
            tensor("w", weights((4, 3, 3, 3))),
            tensor("b", weights((4,))),
            tensor("k1", [2.0]),
            tensor("k2", [-1.0]),
        ]
        tensors.append(onnx.numpy_helper.from_array(np.array(chosen), "flag"))
        equals_onnxruntime(save(tmp_path / f"{chosen}.onnx", make(nodes, tensors)))


def test_without_the_onnx_package_one_sentence_says_what_to_install(net, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"needs the package onnx, .* pip install 'lrpcli\[onnx\]'\.$"):
        lrpcli.load_model(net)


def test_unknown_operators_are_named_with_their_version_and_what_to_do(tmp_path):
    nodes = small_nodes()
    nodes[1] = node("Einsum", "c", "r", "strange", equation="nchw->nchw")
    path = save(tmp_path / "net.onnx", make(nodes, small_tensors()))
    message = (
        rf"^The node 'strange' \(Einsum, opset 17\) of '{path}' cannot be imported: the operator is not known\. Export "
        r"the net without it, or explain the net that the file was made from in Python"
    )
    with pytest.raises(UnsupportedLayer, match=message):
        lrpcli.load_model(path)


@pytest.mark.slow
def test_a_net_of_a_hundred_layers_takes_seconds(tmp_path):
    nodes, tensors = [], []
    for number in range(100):
        source = f"r{number - 1}" if number else "input"
        channels = 64 if number else 3
        nodes += [node("Conv", f"{source} w{number}", f"c{number}", f"conv{number}", pads=[1, 1, 1, 1]),
                  node("Relu", f"c{number}", f"r{number}", f"relu{number}")]  # fmt: skip
        tensors.append(tensor(f"w{number}", weights((64, channels, 3, 3)) / 8))
    nodes.append(node("GlobalAveragePool", "r99", "scores", "pool"))
    path = save(tmp_path / "net.onnx", make(nodes, tensors, (1, 3, 16, 16)))
    equals_onnxruntime(path)
