"""Functional calls and tensor methods -> operations. What HANDLERS and VIEWS do not list is refused by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lrpcli.lrp.layers.call import Call, Place
from lrpcli.lrp.layers.elementwise import Activation, Affine, Rectifier, Scalar, unchanged
from lrpcli.lrp.layers.normalization import LocalResponseNorm, NormalizationOperation
from lrpcli.lrp.layers.products import Product, Softmax
from lrpcli.lrp.layers.reductions import LinearMap
from lrpcli.lrp.layers.views import Stack, View
from lrpcli.lrp.tracing import arithmetic, norms, resampling, weights
from lrpcli.lrp.tracing.node import Node, Reference, Translated
from lrpcli.lrp.tracing.rearranging import attribute, is_part_of_pair, join, made, read_by, values_of_pair, view

DROPOUTS = {
    "dropout": (2, True), "dropout1d": (2, True), "dropout2d": (2, True), "dropout3d": (2, True),
    "alpha_dropout": (2, False), "feature_alpha_dropout": (2, False), "feature_dropout": (2, False),
    "stochastic_depth": (3, True), "drop_block2d": (5, True), "drop_block3d": (5, True),
}  # fmt: skip
"""Where the argument `training` stands, and what holds without it."""
UNCHANGED = {"clone", "detach"}
CASTS = {"to", "float", "double", "half", "bfloat16", "type", "type_as", "cpu", "cuda"}
"""Other number types and devices: the engine keeps its own."""
ELEMENTWISE = {
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "tanh", "hardtanh",
    "hardsigmoid", "hardswish", "softplus", "softsign", "logsigmoid", "threshold", "prelu", "rrelu", "hardshrink",
    "softshrink", "tanhshrink", "erf", "exp", "expm1", "log1p", "sqrt", "square", "abs", "sinh", "arctan", "asinh",
    "absolute", "atan", "arcsinh",
    "_threshold", "log_sigmoid",  # what functional.threshold and functional.logsigmoid really are called
}  # fmt: skip
"""Increasing functions that are finite from 0 on, and products and maxima of a signal with itself: R unchanged."""
WITHOUT_RULE = {"log", "log2", "log10", "sin", "cos", "tan", "reciprocal", "rsqrt", "sign", "sgn", "logit", "erfc"}
"""Elementwise functions that may only make a gate or a divisor."""
NONNEGATIVE = {"relu", "relu6", "sigmoid", "hardsigmoid"}
VIEWS = {
    "flatten", "view", "reshape", "permute", "transpose", "unsqueeze", "squeeze", "getitem", "chunk", "split",
    "narrow", "select", "unbind", "movedim", "moveaxis", "unflatten", "swapaxes", "swapdims", "t", "contiguous",
    "expand", "expand_as", "view_as", "reshape_as", "broadcast_to", "flip", "fliplr", "flipud", "roll", "rot90",
    "repeat", "repeat_interleave", "tile", "index_select", "ravel", "adjoint", "diagonal", "tensor_split", "hsplit",
    "vsplit", "dsplit", "unsafe_chunk", "unsafe_split", "split_with_sizes", "unfold", "im2col", "pixel_shuffle",
    "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "slice", "_unsafe_view", "index",
}  # fmt: skip
SIZES = {"size", "dim", "ndimension", "shape", "getattr", "len", "numel", "nelement", "sym_size"}
MADE = {"zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full"}
"""Tensors of a number in the shape of another: they carry no relevance."""
MASKS = {
    "gt", "lt", "ge", "le", "eq", "ne", "greater", "less", "greater_equal", "less_equal", "not_equal", "isnan", "isinf",
    "isfinite",
}  # fmt: skip
ARITHMETIC = {
    "add", "sub", "mul", "floordiv", "truediv", "getitem", "mod", "neg", "int", "eq", "pow", "div", "and", "or", "xor",
    "invert", "not", "logical_and", "logical_or", "logical_not", "logical_xor", "bitwise_and", "bitwise_or",
    "bitwise_not", "where", "sum", "mean", "abs", "long", "bool", "clamp", "tensor", "as_tensor", "zeros", "ones",
    "full", "arange", "linspace", "eye", "prod", "sqrt", "ceil", "floor", *CASTS, *MADE, *MASKS,
}  # fmt: skip
"""What is computed with sizes, masks and fixed tensors."""
_DIVIDES = "It divides by a norm; leave that out, or write a response normalisation as torch.nn.LocalResponseNorm."
_ORDER = "Which values it takes depends on all of them."
_MIXES = "It mixes signals in a way that no rule here knows."
_RANDOM = "It is random."
ASSIGNMENT = (
    "Write what makes a new tensor: torch.cat of the parts, torch.where, or a product with a constant tensor that has "
    "one factor per channel."
)
_ASSIGNS = f"It writes over a part of a tensor. {ASSIGNMENT}"
CHANGING = (_ASSIGNS, _RANDOM)
"""Reasons of calls that do more than give a result."""
REFUSALS = {
    **dict.fromkeys(("normalize", "cosine_similarity"), _DIVIDES),
    **dict.fromkeys(("var_mean", "std_mean"), arithmetic.NO_DIVISOR),
    **dict.fromkeys(("sort", "argsort", "topk", "kthvalue", "median", "gather", "argmax", "argmin"), _ORDER),
    **dict.fromkeys(("einsum", "bmm", "baddbmm", "tensordot", "outer", "prod", "cumprod", "bilinear"), _MIXES),
    **dict.fromkeys(("rand_like", "randn_like", "bernoulli", "multinomial", "fractional_max_pool2d"), _RANDOM),
    **dict.fromkeys(("lp_pool1d", "lp_pool2d", "lp_pool3d"), "Pool by the mean or the maximum."),
    **dict.fromkeys(("copy", "fill", "zero", "index_put", "slice_scatter", "select_scatter"), _ASSIGNS),
    "cumsum": "Write it as sums of slices, or leave it out.",
    "logsumexp": "Pool by the mean or the maximum.",
    "logcumsumexp": "Pool by the mean or the maximum.",
    "max_unpool2d": "Upsample with torch.nn.Upsample.",
}
"""Why a function is refused, where its name does not say it."""


def translate_function(node: Node) -> Translated:
    """The operation of a functional call or method, or its value where it reads no layer."""
    label = node.label
    if not node.references():
        return Translated(label, value=node.replay()())
    if node.keywords.get("out") is not None:
        raise node.unsupported("It writes its result over 'out'.")
    if is_part_of_pair(node):
        return values_of_pair(node)
    if label == "getattr":
        return attribute(node)
    if label in SIZES or label in MADE:
        return Translated(label, Scalar(made(node) if label in MADE else node.replay()), (), read_by(node))
    if not node.tensors():
        if label in ARITHMETIC or label in VIEWS:
            return Translated(label, Scalar(node.replay()), (), node.scalars())
        raise node.unsupported()
    if label in VIEWS:
        return view(node)
    handler = HANDLERS.get(label)
    if handler is None:
        raise node.unsupported(REFUSALS.get(label, ""))
    return handler(node)


def _activation(node: Node) -> Translated:
    """An activation, always out of place so that no remembered activation is overwritten."""
    if node.label == "relu":
        return node.layer(Rectifier())
    if node.label == "rrelu" and node.get(3, "training", False):
        raise node.unsupported("It is random also in eval mode; pass training=self.training.")
    name = "logsigmoid" if node.label == "log_sigmoid" else node.label
    function: Callable[..., Tensor] = getattr(functional, name, None) or getattr(torch, name)
    # The only other boolean argument of these functions is `inplace`.
    arguments = tuple(value for value in node.arguments if not isinstance(value, bool))
    keywords = {key: value for key, value in node.keywords.items() if key not in ("inplace", "training")}
    call = Call(function, node.placed(arguments), keywords)
    return node.layer(Activation(call, node.label in NONNEGATIVE), node.first())


def _unchanged(node: Node) -> Translated:
    return node.layer(Activation(unchanged))


def _dropout(node: Node) -> Translated:
    """Nothing in eval mode; UnsupportedLayer if it drops there too, as functional.dropout does unless told not to."""
    place, default = DROPOUTS[node.label]
    training = node.get(place, "training", node.keywords.get("train", default))
    if training and node.get(1, "p") != 0:
        raise node.unsupported("It is random also in eval mode; pass training=self.training.")
    return _unchanged(node)


def _cast(node: Node) -> Translated:
    """The same numbers: the engine keeps its own type and device."""
    if any(map(_is_whole, (*node.arguments[1:], *node.keywords.values()))):
        raise node.unsupported("It rounds to whole numbers.")
    first = node.arguments[0]
    if not isinstance(first, Reference):  # self.mean.type_as(x)
        return Translated(node.label, value=first)
    if node.is_scalar(first):  # a mask as numbers
        return Translated(node.label, Scalar(node.replay()), (), read_by(node))
    return Translated(node.label, Activation(unchanged), (first.index,))


def _is_whole(value: Any) -> bool:
    """Whether what a cast is given is a type of whole numbers, its name, or a fixed tensor of them."""
    kind = value.dtype if isinstance(value, Tensor) else value
    if isinstance(kind, torch.dtype):
        return not kind.is_floating_point
    return isinstance(kind, str) and any(name in kind for name in ("Int", "Long", "Bool", "Byte", "Char", "Short"))


def _without_rule(node: Node) -> Translated:
    return arithmetic.without_rule(node, "Passing relevance through it has no sense that is agreed on.")


def _softmax(node: Node) -> Translated:
    return node.layer(Softmax(node.replay(), logarithm=node.label == "log_softmax"))


def gated_linear_unit(node: Node, axis: int) -> Translated:
    """The first half along an axis times the sigmoid of the second."""
    x = node.only_input()
    signal = node.insert("signal", View(Call(_half, (Place(0), axis, 0), {})), x)
    gate = node.insert("gate", View(Call(_half, (Place(0), axis, 1), {})), x)
    gate = node.insert("sigmoid", Activation(torch.sigmoid, nonnegative=True), gate)
    return node.layer(Product(0), signal, gate)


def _half(x: Tensor, axis: int, which: int) -> Tensor:
    return x.chunk(2, axis)[which]


def _normalization(node: Node) -> Translated:
    settings = (node.get(1, "size"), node.get(2, "alpha", 1e-4), node.get(3, "beta", 0.75), node.get(4, "k", 1.0))
    try:
        return node.layer(NormalizationOperation(LocalResponseNorm(*settings)))
    except ValueError as error:
        raise node.unsupported(str(error)) from error


DIMENSIONS = ("1d", "2d", "3d")
HANDLERS: dict[str, Callable[[Node], Translated]] = {
    **dict.fromkeys(ELEMENTWISE, _activation),
    **dict.fromkeys(WITHOUT_RULE, _without_rule),
    **dict.fromkeys(UNCHANGED, _unchanged),
    **dict.fromkeys(DROPOUTS, _dropout),
    **dict.fromkeys(CASTS, _cast),
    **dict.fromkeys(MASKS, arithmetic.mask),
    **dict.fromkeys(("clamp", "clip", "clamp_min", "clamp_max"), arithmetic.clamp),
    **dict.fromkeys(("mul", "multiply"), arithmetic.product),
    **dict.fromkeys(("truediv", "div", "divide", "true_divide"), arithmetic.quotient),
    **dict.fromkeys(("pow", "float_power"), arithmetic.power),
    **dict.fromkeys(("cat", "concat", "concatenate"), join),
    "stack": lambda node: join(node, Stack),
    **dict.fromkeys(("softmax", "log_softmax"), _softmax),
    "add": arithmetic.addends,
    **dict.fromkeys(("sub", "subtract"), lambda node: arithmetic.addends(node, second_sign=-1.0)),
    "rsub": arithmetic.reversed_difference,
    **dict.fromkeys(("neg", "negative"), lambda node: node.layer(Affine(-1.0))),
    **dict.fromkeys(("pos", "positive"), lambda node: node.layer(Affine(1.0))),
    "lerp": arithmetic.interpolation,
    "addcmul": arithmetic.product_added,
    **dict.fromkeys(("norm", "linalg_norm", "linalg_vector_norm"), arithmetic.norm),
    "mean": arithmetic.reduction,
    "sum": arithmetic.total,
    **dict.fromkeys(("var", "std"), arithmetic.deviation),
    "max": arithmetic.extreme,
    "min": lambda node: arithmetic.extreme(node, smallest=True),
    "amax": arithmetic.over_axes,
    "amin": lambda node: arithmetic.over_axes(node, smallest=True),
    **dict.fromkeys(("maximum", "fmax"), arithmetic.larger),
    **dict.fromkeys(("minimum", "fmin"), lambda node: arithmetic.larger(node, smallest=True)),
    "where": arithmetic.where,
    "masked_fill": arithmetic.masked_fill,
    **{f"max_pool{n}{end}": resampling.max_pool for n in DIMENSIONS for end in ("", resampling.INDEXED)},
    **{f"adaptive_max_pool{n}{end}": resampling.adaptive_max_pool
       for n in DIMENSIONS for end in ("", resampling.INDEXED)},
    **{f"avg_pool{n}": resampling.average_pool for n in DIMENSIONS},
    **{f"adaptive_avg_pool{n}": resampling.adaptive_average_pool for n in DIMENSIONS},
    **dict.fromkeys(("interpolate", "upsample", "upsample_nearest", "upsample_bilinear"), resampling.interpolate),
    **dict.fromkeys(resampling.UPSAMPLING, resampling.upsample),
    "pad": resampling.pad,
    **dict.fromkeys(("fold", "col2im"), lambda node: node.layer(LinearMap(node.replay()), node.first())),
    **{f"conv{transposed}{n}": weights.convolution for n in DIMENSIONS for transposed in ("", "_transpose")},
    "linear": weights.linear,
    **dict.fromkeys(("matmul", "mm"), weights.matrix_product),
    "addmm": weights.biased_matrix_product,
    "glu": lambda node: gated_linear_unit(node, node.get(1, "dim", -1)),
    "local_response_norm": _normalization,
    **dict.fromkeys(("layer_norm", "native_layer_norm"), norms.layer_norm),
    **dict.fromkeys(("rms_norm", "_fused_rms_norm"), norms.rms_norm),
    "group_norm": norms.group_norm,
    "native_group_norm": norms.native_group_norm,
    "instance_norm": norms.instance_norm,
}  # fmt: skip
