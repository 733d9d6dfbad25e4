"""Every layer type of the Caffe importer, against OpenCV or a few lines of NumPy, and what is refused by name."""

from pathlib import Path

import numpy as np
import pytest
import torch

import lrpcli
from lrpcli.errors import ModelError, UnsupportedLayer
from lrpcli.models import load_model
from tests.models.files import write_caffemodel
from tests.models.test_forward import assert_close, images, opencv, run

HEAD = 'input: "data" input_shape { dim: 1 dim: 4 dim: 9 dim: 8 }\n'
TAIL = """
layer { name: "pooled" type: "Pooling" bottom: "y" top: "pooled" pooling_param { pool: AVE global_pooling: true } }
"""
LAYERS = {
    "grouped": 'type: "Convolution" convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad: 1 group: 2 }',
    "rectangular": 'type: "Convolution" convolution_param { num_output: 5 kernel_h: 3 kernel_w: 2 pad_h: 1 pad_w: 0 '
    "stride_h: 2 stride_w: 1 }",
    "dilated": 'type: "Convolution" convolution_param { num_output: 5 kernel_size: 3 dilation: 2 bias_term: false }',
    "transposed": 'type: "Deconvolution" convolution_param { num_output: 5 kernel_size: 3 stride: 2 pad: 1 }',
    "max-pool": 'type: "Pooling" pooling_param { pool: MAX kernel_size: 3 stride: 2 }',
    "padded-max-pool": 'type: "Pooling" pooling_param { pool: MAX kernel_size: 3 stride: 2 pad: 1 }',
    "average-pool": 'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }',
    "across": 'type: "LRN" lrn_param { local_size: 3 alpha: 0.01 beta: 0.6 }',
    "within": 'type: "LRN" lrn_param { local_size: 3 alpha: 0.01 beta: 0.75 norm_region: WITHIN_CHANNEL }',
    "leaky": 'type: "ReLU" relu_param { negative_slope: 0.1 }',
    "elu": 'type: "ELU" elu_param { alpha: 1 }',
    "sigmoid": 'type: "Sigmoid"',
    "tanh": 'type: "TanH"',
    "bnll": 'type: "BNLL"',
    "dropout": 'type: "Dropout" dropout_param { dropout_ratio: 0.3 }',
    "power": 'type: "Power" power_param { scale: 0.5 shift: 2 }',
}
SHAPES = {
    "grouped": [(6, 2, 3, 3), (6,)], "rectangular": [(5, 4, 3, 2), (5,)], "dilated": [(5, 4, 3, 3)],
    "transposed": [(4, 5, 3, 3), (5,)],
}  # fmt: skip


def net(tmp_path: Path, text: str, shapes: dict[str, list[tuple[int, ...]]]) -> tuple[Path, Path]:
    """A net description, and positive random blobs of the given shapes for its layers."""
    random = np.random.default_rng(3)
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(text)
    blobs = {name: [random.uniform(0.1, 1, shape).astype(np.float32) for shape in s] for name, s in shapes.items()}
    return prototxt, write_caffemodel(tmp_path / "net.caffemodel", blobs or {"unused": []}, text)


def check(tmp_path: Path, text: str, shapes: dict[str, list[tuple[int, ...]]]) -> lrpcli.Model:
    """Asserts that the net computes what OpenCV computes."""
    prototxt, weights = net(tmp_path, text, shapes)
    model = load_model(weights, prototxt=prototxt)
    x = images(model.input_shape) / 50
    assert_close(run(model, x), opencv(prototxt, weights, x), 2e-5)
    return model


# A first convolution keeps the other layers from being the whole net, which must hold some weights.
FIRST = (
    'layer { name: "first" type: "Convolution" bottom: "data" top: "x" '
    "convolution_param { num_output: 4 kernel_size: 1 } }\n"
)
FIRST_SHAPES = {"first": [(4, 4, 1, 1), (4,)]}


