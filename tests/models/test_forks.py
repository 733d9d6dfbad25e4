"""Fields, blobs and layers of Caffe's forks: computed as they mean it, or refused by name; nets that Caffe refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import lrpcli
from lrpcli.errors import ModelError, UnsupportedLayer
from lrpcli.models import load_model
from lrpcli.models.caffe.files import read_weights
from lrpcli.models.caffe.schema import messages
from tests.models.files import TINY, as_v1, random_blobs, varint, write_caffemodel, write_safetensors
from tests.models.test_attacks import refused_description
from tests.models.test_forward import assert_close, images, opencv, run
from tests.models.test_layers import FIRST, FIRST_SHAPES, HEAD, TAIL, check, net
from tests.photos import photo
from tests.resilience.runs import lrp


def refused(tmp_path: Path, text: str, shapes=None) -> str:
    """The message with which a net in HEAD's input is refused, once from its text and once from the binary file."""
    prototxt, weights = net(tmp_path, HEAD + FIRST + text, {**FIRST_SHAPES, **(shapes or {})})
    with pytest.raises(ModelError) as caught:
        load_model(weights, prototxt=prototxt)
    assert str(prototxt) in str(caught.value) or str(weights) in str(caught.value)
    return str(caught.value)


def refused_layer(tmp_path: Path, layer: str, shapes=()) -> str:
    """The message with which a net is refused for one layer; it names it."""
    text = f'layer {{ name: "odd one" bottom: "x" top: "y" {layer} }}' + TAIL
    message = refused(tmp_path, text, {"odd one": shapes} if shapes else {})
    assert "'odd one'" in message
    return message


def in_double(weights: Path, x: np.ndarray) -> tuple[dict[str, list[np.ndarray]], np.ndarray]:
    """The blobs of a file in double precision, and what FIRST makes of x."""
    blobs = {
        name: [array.astype(np.float64) for array in arrays] for name, arrays in read_weights(weights).blobs.items()
    }
    return blobs, np.einsum("oi,nihw->nohw", blobs["first"][0][:, :, 0, 0], x) + blobs["first"][1][:, None, None]


@pytest.mark.parametrize("rounding", ["ceil_mode: false", "ceil_mode: true", "round_mode: FLOOR", "round_mode: CEIL"])
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_pooling_rounds_as_it_says(tmp_path, rounding, method) -> None:
    text = HEAD + FIRST + (
        f'layer {{ name: "pool" type: "Pooling" bottom: "x" top: "y" '
        f"pooling_param {{ pool: {method} kernel_size: 2 stride: 2 {rounding} }} }}"
        'layer { name: "fc" type: "InnerProduct" bottom: "y" top: "z" inner_product_param { num_output: 3 } }'
    )  # fmt: skip
    up = rounding in ("ceil_mode: true", "round_mode: CEIL")
    shapes = {**FIRST_SHAPES, "fc": [(3, 4 * (5 if up else 4) * 4), (3,)]}
    prototxt, weights = net(tmp_path, text, shapes)
    model = load_model(weights, prototxt=prototxt)
    x = images((4, 9, 8)) / 50
    if "ceil_mode" in rounding:  # OpenCV knows no round_mode
        assert_close(run(model, x), opencv(prototxt, weights, x), 2e-5)
    assert model.module.pool(model.module.first(torch.from_numpy(x))).shape == (1, 4, 5 if up else 4, 4)


def test_field_13_of_a_binary_file_means_either(tmp_path) -> None:
    """round_mode: FLOOR in BVLC's Caffe is ceil_mode: true in forks."""
    text = HEAD + FIRST + (
        'layer { name: "pool" type: "Pooling" bottom: "x" top: "y" '
        "pooling_param { kernel_size: 2 stride: 2 round_mode: FLOOR } }"
    )  # fmt: skip
    _, weights = net(tmp_path, text, FIRST_SHAPES)
    with pytest.raises(UnsupportedLayer, match=r"layer 'pool' .* field 13 is round_mode .* ceil_mode .*--prototxt"):
        load_model(weights)
    same = text.replace("kernel_size: 2 stride: 2", "kernel_h: 3 kernel_w: 2 stride: 2") + TAIL  # both give 4 x 4
    _, weights = net(tmp_path, same, FIRST_SHAPES)
    assert load_model(weights).outputs == 4


