"""ONNX files for tests, and what onnxruntime makes of them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

import lrpcli

OPSET = 17


def tensor(name: str, numbers: Any, kind: Any = None) -> onnx.TensorProto:
    """A fixed tensor: lists of whole numbers as int64, others as float32."""
    array = np.asarray(numbers)
    kind = kind or (np.int64 if array.dtype.kind in "iu" else np.float32)
    return numpy_helper.from_array(np.ascontiguousarray(array.astype(kind)).reshape(array.shape), name)


def weights(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) / 3


def value(name: str, shape: Any, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def make(
    nodes: list[Any],
    tensors: list[Any] = (),
    shape: Any = (1, 3, 8, 8),
    outputs: list[Any] = ("scores",),
    opset: int = OPSET,
    inputs: list[Any] | None = None,
    **more: Any,
) -> onnx.ModelProto:
    """A net from "input" to `outputs`, unchecked."""
    inputs = [value("input", shape)] if inputs is None else inputs
    made = [output if isinstance(output, onnx.ValueInfoProto) else value(output, None) for output in outputs]
    graph = helper.make_graph(nodes, "net", inputs, made, list(tensors), **more)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def save(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def node(operator: str, inputs: str, outputs: str, name: str | None = None, **attributes: Any) -> onnx.NodeProto:
    """A node by the names of what it reads and makes, with blanks between them."""
    return helper.make_node(operator, inputs.split(), outputs.split(), name=name or f"the {operator}", **attributes)


def small_nodes() -> list[Any]:
    """A small CNN with LRN, for 3 x 8 x 8."""
    return [
        node("Conv", "input w b", "c", "conv1", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r", "relu1"),
        node("MaxPool", "r", "p", "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        node("LRN", "p", "n", "norm1", size=3, alpha=0.5, beta=0.75, bias=2.0),
        node("GlobalAveragePool", "n", "g", "pool2"),
        node("Flatten", "g", "f", "flat"),
        node("Gemm", "f v d", "scores", "fc", transB=1),
    ]


def small_tensors() -> list[Any]:
    return [
        tensor("w", weights((6, 3, 3, 3), 1)),
        tensor("b", weights((6,), 2)),
        tensor("v", weights((4, 6), 3)),
        tensor("d", weights((4,), 4)),
    ]


def small(path: Path, **more: Any) -> Path:
    return save(path, make(small_nodes(), small_tensors(), **more))


def run(path: Path, x: torch.Tensor, output: str | None = None) -> np.ndarray:
    """What onnxruntime makes of an input."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (scores,) = session.run([output or session.get_outputs()[0].name], {session.get_inputs()[0].name: x.numpy()})
    return scores


def scores(model: lrpcli.Model, x: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model.module(x).numpy()


def images(model: lrpcli.Model, count: int = 2) -> torch.Tensor:
    return torch.randn(count, *model.input_shape, generator=torch.Generator().manual_seed(3))


def difference(own: Any, other: Any) -> float:
    """The largest difference as a share of the largest value."""
    own, other = (torch.as_tensor(np.asarray(values)).double() for values in (own, other))
    assert own.shape == other.shape
    return float((own - other).abs().max() / other.abs().max())


def equals_onnxruntime(path: Path, **more: Any) -> lrpcli.Model:
    """The model in a file, whose scores for two images at once are what onnxruntime gives for each."""
    model = lrpcli.load_model(path, **more)
    x = images(model)
    wanted = np.concatenate([run(path, image[None], model.head).reshape(1, -1) for image in x])
    assert difference(scores(model, x), wanted) < 1e-5
    return model