@pytest.mark.parametrize("kind", LAYERS)
def test_layer_equals_opencv(kind: str, tmp_path: Path) -> None:
    text = HEAD + FIRST + f'layer {{ name: "layer" bottom: "x" top: "y" {LAYERS[kind]} }}' + TAIL
    check(tmp_path, text, {**FIRST_SHAPES, "layer": SHAPES.get(kind, [])} if kind in SHAPES else FIRST_SHAPES)


def test_across_channels_reads_k(tmp_path: Path) -> None:
    """VGG's nets have k = 2, which OpenCV does not read."""
    norm = (
        'layer { name: "n" type: "LRN" bottom: "data" top: "y" lrn_param { local_size: 3 alpha: 0.01 beta: 0.6 k: 2 } }'
    )
    fc = 'layer { name: "fc" type: "InnerProduct" bottom: "y" top: "z" inner_product_param { num_output: 1 } }'
    _, weights = net(tmp_path, HEAD + norm + fc, {"fc": [(1, 288), (1,)]})
    model = load_model(weights)
    x = images((4, 9, 8))
    squares = np.pad(x.astype(np.float64) ** 2, ((0, 0), (1, 1), (0, 0), (0, 0)))
    expected = x / (2 + 0.01 / 3 * (squares[:, :-2] + squares[:, 1:-1] + squares[:, 2:])) ** 0.6
    assert_close(model.module.n(torch.from_numpy(x)).numpy(), expected)


def test_branches_equal_opencv(tmp_path: Path) -> None:
    """Split by channels and by name, weighted sum, product, maximum, concatenation, in-place layers."""
    text = (
        HEAD
        + FIRST
        + """
    layer { name: "slice" type: "Slice" bottom: "x" top: "a" top: "b" slice_param { slice_point: 2 } }
    layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
    layer { name: "split" type: "Split" bottom: "b" top: "b1" top: "b2" }
    layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b1" top: "s" eltwise_param { coeff: 1 coeff: -2 } }
    layer { name: "product" type: "Eltwise" bottom: "a" bottom: "b2" top: "p" eltwise_param { operation: PROD } }
    layer { name: "max" type: "Eltwise" bottom: "s" bottom: "b" top: "m" eltwise_param { operation: MAX } }
    layer { name: "concat" type: "Concat" bottom: "m" bottom: "p" bottom: "s" top: "y" }
    """
        + TAIL
    )
    check(tmp_path, text, FIRST_SHAPES)


def test_batch_norm_scale_and_prelu_equal_opencv(tmp_path: Path) -> None:
    text = (
        HEAD
        + FIRST
        + """
    layer { name: "bn" type: "BatchNorm" bottom: "x" top: "n" batch_norm_param { eps: 0.001 } }
    layer { name: "scale" type: "Scale" bottom: "n" top: "n" scale_param { bias_term: true } }
    layer { name: "prelu" type: "PReLU" bottom: "n" top: "y" }
    """
        + TAIL
    )
    shapes = {**FIRST_SHAPES, "bn": [(4,), (4,), (1,)], "scale": [(4,), (4,)], "prelu": [(4,)]}
    check(tmp_path, text, shapes)


def test_views_and_fully_connected_equal_opencv(tmp_path: Path) -> None:
    text = (
        HEAD
        + FIRST
        + """
    layer { name: "flatten" type: "Flatten" bottom: "x" top: "f" }
    layer { name: "fc" type: "InnerProduct" bottom: "f" top: "g" inner_product_param { num_output: 12 } }
    layer { name: "reshape" type: "Reshape" bottom: "g" top: "r"
            reshape_param { shape { dim: 0 dim: 3 dim: -1 dim: 1 } } }
    layer { name: "out" type: "InnerProduct" bottom: "r" top: "o" inner_product_param { num_output: 3 } }
    layer { name: "prob" type: "Softmax" bottom: "o" top: "p" }
    """
    )
    shapes = {**FIRST_SHAPES, "fc": [(12, 288), (12,)], "out": [(3, 12), (3,)]}
    check(tmp_path, text, shapes)