def test_batch_norm_with_five_blobs(tmp_path) -> None:
    bn = 'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" batch_norm_param { eps: 0.001 scale_bias: true } }'
    five = [(4,), (4,), (1,), (4,), (4,)]
    check(tmp_path, HEAD + FIRST + bn + TAIL, {**FIRST_SHAPES, "bn": five})
    filled = bn.replace("scale_bias: true", "use_global_stats: false scale_filler { value: 1 }")  # says the same
    for text in (bn, filled):
        _, weights = net(tmp_path, HEAD + FIRST + text + TAIL, {**FIRST_SHAPES, "bn": five})
        x = images((4, 9, 8)).astype(np.float64) / 50
        blobs, maps = in_double(weights, x)
        mean, variance, _, scale, bias = (array.reshape(-1, 1, 1) for array in blobs["bn"])
        expected = ((maps - mean) / np.sqrt(variance + 0.001) * scale + bias).mean((2, 3))
        assert_close(run(load_model(weights), x.astype(np.float32)), expected)
    plain = bn.replace(" scale_bias: true", "")
    assert "holds 5 blobs for layer 'bn' of" in refused(tmp_path, plain + TAIL, {"bn": five})
    assert "holds no factors for layer 'bn'" in refused(tmp_path, bn + TAIL, {"bn": five[:3]})


SURPLUS = {
    "first": [(4, 4, 1, 1), (4,), (4,)],
    "relu": [(4,)],
    "scale": [(4,), (4,)],
}


@pytest.mark.parametrize("name", SURPLUS)
def test_surplus_blobs_are_named(tmp_path, name) -> None:
    text = 'layer { name: "relu" type: "ReLU" bottom: "x" top: "r" }' \
           'layer { name: "scale" type: "Scale" bottom: "r" top: "y" }' + TAIL  # fmt: skip
    message = refused(tmp_path, text, {"scale": [(4,)], name: SURPLUS[name]})
    assert f"holds {len(SURPLUS[name])} blobs for layer {name!r}" in message
    assert f"uses {len(SURPLUS[name]) - 1} of them" in message


def test_the_blobs_of_a_scale_written_as_power_must_say_the_same(tmp_path) -> None:
    power = 'layer { name: "p" type: "Power" bottom: "x" top: "y" power_param { scale: 2 shift: 1 } }'
    prototxt, weights = net(tmp_path, HEAD + FIRST + power + TAIL, FIRST_SHAPES)
    expected = run(load_model(weights, prototxt=prototxt), images((4, 9, 8)))
    content = messages(raw=False)["NetParameter"].FromString(weights.read_bytes())
    for factor in (2.0, 3.0):
        layer = content.layer.add(name="p")
        for values in ([factor] * 4, [1.0] * 4):
            layer.blobs.add(data=values).shape.dim.append(4)
        weights.write_bytes(content.SerializeToString())
        del content.layer[-1]
        if factor == 2:
            assert_close(run(load_model(weights, prototxt=prototxt), images((4, 9, 8))), expected)
            continue
        with pytest.raises(UnsupportedLayer, match="'p' .* other factors or shifts than it is described with"):
            load_model(weights, prototxt=prototxt)


@pytest.mark.parametrize(("kind", "number"), [("<f4", 1), ("<f2", 2), ("<f8", 0)])
def test_raw_blobs(tmp_path, tiny_blobs, tiny_prototxt, kind, number) -> None:
    """As NVIDIA's Caffe writes them: one run of bytes and the type of the numbers."""
    content = messages()["NetParameter"]()
    for name, arrays in tiny_blobs.items():
        layer = content.layer.add(name=name)
        for array in arrays:
            blob = layer.blobs.add(raw_data_type=number, raw_data=array.astype(kind).tobytes())
            blob.shape.dim.extend(array.shape)
    path = tmp_path / "raw.caffemodel"
    path.write_bytes(content.SerializeToString())
    found = read_weights(path).blobs
    for name, arrays in tiny_blobs.items():
        for mine, array in zip(found[name], arrays, strict=True):
            assert np.array_equal(mine, array.astype(kind))
    assert load_model(path, prototxt=tiny_prototxt).outputs == 4
    content.layer[0].blobs[0].raw_data_type = 3
    path.write_bytes(content.SerializeToString())
    with pytest.raises(ModelError, match="A blob of layer 'conv1' of .* holds raw numbers of INT, which is not known"):
        load_model(path, prototxt=tiny_prototxt)
    content.layer[0].blobs[0].raw_data_type = number
    content.layer[0].blobs[0].data.append(b"\x00" * 864)
    path.write_bytes(content.SerializeToString())
    with pytest.raises(ModelError, match="holds its numbers twice, raw and plain"):
        load_model(path, prototxt=tiny_prototxt)


