"""Every rule there is: kind of layer -> name -> rule, one line a rule. The first of a kind is its default."""

from typing import Any

from lrpcli.lrp.layers import (
    elementwise,
    layer_norm,
    linear_rules,
    normalization,
    pooling,
    preprocessing,
    products,
    selection,
    views,
)
from lrpcli.lrp.operation import Rule

AnyRule = Rule[Any]
"""A rule for layers of some type, which the table and the layer's kind keep right."""

_LINEAR: dict[str, type[AnyRule]] = {
    "epsilon": linear_rules.Epsilon,
    "alpha-beta": linear_rules.AlphaBeta,
    "z-plus": linear_rules.ZPlus,
    "gamma": linear_rules.Gamma,
    "flat": linear_rules.Flat,
    "w-square": linear_rules.WSquare,
    "z-box": linear_rules.ZBox,
    "sign": linear_rules.Sign,
    "gradient-times-input": linear_rules.GradientTimesInput,
    "gradient": elementwise.Gradient,
}
RULES: dict[str, dict[str, type[AnyRule]]] = {
    "convolution": _LINEAR,
    "fully-connected": _LINEAR,
    "lrn": {
        "taylor": normalization.Taylor,
        "identity": normalization.Identity,
        "taylor-unnormalized": normalization.TaylorUnnormalized,
        "epsilon": normalization.NormalizationEpsilon,
        "alpha-beta": normalization.NormalizationAlphaBeta,
        "gradient": elementwise.Gradient,
    },
    "layer-norm": {
        "z-rule": layer_norm.LayerNormZ,
        "identity": layer_norm.LayerNormIdentity,
        "gradient": elementwise.Gradient,
    },
    "max-pool": {
        "winner": pooling.Winner,
        "average": pooling.MaxPoolAverage,
        "gradient": elementwise.Gradient,
    },
    "average-pool": {
        "proportional": pooling.Proportional,
        "gradient": elementwise.Gradient,
    },
    "activation": {"default": elementwise.Pass, "gradient": elementwise.Gradient},
    "concat": {"default": views.ConcatRule, "gradient": elementwise.Gradient},
    "sum": {"default": elementwise.SumRule, "gradient": elementwise.Gradient},
    "product": {"default": products.ProductRule, "gradient": elementwise.Gradient},
    "gate": {"default": products.Stop, "gradient": elementwise.Gradient},
    "softmax": {"default": products.Stop, "gradient": elementwise.Gradient},
    "maximum": {"default": selection.MaximumRule, "gradient": elementwise.Gradient},
    "affine": {"default": elementwise.AffineRule, "gradient": elementwise.Gradient},
    "preprocessing": {"default": preprocessing.InputMapRule, "gradient": elementwise.Gradient},
    "view": {"default": views.ViewRule, "gradient": elementwise.Gradient},
    "pad": {"default": views.PadRule, "gradient": elementwise.Gradient},
    "scalar": {"default": elementwise.Pass},
}
KINDS = tuple(kind for kind in RULES if kind != "scalar")
"""The kinds that a config may name: all but sizes, which carry no relevance."""
LINEAR_KINDS = ("convolution", "fully-connected")
