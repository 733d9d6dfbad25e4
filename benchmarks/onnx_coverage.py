"""How much of ONNX is read, and whether it computes what onnxruntime does: tables for docs/models.md.

Operators: the cases that the onnx package has for each operator, compared with the results that it gives. Nets: the
light nets of the onnx package, whose weights are made random here, compared with onnxruntime.

python benchmarks/onnx_coverage.py
"""

import importlib
import math
import re
import sys
import tempfile
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper

import lrpcli
from lrpcli.errors import LrpError
from lrpcli.models.onnx.builder import OnnxBuilder
from lrpcli.models.onnx.net import OLDEST_OPSET, OnnxNet, read_net
from lrpcli.models.onnx.operators import OPERATORS
from lrpcli.models.onnx.values import Symbol
from lrpcli.models.onnx.walk import add_nodes

TOLERANCE = 1e-5
"""Of the largest value."""
FIRST_OUTPUT = ("Dropout", "LayerNormalization", "MaxPool")
"""Operators whose other outputs are for training."""
LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


REASONS = {
    "would put out a tensor|zero-size|it makes a tensor of shape": "tensors without numbers",
    "with dilations": "dilations",
    "statistics of the batch": "training",
    "drops numbers at random": "training",
    "no type of numbers": "numbers of 8 bits and fewer, text",
    "rounds what the net computes": "rounding to whole numbers",
    "it reads or makes a list": "lists",
    "is fixed; fold": "pooling of whole numbers",
    "larger than what its kernel reaches": "an output larger than what the kernel reaches",
    "way of resizing|places pixels|nearest neighbours|new size": "ways of resizing that torch has not",
}
"""What messages say -> why, for the table."""
ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 1e-3}
"""Cases whose results are written down with few places, and by how much they may differ."""


@dataclass(frozen=True)
class Outcome:
    """What came of a case: the largest difference as a share of the largest value, or why it was refused."""

    operator: str
    name: str
    difference: float = math.nan
    refusal: str = ""

    @property
    def equal(self) -> bool:
        return self.difference <= ROUNDED.get(self.name, TOLERANCE)


def operator_cases() -> list[Any]:
    """The onnx package's cases with one node, for the operators that are read here."""
    suite = importlib.import_module("onnx.backend.test.case.node")
    folder = Path(str(suite.__file__)).parent
    modules = {path.stem.replace("_", ""): path.stem for path in folder.glob("*.py")}
    for operator in OPERATORS:
        name = modules.get(operator.lower())
        if name:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(f"{suite.__name__}.{name}")
    cases = {case.name: case for case in suite._NodeTestCases if len(case.model.graph.node) == 1}
    return [case for case in cases.values() if case.model.graph.node[0].op_type in OPERATORS]


def try_case(case: Any, folder: Path) -> Outcome:
    """A case with its first real input as that of the net, and the others fixed."""
    operator = case.model.graph.node[0].op_type
    inputs, outputs = case.data_sets[0]
    try:
        inputs = [_array(given) for given in inputs]
        if "BFLOAT16" in case.name and any(_array(given).dtype == np.uint16 for given in (*inputs, *outputs)):
            raise _LeftOutError("This version of onnx gives the bits of its bfloat16 numbers in their place.")
        net, place = _with_fixed_inputs(case.model, inputs, folder)
        if operator in FIRST_OUTPUT:
            net = replace(net.leading_to(net.outputs[:1]), inputs=net.inputs)
        results = run_net(net, None if place is None else torch.from_numpy(np.array(inputs[place], np.float32)))
    except LrpError as error:
        return Outcome(operator, case.name, refusal=str(error))
    except _LeftOutError as error:
        return Outcome(operator, case.name, refusal=str(error))
    pairs = [(own, _array(other)) for own, other in zip(results, outputs, strict=False) if own is not None]
    return Outcome(operator, case.name, max((_difference(own, other) for own, other in pairs), default=0.0))


class _LeftOutError(Exception):
    pass


def _array(given: Any) -> np.ndarray:
    if isinstance(given, onnx.TensorProto):
        return numpy_helper.to_array(given)
    if not isinstance(given, (np.ndarray, np.generic)):
        raise _LeftOutError("it reads or makes a list, or nothing")
    return np.asarray(given)


def _initializer(given: np.ndarray, name: str) -> Any:
    try:
        return numpy_helper.from_array(np.ascontiguousarray(given), name)
    except ValueError as error:  # numbers of four bits, in older versions
        raise _LeftOutError("It reads numbers that this version of onnx cannot write down.") from error


def _with_fixed_inputs(model: Any, inputs: Any, folder: Path) -> tuple[OnnxNet, int | None]:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    names = [value.name for value in copied.graph.input]
    for entry in copied.opset_import:
        entry.version = max(entry.version, OLDEST_OPSET)
    real = [place for place, given in enumerate(inputs) if given.dtype.kind == "f"]
    place = real[0] if real else None
    for number, given in enumerate(inputs):
        if number != place:
            copied.graph.initializer.append(_initializer(given, names[number]))
    if place is None:  # every net has an input
        copied.graph.input.append(onnx.helper.make_tensor_value_info("an image", TensorProto.FLOAT, [1, 3, 4, 4]))
    path = folder / "case.onnx"
    onnx.save(copied, path)
    return read_net(path), place