def test_blobs_of_an_unknown_form_are_refused(tmp_path, tiny_caffemodel) -> None:
    content = messages()["NetParameter"].FromString(tiny_caffemodel.read_bytes())
    blob = content.layer[0].blobs[0]
    extended = blob.SerializeToString() + b"\xa2\x01\x02ab"  # field 20
    del content.layer[0].blobs[:]
    layer = content.layer[0].SerializeToString() + b"\x3a" + varint(len(extended)) + extended
    tiny_caffemodel.write_bytes(b"\xa2\x06" + varint(len(layer)) + layer)
    with pytest.raises(ModelError, match="A blob of layer 'conv1' of .* has field 20, which is not known here"):
        read_weights(tiny_caffemodel)


GATE = """
layer { name: "gap" type: "Pooling" bottom: "x" top: "gap" pooling_param { pool: AVE global_pooling: true } }
layer { name: "squeeze" type: "Convolution" bottom: "gap" top: "s" convolution_param { num_output: 4 kernel_size: 1 } }
layer { name: "sigmoid" type: "Sigmoid" bottom: "s" top: "s" }
layer { name: "flat" type: "Flatten" bottom: "s" top: "g" }
"""


def test_scale_with_two_inputs_is_a_gate(tmp_path) -> None:
    gate = GATE + 'layer { name: "se" type: "Scale" bottom: "x" bottom: "g" top: "y" scale_param { axis: 0 } }'
    shapes = {**FIRST_SHAPES, "squeeze": [(4, 4, 1, 1), (4,)]}
    model = check(tmp_path, HEAD + FIRST + gate + TAIL, shapes)
    result = lrpcli.Explainer(model, config="epsilon")(torch.from_numpy(images((4, 9, 8))))
    assert torch.isfinite(result.relevance).all() and result.relevance.abs().sum() > 0
    for change, message in [
        ("scale_param { axis: 1 }", "with two inputs it must have axis 0"),
        ("scale_param { axis: 0 bias_term: true }", "with two inputs it must have axis 0"),
    ]:
        assert message in refused(tmp_path, gate.replace("scale_param { axis: 0 }", change) + TAIL,
                                  {"squeeze": shapes["squeeze"]})  # fmt: skip
    wrong = gate.replace('bottom: "g" top: "y"', 'bottom: "data" top: "y"').replace('"flat"', '"unused"')
    assert "in place of" not in refused(tmp_path, wrong.replace('bottom: "x" bottom: "data"', 'bottom: "g" bottom: "x"')
                                        + TAIL, {"squeeze": shapes["squeeze"]})  # fmt: skip
    assert "takes its biases from a second input" in refused(
        tmp_path, gate.replace('type: "Scale"', 'type: "Bias"').replace("scale_param", "bias_param") + TAIL,
        {"squeeze": shapes["squeeze"]},
    )  # fmt: skip


def test_axpy_scales_and_adds(tmp_path) -> None:
    text = HEAD + FIRST + GATE + 'layer { name: "axpy" type: "Axpy" bottom: "s" bottom: "x" bottom: "data" top: "y" }'
    _, weights = net(tmp_path, text + TAIL, {**FIRST_SHAPES, "squeeze": [(4, 4, 1, 1), (4,)]})
    model = load_model(weights)
    x = images((4, 9, 8)).astype(np.float64) / 50
    blobs, maps = in_double(weights, x)
    squeezed = maps.mean((2, 3)) @ blobs["squeeze"][0][:, :, 0, 0].T + blobs["squeeze"][1]
    gate = 1 / (1 + np.exp(-squeezed))
    expected = (gate[:, :, None, None] * maps + x).mean((2, 3))
    assert_close(run(model, x.astype(np.float32)), expected)


@pytest.mark.parametrize("kind", ["ConvolutionDepthwise", "DepthwiseConvolution"])
@pytest.mark.parametrize("group", ["", "group: 4"])
def test_depthwise_convolutions_have_a_filter_per_channel(tmp_path, kind, group) -> None:
    layer = 'layer { name: "depth" type: "KIND" bottom: "x" top: "y" ' \
            "convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 GROUP } }" + TAIL  # fmt: skip
    shapes = {**FIRST_SHAPES, "depth": [(4, 1, 3, 3), (4,)]}
    text = HEAD + FIRST + layer
    prototxt, weights = net(tmp_path, text.replace("KIND", kind).replace("GROUP", group), shapes)
    plain = tmp_path / "plain.prototxt"
    plain.write_text(text.replace("KIND", "Convolution").replace("GROUP", "group: 4"))
    x = images((4, 9, 8)) / 50
    assert_close(run(load_model(weights, prototxt=prototxt), x), opencv(plain, weights, x), 2e-5)
    wrong = layer.replace("KIND", kind).replace("GROUP", "group: 2")
    assert "num_output and group must be as many" in refused(tmp_path, wrong, {"depth": [(4, 2, 3, 3), (4,)]})


