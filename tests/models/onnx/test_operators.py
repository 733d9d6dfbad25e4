"""Every operator that is read, on the cases that the onnx package has for it."""

import pytest

from benchmarks.onnx_coverage import operator_cases, try_case
from lrpcli.models.onnx.operators import OPERATORS

CNN = {
    "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Constant", "ConstantOfShape", "Conv",
    "ConvTranspose", "DepthToSpace", "Div", "Dropout", "Elu", "Flatten", "Gather", "Gelu", "Gemm", "GlobalAveragePool",
    "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN", "LayerNormalization",
    "LeakyRelu", "LogSoftmax", "MatMul", "MaxPool", "Mul", "PRelu", "Pad", "Pow", "ReduceMean", "Relu", "Reshape",
    "Resize", "Selu", "Sigmoid", "Slice", "Softmax", "Softplus", "Split", "Squeeze", "Sub", "Sum", "Tanh", "Transpose",
    "Unsqueeze", "Upsample",
}  # fmt: skip
"""What convolutional nets are made of."""


@pytest.fixture(scope="module")
def cases():
    found = {}
    for case in operator_cases():
        found.setdefault(case.model.graph.node[0].op_type, []).append(case)
    return found


def test_the_operators_of_convolutional_nets_are_read():
    assert set(OPERATORS) >= CNN


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_what_is_read_equals_what_the_standard_gives(operator, cases, tmp_path):
    outcomes = [try_case(case, tmp_path) for case in cases.get(operator, [])]
    assert [outcome for outcome in outcomes if not outcome.refusal and not outcome.equal] == []
    assert all(outcome.refusal.endswith((".", "tensor", "nothing")) for outcome in outcomes if outcome.refusal)


@pytest.mark.parametrize("operator", sorted(CNN))
def test_most_cases_are_read(operator, cases, tmp_path):
    outcomes = [try_case(case, tmp_path) for case in cases.get(operator, [])]
    equal = sum(outcome.equal for outcome in outcomes)
    assert equal >= len(outcomes) / 2 or operator == "Resize", [outcome for outcome in outcomes if outcome.refusal]
