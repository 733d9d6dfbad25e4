"""Other programs that compute relevance, each called as its own documentation has it; none of them knows LRN's rule.

Zennit differentiates LRN, Captum refuses it and is given its identity rule there, autoLRP follows the operations that
torch's LRN is made of. What they compute differs from ours, and among themselves; here only time is compared.
"""

import copy
from collections.abc import Callable
from importlib.util import find_spec

import click
import torch
from torch import nn

Run = Callable[[], object]


def peers(net: nn.Module, x: torch.Tensor, low: float, high: float) -> dict[str, Run]:
    """What each installed peer is called and how it is run, for inputs `x` (N, 3, H, W) of that range."""
    makers = {"zennit": _zennit, "captum": _captum, "autolrp": _autolrp}
    runs: dict[str, Run] = {}
    for module, make in makers.items():
        if find_spec(module) is None:
            continue
        for name, run in make(copy.deepcopy(net), x, low, high).items():
            try:
                run()
            except Exception as error:
                click.echo(f"{name} fails: {type(error).__name__}: {error}")
            else:
                runs[name] = run
    return runs


def _zennit(net: nn.Module, x: torch.Tensor, low: float, high: float) -> dict[str, Run]:
    from zennit.attribution import Gradient
    from zennit.composites import EpsilonAlpha2Beta1, EpsilonGammaBox, EpsilonPlus

    targets = torch.eye(net(x[:1]).shape[1])[net(x).argmax(1)]
    composites = {
        "EpsilonPlus": EpsilonPlus(),
        "EpsilonAlpha2Beta1": EpsilonAlpha2Beta1(),
        "EpsilonGammaBox": EpsilonGammaBox(low=torch.full_like(x, low), high=torch.full_like(x, high)),
    }

    def run(composite: object) -> object:
        with Gradient(model=net, composite=composite) as attributor:
            return attributor(x, targets)

    return {f"Zennit {name}": lambda composite=composite: run(composite) for name, composite in composites.items()}


def _captum(net: nn.Module, x: torch.Tensor, low: float, high: float) -> dict[str, Run]:
    from captum.attr import LRP
    from captum.attr._utils.lrp_rules import IdentityRule

    for module in net.modules():
        if isinstance(module, (nn.LocalResponseNorm, nn.Identity)):
            module.rule = IdentityRule()
    explain, targets = LRP(net), net(x).argmax(1)
    return {"Captum epsilon": lambda: explain.attribute(x, target=targets)}


def _autolrp(net: nn.Module, x: torch.Tensor, low: float, high: float) -> dict[str, Run]:
    import autolrp

    configs = {"epsilon": autolrp.LRPConfig(), "z-plus": autolrp.LRPConfig.composite(),
               "alpha 2, beta 1": autolrp.LRPConfig.epsilon_alpha2_beta1()}  # fmt: skip

    def run(config: object) -> object:
        wrapped = autolrp.tensor(x)
        net(wrapped).max(1).values.sum().lrp(config=config)
        return wrapped.relevance

    return {f"autoLRP {name}": lambda config=config: run(config) for name, config in configs.items()}
