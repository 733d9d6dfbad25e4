"""What the tests of single layers share."""

import torch
from torch import nn

from lrpcli import Explainer
from lrpcli.lrp.propagate import backward, forward


def redistributed(module, config, x, arrived=None, **settings):
    """Relevance of the input for `arrived` at the module's output (None: random, always the same), and `arrived`."""
    explainer = Explainer(module, config, dtype=x.dtype, **settings)
    rules = [assignment.rule for assignment in explainer.assignments]
    with torch.no_grad():
        trace = forward(explainer.graph, rules, x)
        if arrived is None:
            generator = torch.Generator().manual_seed(0)
            arrived = torch.randn(trace.output.shape, generator=generator, dtype=x.dtype)
        found = backward(explainer.graph, rules, trace, arrived)
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
