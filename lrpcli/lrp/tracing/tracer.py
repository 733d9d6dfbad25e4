"""The forward function of a torch.nn.Module -> a graph of calls, by torch.fx; or an error that names file and line."""

import inspect
import linecache
import operator
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import fx, nn

from lrpcli.errors import LrpError, ModelError
from lrpcli.lrp.tracing.checks import passing_value
from lrpcli.lrp.tracing.functions import ASSIGNMENT
from lrpcli.lrp.tracing.lrn_patterns import hint_at_norms
from lrpcli.lrp.tracing.modules import is_leaf
from lrpcli.lrp.tracing.names import plain_name
from lrpcli.lrp.tracing.refusals import require_no_hooks, unwrapped

MACHINERY = (str(Path(torch.__file__).parent), str(Path(__file__).parents[2]))
"""Where the code lies that is not the user's."""
CONTROL_FLOW = (
    "Write it without control flow that depends on tensors, their shapes or their types (to flatten: "
    "torch.flatten(x, 1)), or say which shape the images have, Explainer(model, input_shape=(3, 224, 224)): then it is "
    "traced for that shape by torch.export."
)


class Untraceable(ModelError):
    """torch.fx cannot trace a forward function, but torch.export may, which knows the shape of the input."""


def trace(module: nn.Module) -> fx.Graph:
    """The calls that the forward function makes. Untraceable names the line that cannot be traced."""
    try:
        with _without_compiler():
            return _Tracer().trace(module, _defaults(module))
    except LrpError:
        raise
    except Exception as error:
        advice = ASSIGNMENT if isinstance(error, ItemAssignment) else CONTROL_FLOW
        raise Untraceable(
            f"The forward function of {type(module).__name__} cannot be traced{described(error)}. "
            f"{advice}{hint_at_norms(module)}"
        ) from error


def described(error: Exception) -> str:
    """Where in the user's code an error of tracing came from, and its own first line."""
    first = str(error).strip().partition("\n")[0].rstrip(".")
    return f"{line_in_code(error)} ({type(error).__name__}: {first})"


def _defaults(module: nn.Module) -> dict[str, Any]:
    """The arguments of a forward function that are known: all but the first that have a default, and keep it.

    Tensors stay arguments, as torch.fx has no check for them.
    """
    parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    given = {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}
    return {name: default for name, default in given.items() if not isinstance(default, torch.Tensor)}


def _without_compiler() -> AbstractContextManager[Any]:
    """Functions that torch.compile made run as they were written, so that they can be traced."""
    dynamo: Any = sys.modules.get("torch._dynamo")
    return dynamo.config.patch(error_on_nested_fx_trace=False) if dynamo else nullcontext()


def line_in_code(error: BaseException) -> str:
    """Where in the user's code an error came from, with the line itself; nothing if none of it ran."""
    place, step = None, error.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if not name.startswith((*MACHINERY, "<")):
            place = name, step.tb_lineno
        step = step.tb_next
    if place is None:
        return ""
    return f" at {place[0]}, line {place[1]}: {linecache.getline(*place).strip()!r}"


class ItemAssignment(TypeError):
    """A part of a tensor is written over."""


def _recorded(function: Callable[[Any, Any], Any]) -> Callable[["_Proxy", Any], fx.Proxy]:
    """An operator such as += that is traced as what it is, under the name of the plain one."""

    def record(proxy: "_Proxy", other: Any) -> fx.Proxy:
        name = plain_name(function.__name__)
        return proxy.tracer.create_proxy("call_function", function, (proxy, other), {}, name)

    return record


class _Proxy(fx.Proxy):
    """torch.fx takes x += y for x = x + y; but other names of the same tensor see what was added."""

    __iadd__, __isub__ = _recorded(operator.iadd), _recorded(operator.isub)
    __imul__, __itruediv__ = _recorded(operator.imul), _recorded(operator.itruediv)

    def __len__(self) -> int:
        return len(list(iter(self))) if _is_of_any_number(self) else super().__len__()

    def __setitem__(self, place: Any, value: Any) -> None:
        raise ItemAssignment("it assigns to a part of a tensor in place, and the trace has no name for the result")


class _Tracer(fx.Tracer):
    """While it traces, torch.fx hands it the calls and the parameters of every module, of other threads too."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return is_leaf(module)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Wrappers are looked through, and hooks are refused."""
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        inner = unwrapped(m)
        if inner is not m:
            return inner(*args, **kwargs)
        require_no_hooks(m, self.path_of_module(m))
        compiled = getattr(m, "_compiled_call_impl", None) is not None
        return super().call_module(m, m.forward if compiled else forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Parameters of the traced module are calls of the graph."""
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """A condition that only guards an error holds, and is noted as a check; any other is control flow."""
        wanted = passing_value(_caller_of_bool())
        if wanted is None:
            return bool(super().to_bool(obj))
        self.create_proxy("call_function", torch._assert, (obj, ""), {})
        return wanted

    def iter(self, obj: fx.Proxy) -> Any:
        """Arguments that a forward function takes in any number, *args: the input if they are the first, or none."""
        if not _is_of_any_number(obj):
            return super().iter(obj)
        return iter((obj,) if obj.node.prev.op == "root" else ())

    def keys(self, obj: fx.Proxy) -> Any:
        """Keywords that a forward function takes in any number: none are given."""
        return iter(()) if _is_of_any_number(obj) else super().keys(obj)


def _is_of_any_number(proxy: fx.Proxy) -> bool:
    """Whether a proxy stands for *args or **kwargs of the forward function."""
    return proxy.node.op == "placeholder" and str(proxy.node.target).startswith("*")


def _caller_of_bool() -> FrameType:
    """The frame that asks for the truth of a proxy, outside of torch.fx."""
    frame = inspect.currentframe()
    while frame is not None and (frame.f_code.co_filename == __file__ or "torch/fx/" in frame.f_code.co_filename):
        frame = frame.f_back
    assert frame is not None
    return frame