def test_relu6_and_a_last_argmax(tmp_path) -> None:
    text = HEAD + FIRST + 'layer { name: "r" type: "ReLU6" bottom: "x" top: "y" }' + TAIL + (
        'layer { name: "prob" type: "Softmax" bottom: "pooled" top: "prob" }'
        'layer { name: "best" type: "ArgMax" bottom: "prob" top: "best" argmax_param { top_k: 5 } }'
    )  # fmt: skip
    prototxt, weights = net(tmp_path, text, FIRST_SHAPES)
    model = load_model(weights, prototxt=prototxt)
    assert (model.head, model.outputs) == ("prob", 4)
    x = images((4, 9, 8))
    plain = tmp_path / "plain.prototxt"
    plain.write_text(text.split('layer { name: "best"')[0])
    assert_close(run(model, x), opencv(plain, weights, x), 2e-5)
    slope = text.replace('type: "ReLU6"', 'type: "ReLU6" relu_param { negative_slope: 0.1 }')
    prototxt.write_text(slope)
    with pytest.raises(ModelError, match="'r' .* a ReLU6 with a negative_slope is not known"):
        load_model(weights, prototxt=prototxt)
    reading = 'layer { name: "more" type: "ReLU" bottom: "best" top: "more" }'
    prototxt.write_text(text.replace('type: "Softmax" bottom: "pooled"', 'type: "TanH" bottom: "pooled"') + reading)
    with pytest.raises(ModelError, match=r"'more' .* reads 'best', which only 'best' makes \(ArgMax\)"):
        load_model(weights, prototxt=prototxt)


UNKNOWN = {
    'type: "Pooling" pooling_param { kernel_size: 2 torch_pooling: true }': "'pooling_param.torch_pooling'",
    'type: "Convolution" convolution_param { num_output: 4 kernel_size: 1 hole: 2 }': "'convolution_param.hole'",
    'type: "Convolution" convolution_param { num_output: 4 kernel_size: 1 relu { a: 1 } }': "'convolution_param.relu'",
    'type: "InnerProduct" inner_product_param { num_output: 4 normalize: true }': "'inner_product_param.normalize'",
    'type: "BatchNorm" batch_norm_param { rot_mode: true }': "'batch_norm_param.rot_mode'",
    'type: "Dropout" dropout_param { scale_train: false }': "'dropout_param.scale_train'",
    'type: "Dropout" dropout_param { sample_weights_test: true }': "'dropout_param.sample_weights_test'",
    'type: "Eltwise" bottom: "x" eltwise_param { coeff_blob: true }': "'eltwise_param.coeff_blob'",
    'type: "ReLU" quantization_param { bw_layer_in: 8 }': "'quantization_param'",
    'type: "ReLU" strange: [1, 2]': "'strange'",
    'type: "ReLU" include { phase: TEST platform: "gpu" }': "'include.platform'",
}


@pytest.mark.parametrize("layer", UNKNOWN)
def test_unknown_fields_are_named(tmp_path, layer) -> None:
    assert UNKNOWN[layer] in refused_layer(tmp_path, layer)


HARMLESS = [
    'type: "ReLU" relu_param { engine: MKL2017 } engine: "MKLDNN:CAFFE" param { lr_mult: 0 name: "w" } phase: TEST',
    'type: "ReLU" propagate_down: true forward_type: FLOAT16 backward_math: FLOAT debug: true',
    'type: "ReLU" threshold_param { threshold: 3 } loss_param { ignore_label: 255 }',
    'type: "Pooling" pooling_param { kernel_size: 1 engine: CUDNN }',
    'type: "Dropout" dropout_param { scale_train: true }',
    'type: "Eltwise" bottom: "x" eltwise_param { stable_prod_grad: false }',
    'type: "Softmax" softmax_param { engine: CAFFE }',
    'type: "Convolution" convolution_param { num_output: 4 kernel_size: 1 engine: CAFFE force_nd_im2col: true '
    'conv_algos_override: "1,1,1" weight_filler { type: "msra" variance_norm: 1 } bias_filler < value: 0.1 >; }',
]