def test_bias_layer_and_transposed_weights(tmp_path: Path) -> None:
    text = (
        HEAD
        + """
    layer { name: "bias" type: "Bias" bottom: "data" top: "x" }
    layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"
            inner_product_param { num_output: 3 transpose: true bias_term: false } }
    """
    )
    _, weights = net(tmp_path, text, {"bias": [(4,)], "fc": [(288, 3)]})
    model = load_model(weights)
    x = images((4, 9, 8))
    shift = model.module.bias.bias.numpy()
    weight = model.module.fc.weight.numpy()
    assert_close(run(model, x), (x + shift[:, None, None]).reshape(1, -1) @ weight.T, 1e-5)


def test_training_net_is_cut_down_to_the_classifier(tmp_path: Path) -> None:
    """As in official files: data layer with crop, an auxiliary head, accuracy and losses, phases."""
    fc = 'type: "InnerProduct" inner_product_param { num_output: 5 }'
    text = f"""
    layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TRAIN }}
            transform_param {{ crop_size: 12 mean_value: 10 mean_value: 20 mean_value: 30 scale: 0.5 }} }}
    layer {{ name: "data" type: "Data" top: "data" top: "label" include {{ phase: TEST }}
            transform_param {{ crop_size: 12 mean_value: 10 mean_value: 20 mean_value: 30 scale: 0.5 }} }}
    layer {{ name: "conv" type: "Convolution" bottom: "data" top: "conv"
            convolution_param {{ num_output: 4 kernel_size: 3 }} }}
    layer {{ name: "aux" bottom: "conv" top: "aux" {fc} }}
    layer {{ name: "loss1" type: "SoftmaxWithLoss" bottom: "aux" bottom: "label" top: "loss1" }}
    layer {{ name: "fc" bottom: "conv" top: "fc" {fc} }}
    layer {{ name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy"
            include {{ phase: TEST }} }}
    layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}
    """
    shapes = {"conv": [(4, 3, 3, 3), (4,)], "aux": [(5, 400), (5,)], "fc": [(5, 400), (5,)]}
    weights = tmp_path / "training.caffemodel"
    random = np.random.default_rng(0)
    blobs = {name: [random.normal(size=shape).astype(np.float32) for shape in s] for name, s in shapes.items()}
    model = load_model(write_caffemodel(weights, blobs, text))
    assert [node.meta["layer"] for node in model.module.graph.nodes if "layer" in node.meta] == [
        "conv", "fc/flatten", "fc",
    ]  # fmt: skip
    assert model.input_shape == (3, 12, 12)
    assert model.preprocessing.mean == (10, 20, 30)
    assert model.preprocessing.std == (2, 2, 2)
    assert model.preprocessing.channel_order == "BGR"


REFUSED = {
    'type: "Crop"': "type Crop is not known",
    'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 }': "it is stochastic",
    'type: "Power" power_param { power: 2 }': "its power is 2.0",
    'type: "Convolution" convolution_param { num_output: 2 kernel_size: 1 axis: 2 }': "its axis is 2, not 1",
    'type: "Pooling" pooling_param { kernel_size: 3 pad: 2 }': "it pads by more than half of its window",
}


@pytest.mark.parametrize("layer", REFUSED)
def test_unsupported_layers_are_named(layer: str, tmp_path: Path) -> None:
    _, weights = net(tmp_path, HEAD + FIRST + f'layer {{ name: "odd one" bottom: "x" top: "y" {layer} }}', FIRST_SHAPES)
    with pytest.raises(UnsupportedLayer) as caught:
        load_model(weights)
    assert f"The layer 'odd one' of {str(weights)!r}" in str(caught.value)
    assert REFUSED[layer] in str(caught.value)
    assert "Replace it in the net description" in str(caught.value)