def run_net(net: OnnxNet, x: torch.Tensor | None) -> list[np.ndarray | None]:
    """What a net makes of an input whose first axis is one as any other; None for an output that is left out."""
    source = net.inputs[0]
    shape = tuple(x.shape) if x is not None else (1, 3, 4, 4)
    builder = OnnxBuilder(net, source, shape, images=False)
    add_nodes(builder, net.nodes)
    results: list[np.ndarray | None] = []
    for name in net.outputs:
        value = builder.values.get(name)
        if isinstance(value, Symbol):
            builder.nodes[name] = value.node
            module = builder.build(name, "Case")
            builder.graph.erase_node(next(iter(reversed(builder.graph.nodes))))
            results.append(module(x).detach().numpy())
        else:
            results.append(None if value is None else value.numpy())
    return results


def difference(own: Any, other: Any) -> float:
    """The largest difference as a share of the largest value; infinite where the shapes differ."""
    own, other = np.asarray(own, np.float64), np.asarray(other).astype(np.float64)
    if own.shape != other.shape:
        return math.inf
    same = (own == other) | (np.isnan(own) & np.isnan(other))
    own, other = np.where(same, 0, own), np.where(same & ~np.isfinite(other), 0, other)
    gaps = np.where(same, 0, np.abs(own - np.where(same, 0, other)))
    return float(gaps.max(initial=0) / max(np.abs(other).max(initial=0), 1e-30))


def _difference(own: Any, other: np.ndarray) -> float:
    """As difference, in units of what the type of the case's own result can tell apart."""
    return difference(own, other) * (TOLERANCE / 2**-7 if other.dtype.itemsize == 2 else 1)


def light_nets() -> Iterator[tuple[str, Any]]:
    """The light nets, whose weights are one number each, with random ones in their place."""
    for path in sorted(LIGHT.glob("light_*.onnx")):
        yield path.stem.removeprefix("light_"), with_random_weights(onnx.load(path))


def with_random_weights(model: Any, seed: int = 0) -> Any:
    """A light net with initializers drawn at random in place of its ConstantOfShape weights."""
    chance = np.random.default_rng(seed)
    graph = model.graph
    shapes = {proto.name: numpy_helper.to_array(proto) for proto in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            kept.append(node)
            continue
        shape = tuple(int(side) for side in shapes[node.input[0]])
        numbers = _random_weight(chance, shape)
        graph.initializer.append(numpy_helper.from_array(numbers.astype(np.float32), node.output[0]))
    if kept[-1].op_type == "Softmax":  # which makes one class of random scores
        graph.output[0].name = kept.pop().input[0]
        del graph.output[0].type.tensor_type.shape.dim[:]
    del graph.node[:]
    graph.node.extend(kept)
    return model


def _random_weight(chance: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if len(shape) < 2:  # biases, and the variances of normalisations, which must be positive
        return chance.uniform(0.5, 1.5, shape)
    return chance.standard_normal(shape) * math.sqrt(2 / math.prod(shape[1:]))


def compare_net(model: Any, folder: Path, images: int = 2) -> tuple[float, lrpcli.Model]:
    """The difference of a net's scores from those of onnxruntime, one image at a time there, all at once here."""
    import onnxruntime

    path = folder / "net.onnx"
    onnx.save(model, path)
    own = lrpcli.load_model(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = torch.randn(images, *own.input_shape, generator=torch.Generator().manual_seed(1))
    name = session.get_inputs()[0].name
    wanted = [session.run([own.head], {name: image[None].numpy()})[0].reshape(1, -1) for image in x]
    with torch.no_grad():
        return difference(own.module(x).numpy(), np.concatenate(wanted)), own


def operator_tables(outcomes: list[Outcome]) -> str:
    """The operators of which every case is equal, and a table of the others."""
    whole, parts = [], ["| operator | cases equal | left out |", "| --- | --- | --- |"]
    for operator in sorted({outcome.operator for outcome in outcomes}):
        own = [outcome for outcome in outcomes if outcome.operator == operator]
        left = Counter(_reason(outcome) for outcome in own if not outcome.equal)
        if left:
            reasons = "; ".join(f"{reason} ({count})" for reason, count in left.most_common())
            parts.append(f"| {operator} | {len(own) - left.total()} of {len(own)} | {reasons} |")
        else:
            whole.append(f"{operator} {len(own)}")
    return "\n".join([*textwrap.wrap(f"Every case is equal of {', '.join(whole)}.", 120), "", *parts])


def _reason(outcome: Outcome) -> str:
    if not outcome.refusal:
        return f"{outcome.name} DIFFERS by {outcome.difference:.1e}"
    return next((reason for pattern, reason in REASONS.items() if re.search(pattern, outcome.refusal)), outcome.refusal)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        outcomes = [try_case(case, Path(folder)) for case in operator_cases()]
        print(operator_tables(outcomes))
        equal = sum(outcome.equal for outcome in outcomes)
        wrong = [outcome for outcome in outcomes if not outcome.equal and not outcome.refusal]
        refused = len(outcomes) - equal - len(wrong)
        print(f"\n{len(outcomes)} cases: {equal} equal, {refused} refused, {len(wrong)} wrong\n")
        print("| net | largest difference, as a share of the largest score |\n| --- | --- |")
        for name, model in light_nets():
            share, _ = compare_net(model, Path(folder))
            print(f"| {name} | {share:.1e} |")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
