"""One function per ONNX operator: what it reads and its attributes become values of the graph."""

from collections.abc import Callable

from lrpcli.models.onnx.builder import OnnxBuilder
from lrpcli.models.onnx.net import OnnxNode
from lrpcli.models.onnx.operators import elementwise, linear, pooling, resampling, shapes

OPERATORS: dict[str, Callable[[OnnxBuilder, OnnxNode], None]] = {
    **elementwise.OPERATORS,
    **linear.OPERATORS,
    **pooling.OPERATORS,
    **resampling.OPERATORS,
    **shapes.OPERATORS,
}
"""Operator -> what adds a node of it to the graph."""