IMPOSSIBLE = {
    'type: "LRN" lrn_param { local_size: 4 }': "windows of odd size only",
    'type: "Convolution" convolution_param { num_output: 5 kernel_size: 1 group: 2 }': "cannot be cut into 2 groups",
    'type: "Convolution" convolution_param { num_output: 5 }': "its kernel size is not given",
    'type: "Pooling" pooling_param { kernel_size: 99 }': "would put out a blob of shape",
    'type: "Concat" bottom: "data" concat_param { axis: 9 }': "its axis is 9",
    'type: "Eltwise" bottom: "data" eltwise_param { coeff: 1 }': "1 coefficients for 2 inputs",
    'type: "Reshape" reshape_param { shape { dim: 0 dim: 7 } }': "cannot be reshaped to",
    'type: "Convolution" convolution_param { num_output: 99999999 kernel_size: 1 }': "its num_output is 99999999",
    'type: "InnerProduct" inner_product_param { num_output: 4 }': "holds no weights for layer 'odd one'",
    'type: "ReLU" top: "z"': "has 2 outputs; a ReLU layer makes 1 at most",
    'type: "Pooling" top: "z" top: "w" pooling_param { kernel_size: 2 }': "has 3 outputs",
}


@pytest.mark.parametrize("layer", IMPOSSIBLE)
def test_layers_that_cannot_be_made_are_named(layer: str, tmp_path: Path) -> None:
    _, weights = net(tmp_path, HEAD + FIRST + f'layer {{ name: "odd one" bottom: "x" top: "y" {layer} }}', FIRST_SHAPES)
    with pytest.raises(ModelError) as caught:
        load_model(weights)
    assert "'odd one'" in str(caught.value)
    assert IMPOSSIBLE[layer] in str(caught.value)


def test_the_places_of_a_pooling_are_passed_over_and_not_read(tmp_path: Path) -> None:
    """Its second output; one that is called like the image is not taken for that."""
    pooling = (
        'layer {{ name: "pool" type: "Pooling" bottom: "x" top: "y" top: "{places}" '
        "pooling_param {{ kernel_size: 3 }} }}"
        'layer {{ name: "fc" type: "InnerProduct" bottom: "{read}" top: "scores" '
        "inner_product_param {{ num_output: 2 }} }}"
    )
    shapes = {**FIRST_SHAPES, "fc": [(2, 4 * 7 * 6), (2,)]}
    check(tmp_path, HEAD + FIRST + pooling.format(places="places", read="y"), shapes)
    for places in ("places", "data"):
        _, weights = net(tmp_path, HEAD + FIRST + pooling.format(places=places, read=places), shapes)
        with pytest.raises(ModelError, match=f"The layer 'fc' of .* reads '{places}', the places of the largest"):
            load_model(weights)
    _, weights = net(tmp_path, HEAD + FIRST + pooling.format(places="places", read="y"), shapes)
    with pytest.raises(ModelError, match=r"The output 'places' of .* cannot be made here"):
        load_model(weights, output="places")


def test_nets_that_are_no_image_classifier_are_refused(tmp_path: Path) -> None:
    _, maps = net(tmp_path, HEAD + FIRST, FIRST_SHAPES)
    with pytest.raises(ModelError, match="not one score per class; only nets that classify whole images"):
        load_model(maps)
    two = 'layer { name: "sum" type: "Eltwise" bottom: "x" bottom: "other" top: "y" }'
    _, branches = net(tmp_path, HEAD + FIRST + two, FIRST_SHAPES)
    with pytest.raises(
        ModelError, match="The layer 'sum' of .* reads 'other', which is no input, and no layer makes it"
    ):
        load_model(branches)


