"""Layers that multiply maps by numbers that another branch of the net computes, as squeeze and excitation does."""

import operator

import torch
from torch import fx

from lrpcli.models.caffe.builder import CaffeBuilder
from lrpcli.models.caffe.network import SourceLayer
from lrpcli.models.graph_builder import Shape


def scale_by_input(builder: CaffeBuilder, layer: SourceLayer) -> None:
    """A Scale layer with two inputs: the first times the second, which has one number per channel of each image."""
    (signal, gate), (shape, gate_shape) = builder.inputs(layer, 2)
    values = layer.parameters("scale")
    if values.axis not in (0, -len(shape) - 1) or values.bias_term:
        raise builder.unsupported(layer, "with two inputs it must have axis 0, so that each image has its own factors, "
                                         "and no biases")  # fmt: skip
    if gate_shape != shape[: len(gate_shape)]:
        raise ValueError(f"its second input has the shape {gate_shape}, which is not the beginning of {shape}")
    gate = _spread(builder, layer, gate, (*gate_shape, *[1] * (len(shape) - len(gate_shape))), gate_shape)
    builder.finish(layer, builder.call(layer.name, operator.mul, signal, gate), shape)


def axpy(builder: CaffeBuilder, layer: SourceLayer) -> None:
    """Axpy of SENet: the first input, one number per channel, times the second, plus the third."""
    (gate, signal, addend), (gate_shape, shape, addend_shape) = builder.inputs(layer, 3)
    if shape != addend_shape or gate_shape[:1] != shape[:1] or any(side != 1 for side in gate_shape[1:]):
        raise ValueError(f"inputs of the shapes {gate_shape}, {shape} and {addend_shape} do not go together")
    gate = _spread(builder, layer, gate, (shape[0], *[1] * (len(shape) - 1)), gate_shape)
    product = builder.call(f"{layer.name}/scale", operator.mul, signal, gate)
    builder.finish(layer, builder.call(layer.name, operator.add, product, addend), shape)


def _spread(builder: CaffeBuilder, layer: SourceLayer, gate: fx.Node, shape: Shape, given: Shape) -> fx.Node:
    """The gate in a shape that meets the signal's."""
    return gate if shape == given else builder.call(f"{layer.name}/gate", torch.reshape, gate, (-1, *shape))
