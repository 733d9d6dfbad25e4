"""Fields of the messages in a file; of those that lrpcli.models.caffe.schema does not know, which are harmless.

Caffe's forks add fields that change what a layer computes. What is neither in the schema nor harmless makes a layer
unusable, and is named by its path in the layer, such as "pooling_param.ceil_mode"; in binary files, which hold numbers
in place of names, such as "field 14 of pooling_param".
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from google.protobuf import text_format
from google.protobuf.unknown_fields import UnknownFieldSet

OWN = {
    "Convolution": "convolution_param", "Deconvolution": "convolution_param",
    "ConvolutionDepthwise": "convolution_param", "DepthwiseConvolution": "convolution_param",
    "InnerProduct": "inner_product_param", "Pooling": "pooling_param", "LRN": "lrn_param",
    "BatchNorm": "batch_norm_param", "Scale": "scale_param", "Bias": "bias_param", "PReLU": "prelu_param",
    "Softmax": "softmax_param", "Power": "power_param", "Eltwise": "eltwise_param", "Concat": "concat_param",
    "Slice": "slice_param", "Flatten": "flatten_param", "Reshape": "reshape_param", "ReLU": "relu_param",
    "ReLU6": "relu_param", "ELU": "elu_param", "Dropout": "dropout_param", "Input": "input_param",
}  # fmt: skip
"""Where a type of layer has its hyper-parameters; Caffe looks at no other."""
RULES = ("include", "exclude")

HARMLESS_ANYWHERE = re.compile(
    r"engine|(\w+_)?filler|cudnn_\w+|conv_algos_override|force_nd_im2col|stable_prod_grad|moving_average_fraction"
)
"""Names of fields that say how to train, or how to compute the same; inside the parameters of a layer."""
HARMLESS_IN_LAYERS = re.compile(
    r"param|propagate_down|blobs_lr|weight_decay|blob_share_mode|(lr|decay)_mult|device|buffer|engine|debug|"
    r"need_backward|(forward|backward)_(type|math)|cudnn_math_override|"
    # Parameters of other types of layers.
    r"(accuracy|argmax|clip|contrastive_loss|crop|dummy_data|embed|exp|hdf5_data|hdf5_output|hinge_loss|infogain_loss|"
    r"log|loss|mvn|parameter|python|recurrent|reduction|sigmoid|spp|swish|tanh|threshold|tile|window_data|"
    r"annotated_data|video_data)_param"
)
HARMLESS_IN_NETS = re.compile(
    r"force_backward|debug_info|default_(forward|backward)_(type|math)|default_(cudnn_math|conv_algos)_override|"
    r"global_grad_scale\w*|reduce_buckets|mem_param|optimize_mem|memory_optimize|engine|compile_net_state|"
    r"bn_stats_batch_size"
)
HARMLESS_VALUES = {
    "scale_train": "true", "sample_weights_test": "false", "fuse_type": "unfused", "fused_relu": "false",
    "relu": "false", "coeff_blob": "false",
}  # fmt: skip
"""Names of fields of forks that are harmless at one value."""
HARMLESS_NUMBERS: dict[str, set[int]] = {
    "NetParameter": {5, 7, *range(11, 20)},
    # From 101 on: parameters of other types of layers; 145 to 150 are also NVIDIA's number types.
    "LayerParameter": {6, 11, 95, 96, *range(101, 151)},
    "V1LayerParameter": {7, 8, 13, 14, 16, 20, 23, 25, 26, 27, 29, 34, 37, 38, 40, 41, 42, 1001, 1002},
    "BlobProto": {6, 9, 11, 13},  # gradients
    "ConvolutionParameter": {7, 8, 15, 17, 20}, "PoolingParameter": {11}, "InnerProductParameter": {3, 4},
    "LRNParameter": {6}, "EltwiseParameter": {3}, "SoftmaxParameter": {1}, "ReLUParameter": {2},
    "PReLUParameter": {1}, "BatchNormParameter": {2, 15}, "FillerParameter": set(range(9)),
    "ScaleParameter": {3, 5}, "BiasParameter": {3},
}  # fmt: skip
"""Numbers of the same fields in binary files, by message."""
SOLVER = {"net", "train_net", "test_net", "base_lr", "lr_policy", "max_iter", "solver_mode", "snapshot_prefix"}
"""Fields of a solver, which people take for the net description."""


@dataclass
class Item:
    """A field in a text: its name, and its value as written or the fields inside it."""

    name: str
    value: str = ""
    items: list["Item"] = field(default_factory=list)


def outline(text: str) -> list[Item]:
    """The fields of a protobuf text that text_format.Parse has accepted."""
    tokens = text_format.Tokenizer(text.split("\n"))  # as Parse does; str.splitlines knows more ends of lines
    return list(_items(tokens, ""))


def _items(tokens: Any, end: str) -> Iterator[Item]:
    """The fields up to the token `end`, which is consumed."""
    while tokens.token != end and not tokens.AtEnd():
        name = _consume(tokens)
        if name == "[":  # the name of an extension
            name = "[" + "".join(iter(lambda: _consume(tokens), "]")) + "]"
        tokens.TryConsume(":")
        if tokens.token == "[":
            yield from _list(tokens, name)
        else:
            yield _value(tokens, name)
        _ = tokens.TryConsume(",") or tokens.TryConsume(";")
    if end:
        tokens.NextToken()


def _list(tokens: Any, name: str) -> Iterator[Item]:
    tokens.NextToken()
    while not tokens.TryConsume("]") and not tokens.AtEnd():
        yield _value(tokens, name)
        tokens.TryConsume(",")


def _value(tokens: Any, name: str) -> Item:
    for start, end in (("{", "}"), ("<", ">")):
        if tokens.TryConsume(start):
            return Item(name, items=list(_items(tokens, end)))
    value = _consume(tokens)
    if value == "-":
        value += _consume(tokens)
    while value[:1] in "'\"" and tokens.token[:1] in ("'", '"'):
        value += _consume(tokens)
    return Item(name, value)


def _consume(tokens: Any) -> str:
    token = str(tokens.token)
    tokens.NextToken()
    return token


def unread_in_text(items: Iterable[Item], descriptor: Any, kind: str | None) -> tuple[str, ...]:
    """Paths of the fields of a layer of type `kind` in a text, or of a net (None), that are not read nor harmless."""
    harmless = HARMLESS_IN_NETS if kind is None else HARMLESS_IN_LAYERS
    return tuple(_unread_items(items, descriptor, "", harmless, _searched(kind)))


def _searched(kind: str | None) -> set[str]:
    return set() if kind is None else {OWN.get(kind, ""), *RULES}


def _unread_items(
    items: Iterable[Item], descriptor: Any, place: str, harmless: re.Pattern[str], searched: set[str] | None
) -> Iterator[str]:
    """`searched` are the names of the messages to look into, None for all."""
    for item in items:
        known = descriptor.fields_by_name.get(item.name)
        if harmless.fullmatch(item.name):
            continue
        if known is None:
            if HARMLESS_VALUES.get(item.name) != item.value.lower():
                yield place + item.name
        elif known.message_type is not None and (searched is None or item.name in searched):
            yield from _unread_items(item.items, known.message_type, f"{place}{item.name}.", HARMLESS_ANYWHERE, None)


def unread_in_message(message: Any, kind: str | None) -> tuple[str, ...]:
    """The same in a binary message, which a known field of an unknown value counts among too."""
    return tuple(_unread_numbers(message, "", _searched(kind)))


def _unread_numbers(message: Any, place: str, searched: set[str] | None) -> Iterator[str]:
    harmless = HARMLESS_NUMBERS.get(message.DESCRIPTOR.name, set())
    unknowns = UnknownFieldSet(message)
    for unknown in map(unknowns.__getitem__, range(len(unknowns))):
        if unknown.field_number not in harmless:
            known = message.DESCRIPTOR.fields_by_number.get(unknown.field_number)
            name = f"field {unknown.field_number}" if known is None else f"an unknown value of {known.name}"
            yield f"{name} of {place}" if place else name
    for descriptor, value in message.ListFields():
        if descriptor.message_type is not None and (searched is None or descriptor.name in searched):
            for inner in _values(value):
                yield from _unread_numbers(inner, descriptor.name, None)


def odd_numbers(message: Any, kind: str) -> Iterator[str]:
    """Names of hyper-parameters of a layer that are not finite."""
    own = OWN.get(kind, "")
    if own in message.DESCRIPTOR.fields_by_name and message.HasField(own):
        for descriptor, value in getattr(message, own).ListFields():
            if any(isinstance(number, float) and not math.isfinite(number) for number in _values(value)):
                yield f"{own}.{descriptor.name}"


def _values(value: Any) -> Iterable[Any]:
    """The values of a field, which may be repeated."""
    return value if hasattr(value, "extend") else [value]


def decimal(value: float) -> float:
    """A single-precision number as the decimal that was written: 1e-4 and not 0.0000999999974."""
    return float(str(np.float32(value)))
