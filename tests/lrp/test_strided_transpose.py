"""The transpose by phases equals the library's backward kernel."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpcli.lrp.layers.strided_transpose import split_into_phases, spread_by_phases


def native(gradient, weight, stride, padding, shape):
    template = gradient.new_empty(shape)
    return torch.ops.aten.convolution_backward(
        gradient, template, weight, None, [stride, stride], padding, [1, 1], False, [0, 0], 1, [True, False, False]
    )[0]


@given(
    kernel=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    stride=st.integers(2, 4),
    extra=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    channels=st.integers(1, 4),
    data=st.data(),
)
@settings(max_examples=150, deadline=None)
def test_equals_the_backward_kernel(kernel, stride, extra, channels, data):
    padding = [data.draw(st.integers(0, side // 2)) for side in kernel]
    height, width = (max(1, side - 2 * pad) + more for side, pad, more in zip(kernel, padding, extra, strict=True))
    weight = torch.randn(5, channels, *kernel, dtype=torch.float64)
    x = torch.randn(2, channels, height, width, dtype=torch.float64)
    gradient = torch.randn_like(torch.conv2d(x, weight, None, stride, padding))
    expected = native(gradient, weight, stride, padding, x.shape)
    found = spread_by_phases(gradient, split_into_phases(weight, stride), stride, padding, x.shape)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride", "padding", "size"), [(11, 4, 0, 227), (7, 2, 3, 224), (3, 2, 1, 224)])
def test_first_layers_in_single_precision(kernel, stride, padding, size):
    weight = torch.randn(16, 3, kernel, kernel)
    x = torch.randn(1, 3, size, size)
    gradient = torch.randn_like(torch.conv2d(x, weight, None, stride, padding))
    expected = native(gradient.double(), weight.double(), stride, [padding, padding], x.shape)
    found = spread_by_phases(gradient, split_into_phases(weight, stride), stride, (padding, padding), x.shape)
    assert float((found - expected).abs().max() / expected.abs().max()) < 5e-6