@pytest.mark.parametrize("layer", HARMLESS)
def test_harmless_fields_are_passed_over(tmp_path, layer) -> None:
    text = (
        "force_backward: true debug_info: false default_forward_type: FLOAT16 state { phase: TEST }\n"
        + HEAD + FIRST + f'layer {{ name: "layer" bottom: "x" top: "y" {layer} }}' + TAIL
    )  # fmt: skip
    shapes = {**FIRST_SHAPES, **({"layer": [(4, 4, 1, 1), (4,)]} if "convolution_param" in layer else {})}
    prototxt, weights = net(tmp_path, text, shapes)
    assert load_model(weights, prototxt=prototxt).outputs == 4


def test_unknown_fields_of_what_is_cut_away_do_not_matter(tmp_path) -> None:
    text = HEAD + FIRST + (
        'layer { name: "in" type: "Data" top: "data" include { phase: TRAIN } data_param { odd: 1 } odd_param {} }'
        'layer { name: "drop" type: "Odd" bottom: "x" top: "z" include { phase: TRAIN } odd: 1 }'
        'layer { name: "loss" type: "OddLoss" bottom: "x" top: "l" odd_param { a: "b" \'c\' d: [1, -2] f { e: -1 } } }'
    ) + TAIL.replace('"y"', '"x"')  # fmt: skip
    prototxt, weights = net(tmp_path, text, FIRST_SHAPES)
    assert load_model(weights, prototxt=prototxt).outputs == 4