def test_layer_names_cannot_become_code(tmp_path: Path) -> None:
    """torch.fx writes attribute names into Python source; names come from a file that somebody made."""
    trap = tmp_path / "trap"
    name = f'a"), open({str(trap)!r}, "w"), getattr(self, "a'
    text = (
        HEAD
        + """
    layer { name: 'NAME' type: "Convolution" bottom: "data" top: "y"
            convolution_param { num_output: 2 kernel_h: 9 kernel_w: 8 } }
    layer { name: "forward" type: "ReLU" bottom: "y" top: "y" }
    layer { name: "a.b" type: "ReLU" bottom: "y" top: "y" }
    layer { name: "a_b" type: "ReLU" bottom: "y" top: "y" }
    layer { name: "class" type: "ReLU" bottom: "y" top: "y" }
    layer { name: "1/2" type: "ReLU" bottom: "y" top: "y" }
    """.replace("NAME", name.replace("'", "\\'"))
    )
    _, weights = net(tmp_path, text, {name: [(2, 4, 9, 8), (2,)]})
    model = load_model(weights)
    run(model, images((4, 9, 8)))
    assert not trap.exists()
    assert set(dict(model.module.named_children())) >= {"layer_forward", "a_b", "a_b_2", "layer_class", "layer_1_2"}
    assert [node.meta["layer"] for node in model.module.graph.nodes if node.op == "call_module"] == [
        name, "forward", "a.b", "a_b", "class", "1/2",
    ]  # fmt: skip
    assert isinstance(model.module, torch.fx.GraphModule)


FC = 'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "fc" inner_product_param { num_output: 4 } }\n'
FC_SHAPES = {**FIRST_SHAPES, "fc": [(4, 288), (4,)]}
LRP0 = {"bias": "ignore", "kind": {"linear": {"rule": "epsilon", "epsilon": 0.0}}}


