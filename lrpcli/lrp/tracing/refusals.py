"""What torch.fx cannot see of a module: it is made right where that is possible, and refused by name elsewhere."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules import module as torch_module
from torch.nn.parameter import is_lazy
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lrpcli.errors import ModelError
from lrpcli.lrp.tracing.modules import BATCH_NORMS, DROPOUTS
from lrpcli.lrp.tracing.norms import INSTANCE_NORMS

WRAPPERS = {"DataParallel": "module", "DistributedDataParallel": "module", "AveragedModel": "module",
            "OptimizedModule": "_orig_mod"}  # fmt: skip
"""Classes that call the one module in the attribute named, and do nothing else to its result."""
WEIGHT_HOOKS = (WeightNorm, SpectralNorm, BasePruningMethod)
"""Hooks that compute a weight anew before each forward pass: until the first one the weight is another."""
STATEFUL = (*DROPOUTS, *BATCH_NORMS, *INSTANCE_NORMS, nn.RReLU)
"""Modules that compute one thing in training mode and another in eval mode."""
QUANTISED = ("torch.ao.nn.quantized", "torch.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse")


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside DataParallel, torch.compile and their kin."""
    while type(module).__name__ in WRAPPERS:
        inner = getattr(module, WRAPPERS[type(module).__name__], None)
        if not isinstance(inner, nn.Module):
            break
        module = inner
    return module


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """The module in eval mode while it lasts; afterwards every part is in the mode in which it was."""
    training = [part for part in module.modules() if part.training]
    try:
        module.eval()
    except NotImplementedError:  # what torch.export gives has no modes
        training = []
    try:
        yield
    finally:
        for part in training:
            part.training = True


@contextmanager
def unmarked(module: nn.Module) -> Iterator[None]:
    """Takes the constants away afterwards that torch.fx puts into a module while it traces it."""
    before = set(vars(module))
    try:
        yield
    finally:
        for name in set(vars(module)) - before:
            delattr(module, name)


@contextmanager
def own_buffers(module: nn.Module) -> Iterator[None]:
    """Copies in place of a module's buffers while it lasts: a forward function that counts its calls changes these."""
    held = [(part._buffers, name, buffer) for part in module.modules() for name, buffer in part._buffers.items()]
    copies = {id(buffer): buffer.clone() for _, _, buffer in held if buffer is not None}
    for buffers, name, buffer in held:
        buffers[name] = copies.get(id(buffer))
    try:
        yield
    finally:
        for buffers, name, buffer in held:
            buffers[name] = buffer


@contextmanager
def require_no_random_numbers(kind: str) -> Iterator[None]:
    """ModelError if torch draws random numbers while it lasts: the trace would hold one draw for ever."""
    before = torch.get_rng_state()
    yield
    if not torch.equal(torch.get_rng_state(), before):
        torch.set_rng_state(before)
        raise ModelError(
            f"The forward function of {kind} draws random numbers, so that its logits differ from call to call. "
            "Take them out for eval mode (if self.training: ...)."
        )


def require_plain(root: nn.Module) -> None:
    """ModelError if all of a model is of a sort that no trace shows, or if a part of it holds no numbers yet."""
    if torch_module._global_forward_hooks or torch_module._global_forward_pre_hooks:
        raise ModelError(
            "A forward hook is registered for all modules (register_module_forward_hook), and a trace does not show "
            "what it changes. Remove it before you make the Explainer."
        )
    for name, part in root.named_modules():
        called = _called(name, part)
        if isinstance(part, torch.jit.ScriptModule):
            raise ModelError(f"{called} is TorchScript, which cannot be traced. Pass the nn.Module it was made from.")
        if type(part).__module__.startswith(QUANTISED):
            raise ModelError(f"{called} is quantised, and there are no rules for that. Pass the model in float.")
        if any(map(is_lazy, (*part._parameters.values(), *part._buffers.values()))):
            raise ModelError(
                f"{called} is lazy and has no weights yet. Run one batch through the model before you make the "
                "Explainer."
            )
    if isinstance(root, fx.GraphModule):
        _require_compiled(root)
    elif "forward" in vars(root):
        raise ModelError(
            f"The forward function of {type(root).__name__} was replaced (model.forward = ...), and only that of its "
            "class can be traced. Write a class whose forward function does the same."
        )
    elif type(root).__call__ is not nn.Module.__call__:
        raise ModelError(
            f"{type(root).__name__} has a __call__ of its own, and only forward functions can be traced. Move what it "
            "does into forward."
        )
    require_no_hooks(root, "")


def _require_compiled(root: fx.GraphModule) -> None:
    """ModelError if the graph was changed and the code that runs was not."""
    if root.graph.python_code("self").src != root.code:
        raise ModelError(
            f"The graph of the GraphModule {type(root).__name__} was changed after its code was made, so that it "
            "does not show what the model computes. Call its recompile() before you make the Explainer."
        )


def require_no_hooks(module: nn.Module, name: str) -> None:
    """ModelError if a module has forward hooks, but for those that are known: see `settled`."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
    unknown = [hook for hook in hooks if not isinstance(hook, WEIGHT_HOOKS) and not _is_of_export(hook)]
    if unknown:
        hook = getattr(unknown[0], "__qualname__", type(unknown[0]).__name__)
        raise ModelError(
            f"{_called(name, module)} has a forward hook ({hook}), and a trace does not show what it changes. Remove "
            "the hook before you make the Explainer, or write what it does into the forward function."
        )


def settled(module: Any) -> Any:
    """The module with the weights that its next forward pass will have; the one given is not changed."""
    hooks = [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, WEIGHT_HOOKS)]
    if not hooks:
        return module
    result = copy.copy(module)
    with torch.no_grad():
        for hook in hooks:
            hook(result, None)  # sets an attribute of the copy: what it computes from is shared
    return result


def _is_of_export(hook: Any) -> bool:
    """Whether a hook is one that torch.export gives its modules, to look at the shape of the input."""
    return str(getattr(hook, "__module__", "")).startswith("torch.export")


def _called(name: str, module: nn.Module) -> str:
    """How messages begin that speak of a module."""
    kind = type(module).__name__
    return f"Layer {name!r} of type {kind}" if name else f"The model {kind}"