@pytest.mark.parametrize("mark", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_lines_end_where_they_end_for_protobuf(tmp_path, tiny_caffemodel, mark) -> None:
    """In comments and in names, whatever else Python takes for the end of a line."""
    prototxt = tmp_path / "net.prototxt"
    text = f"# page {mark} two\n" + TINY.replace('name: "relu1"', f'name: "relu{mark}one"')
    prototxt.write_text(text)
    assert load_model(tiny_caffemodel, prototxt=prototxt).outputs == 4
    prototxt.write_text(text.replace("local_size: 5", "local_size: 5 odd: 1"))
    with pytest.raises(UnsupportedLayer, match=r"'norm1' .* 'lrn_param.odd' is not known"):
        load_model(tiny_caffemodel, prototxt=prototxt)


def _with_numbers(weights: Path, param: str, extra: bytes) -> None:
    """Adds bytes to the end of the hyper-parameters of the layer 'layer', as a writer with more fields would."""
    content = messages()["NetParameter"].FromString(weights.read_bytes())
    layer = next(layer for layer in content.layer if layer.name == "layer")
    target = getattr(layer, param) if param else layer
    target.MergeFromString(extra)
    weights.write_bytes(content.SerializeToString())


NUMBERS = [
    ("pooling_param", b"\xf8\x01\x01", "'field 31 of pooling_param'"),
    ("pooling_param", b"\x08\x07", "'an unknown value of pool of pooling_param'"),
    ("", b"\xf2\x09\x00", "'field 158'"),
    ("pooling_param", b"\x58\x02", None),  # the engine
    ("", b"\x88\x09\x02", None),  # NVIDIA's forward_type
]


@pytest.mark.parametrize(("param", "extra", "named"), NUMBERS)
def test_unknown_numbers_of_binary_files_are_named(tmp_path, param, extra, named) -> None:
    layer = 'layer { name: "layer" type: "Pooling" bottom: "x" top: "y" pooling_param { pool: AVE kernel_size: 2 } }'
    prototxt, weights = net(tmp_path, HEAD + FIRST + layer + TAIL, FIRST_SHAPES)
    _with_numbers(weights, param, extra)
    if named is None:
        assert load_model(weights).outputs == 4
        return
    with pytest.raises(UnsupportedLayer) as caught:
        load_model(weights)
    assert f"The layer 'layer' of {str(weights)!r}" in str(caught.value) and named in str(caught.value)
    assert load_model(weights, prototxt=prototxt).outputs == 4


REFUSED = {
    'type: "BatchNorm" batch_norm_param { use_global_stats: false }': "normalises by the statistics of a batch",
    'type: "BatchNorm" phase: TRAIN': "normalises by the statistics of a batch",
    'type: "Dropout" phase: TRAIN': "draws at random",
    'type: "LRN" lrn_param { alpha: nan }': "lrn_param.alpha that is not finite",
    'type: "Eltwise" bottom: "x" eltwise_param { coeff: 1 coeff: inf }': "eltwise_param.coeff that is not finite",
    'type: "Pooling" pooling_param { kernel_size: 2 ceil_mode: true round_mode: CEIL }': "both round_mode and",
    'type: "BN" bn_param { frozen: true }': "type BN is not known",
    'type: "Interp"': "type Interp is not known",
    'type: "Permute"': "type Permute is not known",
}


@pytest.mark.parametrize("layer", REFUSED)
def test_what_cannot_be_known_to_be_right_is_refused(tmp_path, layer) -> None:
    assert REFUSED[layer] in refused_layer(tmp_path, layer, [(4,), (4,), (1,)] if "BatchNorm" in layer else [])


def test_a_variance_that_cannot_be_one(tmp_path) -> None:
    bn = 'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" }' + TAIL
    _, weights = net(tmp_path, HEAD + FIRST + bn, {**FIRST_SHAPES, "bn": [(4,), (4,), (1,)]})
    blobs = {name: list(arrays) for name, arrays in read_weights(weights).blobs.items()}
    blobs["bn"][1] = -blobs["bn"][1]
    write_caffemodel(weights, blobs, HEAD + FIRST + bn)
    with pytest.raises(ModelError, match="'bn' .* its variance is negative, zero or not finite"):
        load_model(weights)


CONNECTIONS = [
    (TINY.replace('bottom: "norm1"', 'bottom: "norm2"'), r"'fc2' .* reads 'norm2', which is no input.*mean 'norm1'"),
    (TINY.replace('bottom: "data"', 'bottom: "fc2"'), "'conv1' .* reads 'fc2' before the layer 'fc2' makes it.*loops"),
    (TINY.replace('top: "fc2"', 'top: "conv1"'), "'relu1' and 'fc2' of .* both make the blob 'conv1'"),
    (TINY.replace('name: "fc2"', 'name: "conv1"'), "has several layers named 'conv1'"),
    (TINY + as_v1('layer { name: "x" type: "ReLU" bottom: "prob" top: "prob" }'), "mixes layers of both formats"),
    (TINY + "strange: 3", "has 'strange' beside its layers"),
    ('net: "train_val.prototxt"\nbase_lr: 0.01\nmax_iter: 100', "describes a solver.*names one in its field 'net'"),
]


@pytest.mark.parametrize(("text", "match"), CONNECTIONS)
def test_nets_that_caffe_refuses(tmp_path, tiny_caffemodel, text, match) -> None:
    refused_description(tmp_path / "net.prototxt", text, tiny_caffemodel, match)


def test_weights_for_two_layers_of_one_name(tmp_path, tiny_blobs, tiny_prototxt) -> None:
    path = write_caffemodel(tmp_path / "n.caffemodel", tiny_blobs)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ModelError, match="holds weights for two layers named 'conv1'"):
        load_model(path, prototxt=tiny_prototxt)


RULES = [
    ('include { stage: "deploy" }', False),
    ('exclude { stage: "deploy" }', True),
    ('include { not_stage: "deploy" }', True),
    ("include { phase: TEST }", True),
    ("include { min_level: 1 }", False),
    ("include { max_level: -1 }", False),
    ("include { min_level: -1 max_level: 3 }", True),
    ('include { phase: TRAIN } include { phase: TEST not_stage: "x" }', True),
    ("exclude { phase: TEST }", False),
]


@pytest.mark.parametrize("state", ["", 'state { stage: "deploy" }\n'])
@pytest.mark.parametrize(("rules", "used"), RULES)
def test_rules_of_layers(tmp_path, tiny_blobs, rules, used, state) -> None:
    if state and "stage" in rules:
        used = not used if 'not_stage: "x"' not in rules else used
    extra = f'layer {{ name: "extra" type: "TanH" bottom: "fc2" top: "fc2" {rules} }}\nlayer {{ name: "prob"'
    text = state + TINY.replace('layer { name: "prob"', extra)
    path = write_caffemodel(tmp_path / "n.caffemodel", tiny_blobs, text)
    prototxt = tmp_path / "n.prototxt"
    prototxt.write_text(text)
    for model in (load_model(path), load_model(path, prototxt=prototxt)):
        assert hasattr(model.module, "extra") == used


