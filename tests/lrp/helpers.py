"""What the tests of single layers share."""

import torch
from torch import nn

from lrpcli import Explainer
from lrpcli.lrp.propagate import Plan, backward, forward


def redistributed(module, config, x, arrived=None, **settings):
    """Relevance of the input for `arrived` at the module's output (None: random, always the same), and `arrived`."""
    explainer = Explainer(module, config, dtype=x.dtype, **settings)
    with torch.no_grad():
        trace = forward(explainer.plan, x)
        if arrived is None:
            generator = torch.Generator().manual_seed(0)
            arrived = torch.randn(trace.output.shape, generator=generator, dtype=x.dtype)
        found = backward(explainer.plan, trace, arrived)
    return found.relevance, arrived


class Call(nn.Module):
    """A function as a module; further modules that it uses are given by name."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.function(self, x) if self._modules else self.function(x)


def agree(got, expected, tolerance):
    """Asserts that two arrays differ by no more than `tolerance` of the largest expected value; the difference."""
    got, expected = torch.as_tensor(got).double(), torch.as_tensor(expected).double()
    assert got.shape == expected.shape
    difference = float((got - expected).abs().max() / expected.abs().max())
    assert difference <= tolerance, f"differs by {difference:.2e} of the largest value, allowed are {tolerance:.0e}"
    return difference


def image(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def check(function, x, expected, config=None, **modules):
    """Compares with `expected(arrived)`, and the graph's forward pass with the function itself."""
    module = Call(function, **modules)
    explainer = Explainer(module, config or {}, dtype=x.dtype)
    with torch.no_grad():
        output = forward(Plan(explainer.graph), x).output
        torch.testing.assert_close(output, module(x.clone()), rtol=1e-12, atol=1e-12)
    got, arrived = redistributed(module, config or {}, x)
    agree(got, expected(arrived), 1e-12)
