"""Copies of a model whose parameters are reset, for the tests of Adebayo et al. 2018 and Hedström et al. 2023."""

import copy
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lrpcli.errors import ModelError
from lrpcli.models.model import Model

AXES = 2
"""Parameters with fewer axes are biases and scales."""
ADVICE = "Leave out the measure randomise."


def with_reset_parameters(model: Model, seed: int) -> Model:
    """The model with new random values for all its parameters; the model itself stays as it is.

    Module by module, in the order of torch's `modules`: its own `reset_parameters` is called, then each parameter of
    its own that this left as it was is drawn from a normal distribution with that parameter's mean and standard
    deviation. So a parameter that is the same everywhere, such as the scale of a new BatchNorm, stays. Buffers change
    where `reset_parameters` resets them, as BatchNorm does with its running mean and variance. ModelError if nothing
    changes.
    """
    module = _copied(model)
    _reset(model.name, module, {id(parameter) for parameter in module.parameters()}, seed)
    return _changed(model, module)


def with_reset_last_layer(model: Model, seed: int) -> Model:
    """The model with new random values for the layer that makes the logits, as with_reset_parameters has them.

    That layer's weights are the parameter of two axes or more that lies fewest operations before the logits; the other
    parameters of its module, such as the bias, belong to it. ModelError if there is none.
    """
    module = _copied(model)
    _reset(model.name, module, _last_parameters(model, module), seed)
    return _changed(model, module)


def _copied(model: Model) -> nn.Module:
    try:
        module = copy.deepcopy(model.module).cpu()
    except Exception as error:  # whatever the attributes of a user's module raise
        raise ModelError(
            f"The model {model.name!r} cannot be copied, so that its parameters cannot be reset: {error}. {ADVICE}"
        ) from error
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    with suppress(NotImplementedError):  # exported programs have no modes
        module.eval()
    return module


def _changed(model: Model, module: nn.Module) -> Model:
    before = (parameter.detach().cpu() for parameter in model.module.parameters())
    if all(torch.equal(one, two.detach()) for one, two in zip(before, module.parameters(), strict=True)):
        raise ModelError(
            f"The model {model.name!r} has no parameters that could be reset: its weights are not torch.nn.Parameter, "
            f"or are all the same. {ADVICE}"
        )
    return replace(model, module=module.requires_grad_(False))


def _reset(name: str, module: nn.Module, chosen: Collection[int], seed: int) -> None:
    """New values for the parameters with these ids; other parameters of their modules keep theirs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for part in module.modules():
            before = [(parameter, parameter.clone()) for parameter in part.parameters(recurse=False)]
            if not any(id(parameter) in chosen for parameter, _ in before):
                continue
            _reset_itself(name, part)
            for parameter, old in before:
                if id(parameter) not in chosen:
                    parameter.copy_(old)
                elif torch.equal(parameter, old) and parameter.is_floating_point():
                    _draw(parameter, generator)


def _reset_itself(name: str, part: nn.Module) -> None:
    reset: Any = getattr(part, "reset_parameters", None)
    if not callable(reset):
        return
    try:
        reset()
    except Exception as error:  # it may be anyone's
        raise ModelError(
            f"The parameters of the model {name!r} cannot be reset: {type(part).__name__}.reset_parameters() raised "
            f"{type(error).__name__}: {error}. {ADVICE}"
        ) from error


def _draw(parameter: Tensor, generator: torch.Generator) -> None:
    """New values that are as large and as far apart as the old ones, in place."""
    mean, deviation = parameter.mean(), parameter.std(correction=0)
    parameter.copy_(mean + deviation * torch.randn(parameter.shape, generator=generator).to(parameter))


def _last_parameters(model: Model, module: nn.Module) -> set[int]:
    """Ids of the parameters of the layer that makes the logits."""
    near = _near_the_logits(module, model.input_shape)
    for part in module.modules():
        own = list(part.parameters(recurse=False))
        weights = [parameter for parameter in own if parameter.dim() >= AXES]
        if any(id(parameter) in near for parameter in weights):
            return {id(parameter) for parameter in own if len(weights) == 1 or id(parameter) in near}
    raise ModelError(
        f"The layer that makes the logits of the model {model.name!r} cannot be found: autograd sees no weights behind "
        f"them. {ADVICE}"
    )


def _near_the_logits(module: nn.Module, shape: tuple[int, int, int]) -> set[int]:
    """Ids of the parameters up to as many operations before the logits as the nearest with two axes or more."""
    found: set[int] = set()
    with torch.inference_mode(False), torch.enable_grad():
        first = next((parameter for parameter in module.parameters() if parameter.is_floating_point()), torch.zeros(()))
        output = module(torch.zeros(1, *shape, dtype=first.dtype))
    level, seen, done = [getattr(output, "grad_fn", None)], set(), False
    while level and not done:
        below: list[Any] = []
        for node in level:
            variable = getattr(node, "variable", None)
            if variable is not None:
                found.add(id(variable))
                done = done or variable.dim() >= AXES
            elif node is not None and node not in seen:
                seen.add(node)
                below += [before for before, _ in node.next_functions]
        level = below
    return found