DATA = 'layer {{ name: "data" type: "{kind}" top: "data" top: "label" {rule} transform_param {{ {transform} }} }}\n'
BODY = TINY.split("}\n", 1)[1]
TRAIN, TEST = "include { phase: TRAIN }", "include { phase: TEST }"
TRAINED = "crop_size: 12 mean_value: 9 mean_value: 9 mean_value: 9 scale: 0.25 mirror: true"


@pytest.mark.parametrize("order", [1, -1])
def test_the_data_layer_of_the_test_phase_wins(tmp_path, order) -> None:
    wanted = "crop_size: 16 mean_value: 1 mean_value: 2 mean_value: 3 scale: 0.5"
    layers = [DATA.format(kind="Data", rule=TRAIN, transform=TRAINED),
              DATA.format(kind="Data", rule=TEST, transform=wanted)]  # fmt: skip
    prototxt = tmp_path / "n.prototxt"
    prototxt.write_text("".join(layers[::order]) + BODY)
    model = load_model(write_caffemodel(tmp_path / "n.caffemodel", random_blobs(prototxt)), prototxt=prototxt)
    assert model.input_shape == (3, 16, 16)
    assert (model.preprocessing.mean, model.preprocessing.std) == ((1, 2, 3), (2, 2, 2))


@pytest.mark.parametrize(
    ("transform", "mean", "fact"),
    [
        ("crop_size: 16", (0, 0, 0), None),
        (
            'crop_size: 16 mean_file: "m.binaryproto"',
            None,
            "m.binaryproto in training, which is not at hand",
        ),
        ("crop_size: 16 mean_value: 5", (5, 5, 5), None),
    ],
)
def test_what_a_data_layer_subtracts(tmp_path, transform, mean, fact) -> None:
    prototxt = tmp_path / "n.prototxt"
    train = DATA.format(kind="ImageData", rule=TRAIN, transform=TRAINED)
    prototxt.write_text(train + DATA.format(kind="ImageData", rule=TEST, transform=transform) + BODY)
    model = load_model(write_caffemodel(tmp_path / "n.caffemodel", random_blobs(prototxt)), prototxt=prototxt)
    known = model.preprocessing
    assert (known and known.mean, model.stated_by) == (mean, mean and "the net's data layer")
    assert mean is None or known.std == (1, 1, 1)
    assert model.facts.get("mean file", "").startswith(fact or "") and bool(fact) == ("mean file" in model.facts)


HEADS = (
    TINY.split('layer { name: "prob"')[0]
    + """
layer { name: "aux_fc" type: "InnerProduct" bottom: "norm1" top: "aux" inner_product_param { num_output: 3 } }
"""
)
LOSS = 'layer {{ name: "{0}_loss" type: "SoftmaxWithLoss" bottom: "{0}" bottom: "label" top: "{0}_loss" {1} }}\n'
AUX_PROB = 'layer { name: "aux_prob" type: "Softmax" bottom: "aux" top: "aux_prob" }'
PROB = 'layer { name: "prob" type: "Softmax" bottom: "fc2" top: "prob" }'
CHOICES = [
    (LOSS.format("fc2", "loss_weight: 1") + LOSS.format("aux", "loss_weight: 0.3"), ("fc2", "aux")),
    (LOSS.format("aux", "loss_weight: 0.3") + LOSS.format("fc2", ""), ("fc2", "aux")),
    (LOSS.format("aux", "loss_weight: 2 include { phase: TRAIN }") + LOSS.format("fc2", ""), ("aux", "fc2")),
    (AUX_PROB + PROB, ("prob", "aux_prob")),  # the last of equals
    (PROB + AUX_PROB, ("aux_prob", "prob")),
    (PROB + AUX_PROB + LOSS.format("aux", "loss_weight: 0.3"), ("prob", "aux_prob")),
    (PROB + LOSS.format("aux", "loss_weight: 0.3"), ("prob", "aux")),
    ("", ("aux", "fc2")),
    (PROB, ("prob", "aux")),  # what nothing reads is a head too
    (LOSS.format("aux", "loss_weight: 9").replace("SoftmaxWith", "Euclidean") + LOSS.format("fc2", ""), ("fc2", "aux")),
    # In training, another softmax makes the blob of that name.
    (AUX_PROB.replace('"aux_prob" }', '"prob" include { phase: TRAIN } }')
     + PROB.replace('"prob" }', '"prob" include { phase: TEST } }'), ("prob", "aux")),
]  # fmt: skip