def explainer(tmp_path: Path, text: str, shapes: dict[str, list[tuple[int, ...]]], config: object) -> lrpcli.Explainer:
    prototxt, weights = net(tmp_path, text, shapes)
    model = load_model(weights, prototxt=prototxt, preprocessing="raw")
    return lrpcli.Explainer(model, config, dtype=torch.float64, device="cpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("relu", [True, False], ids=["behind ReLU", "folded"])
@pytest.mark.parametrize("place", ["before", "behind"])
def test_power_is_explained_as_scale_is(place: str, relu: bool, tmp_path: Path) -> None:
    """A shift is a bias; of an input that is 0 it took the relevance also where biases are ignored."""
    active = 'layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }\n' if relu else ""
    power = 'type: "Power" power_param { scale: 2 shift: 1 }'
    scale = 'type: "Scale" scale_param { bias_term: true }'
    maps = {}
    x = torch.from_numpy(images((4, 9, 8))).double()
    for kind in (power, scale):
        layer = f'layer {{ name: "s" bottom: "data" top: "data2" {kind} }}\n'
        first = FIRST.replace('"data"', '"data2"') if place == "before" else FIRST + active
        text = layer + first if place == "before" else first + layer.replace("data2", "s").replace('"data"', '"x"')
        fc = FC if place == "before" else FC.replace('bottom: "x"', 'bottom: "s"')
        shapes = {**FC_SHAPES, "s": [(4,), (4,)]} if kind == scale else FC_SHAPES
        prototxt, weights = net(tmp_path, HEAD + text + fc, {})
        random = np.random.default_rng(3)
        blobs = {
            name: [random.normal(size=shape).astype(np.float32) for shape in FC_SHAPES[name]] for name in FC_SHAPES
        }
        if kind == scale:
            blobs["s"] = [np.full(4, 2, np.float32), np.ones(4, np.float32)]
        assert set(blobs) == set(shapes)
        write_caffemodel(weights, blobs)
        model = load_model(weights, prototxt=prototxt)
        for config in (LRP0, "composite"):
            made = lrpcli.Explainer(model, config, dtype=torch.float64, device="cpu")(x, target=1)
            maps[kind, str(config)] = made.relevance
            if config is LRP0:
                torch.testing.assert_close(made.conservation["input"], made.start, rtol=1e-9, atol=0)
    for config in (LRP0, "composite"):
        torch.testing.assert_close(maps[power, str(config)], maps[scale, str(config)], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("first", [
    'type: "Scale" scale_param { bias_term: true }', 'type: "Power" power_param { scale: -0.01 shift: 1 }',
    'type: "BatchNorm"', 'type: "Bias"',
])  # fmt: skip
def test_an_affine_layer_on_the_data_is_preprocessing(first: str, tmp_path: Path) -> None:
    """Relevance passes it, and the rule z-box of the first convolution has the pixel range behind it."""
    text = (
        HEAD + f'layer {{ name: "s" bottom: "data" top: "data2" {first} }}\n' + FIRST.replace('"data"', '"data2"') + FC
    )
    kinds = {"Scale": [(4,), (4,)], "BatchNorm": [(4,), (4,), (1,)], "Bias": [(4,)]}
    shapes = next(({**FC_SHAPES, "s": kinds[kind]} for kind in kinds if f'"{kind}"' in first), FC_SHAPES)
    made = explainer(tmp_path, text, shapes, "epsilon-gamma-box")
    found = {item.layer.name: item for item in made.assignments}
    assert found["s"].layer.kind == "preprocessing"
    low, high = (made.graph.layers[1].operation.run(bound.double())[0] for bound in made._pixel_range)
    torch.testing.assert_close(found["first"].rule.low.double(), torch.minimum(low, high), check_dtype=False)
    torch.testing.assert_close(found["first"].rule.high.double(), torch.maximum(low, high), check_dtype=False)


ENDS = {
    'layer { name: "end" type: "Sigmoid" bottom: "fc" top: "prob" }': "sigmoid",
    'layer { name: "end" type: "Sigmoid" bottom: "fc" top: "fc" }': "sigmoid",
    'layer { name: "end" type: "SigmoidCrossEntropyLoss" bottom: "fc" bottom: "label" top: "loss" }': "sigmoid",
    'layer { name: "end" type: "Softmax" bottom: "fc" top: "prob" softmax_param { axis: 1 } }': "softmax",
    'layer { name: "end" type: "Softmax" bottom: "fc" top: "prob" softmax_param { axis: -1 } }': "softmax",
    "": "softmax",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_final_sigmoid_or_softmax_is_stripped(end: str, tmp_path: Path) -> None:
    x = torch.from_numpy(images((4, 9, 8))).double()
    plain = explainer(tmp_path, HEAD + FIRST + FC, FC_SHAPES, "epsilon")
    made = explainer(tmp_path, HEAD + FIRST + FC + end, FC_SHAPES, "epsilon")
    assert made.graph.head == ENDS[end]
    torch.testing.assert_close(made(x, target=0).relevance, plain(x, target=0).relevance, rtol=1e-12, atol=0)
    torch.testing.assert_close(made.predict(x), plain.predict(x), rtol=1e-12, atol=0)


CONV = (
    'layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" '
    "convolution_param { num_output: 5 kernel_h: 9 kernel_w: 8 } }\n"
)
CONV_SHAPES = {**FIRST_SHAPES, "conv": [(5, 4, 9, 8), (5,)]}


@pytest.mark.parametrize("end", [
    'type: "Softmax" softmax_param { axis: 1 }', 'type: "Softmax" softmax_param { axis: -3 }', 'type: "Sigmoid"',
])  # fmt: skip
def test_the_end_of_a_fully_convolutional_net_is_stripped(end: str, tmp_path: Path) -> None:
    x = torch.from_numpy(images((4, 9, 8))).double()
    text = HEAD + FIRST + CONV
    plain = explainer(tmp_path, text, CONV_SHAPES, "epsilon").predict(x)
    made = explainer(
        tmp_path, f'{text}layer {{ name: "end" bottom: "conv" top: "prob" {end} }}', CONV_SHAPES, "epsilon"
    )
    torch.testing.assert_close(made.predict(x), plain, rtol=1e-12, atol=0)


@pytest.mark.parametrize("axis", [-1, 2, 3, -2])
def test_a_softmax_over_another_axis_is_refused(axis: int, tmp_path: Path) -> None:
    """Of a map of one pixel, a softmax over the pixels is 1 for every class."""
    end = f'layer {{ name: "end" type: "Softmax" bottom: "conv" top: "prob" softmax_param {{ axis: {axis} }} }}'
    with pytest.raises(UnsupportedLayer, match="layer 'end' .* does not run over the classes"):
        explainer(tmp_path, HEAD + FIRST + CONV + end, CONV_SHAPES, "epsilon")