def heads_blobs() -> dict[str, list[np.ndarray]]:
    """Weights for the net with several heads."""
    random = np.random.default_rng(0)
    shapes = {"conv1": [(8, 3, 3, 3), (8,)], "fc2": [(4, 392), (4,)], "aux_fc": [(3, 392), (3,)]}
    return {name: [random.normal(size=shape).astype(np.float32) for shape in s] for name, s in shapes.items()}


@pytest.mark.parametrize(("losses", "heads"), CHOICES)
def test_the_head_with_the_highest_loss_weight_is_explained(tmp_path, losses, heads) -> None:
    prototxt = tmp_path / "heads.prototxt"
    prototxt.write_text(HEADS + losses)
    weights = write_caffemodel(tmp_path / "n.caffemodel", heads_blobs(), HEADS + losses)
    for description in (prototxt, None):
        model = load_model(weights, prototxt=description)
        assert (model.head, set(model.heads)) == (heads[0], set(heads)) and model.heads[0] == heads[0]
        assert model.outputs == (3 if heads[0].startswith("aux") else 4)
        assert model.facts["heads"].startswith(f"{heads[0]!r}") and f"{heads[1]!r}" in model.facts["heads"]
    for name, outputs in [("aux", 3), ("aux_fc", 3), ("fc2", 4)]:
        assert load_model(weights, prototxt=prototxt, output=name).outputs == outputs
    with pytest.raises(ModelError, match=r"has no head 'aux_fx'. Did you mean 'aux_fc'\? --output takes one of '"):
        load_model(weights, prototxt=prototxt, output="aux_fx")


def test_a_file_cannot_say_which_head_is_explained(tmp_path) -> None:
    prototxt = tmp_path / "heads.prototxt"
    prototxt.write_text(HEADS + CHOICES[0][0])
    weights = write_safetensors(tmp_path / "n.safetensors", heads_blobs(), prototxt=prototxt.read_text(), heads="'aux'")
    assert load_model(weights).facts["heads"].startswith("'fc2' (loss weight 1) is explained")


def test_a_net_of_one_head_has_its_name(tiny_caffemodel) -> None:
    model = load_model(tiny_caffemodel)
    assert (model.head, model.heads, dict(model.facts)) == ("prob", ("prob",), {})
    for name in ("prob", "fc2"):
        assert np.array_equal(run(load_model(tiny_caffemodel, output=name), images((3, 16, 16))),
                              run(model, images((3, 16, 16))))  # fmt: skip
    with pytest.raises(ModelError, match="has no head 'out/'.*the output folder is -o FOLDER"):
        load_model(tiny_caffemodel, output="out/")
    with pytest.raises(ModelError, match="The model returns one tensor, so there is no output 'prob' to choose"):
        lrpcli.Explainer(load_model(torch.nn.Flatten(), input_shape=(1, 1, 1), output="prob"))


def test_commands_choose_a_head(tmp_path) -> None:
    prototxt = tmp_path / "heads.prototxt"
    prototxt.write_text(HEADS + CHOICES[0][0])
    weights = write_caffemodel(tmp_path / "n.caffemodel", heads_blobs())
    options = ("--prototxt", prototxt, "--preprocessing", "caffe", "--save", "none", "--json")
    shown = json.loads(lrp("models", "show", weights, "--prototxt", prototxt, "--json").stdout)
    assert shown["outputs"] == 4
    assert (
        shown["heads"]
        == "'fc2' (loss weight 1) is explained; others are 'aux' (loss weight 0.3); --output BLOB chooses"
    )
    chosen = lrp("models", "show", weights, "--prototxt", prototxt, "--output", "aux", "--json")
    assert json.loads(chosen.stdout)["outputs"] == 3
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    first = lrp("explain", "--model", weights, *options, "--output", "aux", path, out)
    assert first.exit_code == 0 and json.loads(first.stdout.splitlines()[0])["target"] < 3
    other = lrp("explain", "--model", weights, *options, path, out)
    assert other.exit_code == 2 and 'head was "aux" and is now "fc2"' in other.stderr
    evaluated = ("evaluate", "--model", weights, *options[:4], "--region", 8, "--steps", 2, "--config",
                 "epsilon", path, "-o", tmp_path / "evaluation")  # fmt: skip
    assert lrp(*evaluated, "--output", "fc2").exit_code == 0
    assert lrp(*evaluated).exit_code == 0  # the same head
    assert 'head was "fc2" and is now "aux"' in lrp(*evaluated, "--output", "aux").stderr
    assert "Did you mean 'aux'?" in lrp(*evaluated, "--output", "auz").stderr
