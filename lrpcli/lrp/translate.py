"""One traced call of torch.fx -> one operation of the engine. What is not listed here is refused by name."""

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from lrpcli.errors import UnsupportedLayer
from lrpcli.lrp.linear import Convolution, FullyConnected
from lrpcli.lrp.normalization import LocalResponseNorm, NormalizationOperation
from lrpcli.lrp.operation import Operation
from lrpcli.lrp.pooling import AdaptiveAveragePool, AdaptiveMaxPool, AveragePool, MaxPool, Mean
from lrpcli.lrp.structure import Activation, Affine, Concat, Maximum, Pad, Product, Scalar, Softmax, Sum, View

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.Identity)
NONNEGATIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus)
ACTIVATIONS = (
    *NONNEGATIVE, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Tanh,
    nn.Hardtanh, nn.Hardswish, nn.Softsign, nn.LogSigmoid, nn.Threshold, nn.Hardshrink, nn.Softshrink, nn.Tanhshrink,
)  # fmt: skip
OTHERS = (
    nn.Linear, LocalResponseNorm, nn.LocalResponseNorm, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d,
    nn.AdaptiveAvgPool2d, nn.Flatten, nn.Unflatten, nn.Softmax, nn.LogSoftmax, nn.Softmax2d, nn.ZeroPad2d,
)  # fmt: skip
LEAVES = (*CONVOLUTIONS, *BATCH_NORMS, *DROPOUTS, *ACTIVATIONS, *OTHERS)

UNCHANGED = {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "clone",
             "detach", "stochastic_depth"}  # fmt: skip
ELEMENTWISE = {
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "tanh", "hardtanh",
    "hardsigmoid", "hardswish", "softplus", "softsign", "logsigmoid", "clamp", "clamp_min", "threshold",
}  # fmt: skip
NONNEGATIVE_NAMES = {"relu", "relu6", "sigmoid", "hardsigmoid", "softplus"}
GATES = {"sigmoid", "hardsigmoid", "Sigmoid", "Hardsigmoid"}
VIEWS = {
    "flatten", "view", "reshape", "permute", "transpose", "unsqueeze", "squeeze", "getitem", "chunk", "split",
    "narrow", "select", "unbind", "movedim", "unflatten", "swapaxes", "t", "contiguous",
}  # fmt: skip
SIZES = {"size", "dim", "shape", "getattr", "len", "numel"}
ARITHMETIC = {"add", "sub", "mul", "floordiv", "truediv", "getitem", "mod", "neg", "int", "eq"}
DISPATCHED = {
    functional.max_pool2d: "max_pool2d",
    functional.adaptive_max_pool2d: "adaptive_max_pool2d",
    operator.iadd: "add",
    operator.isub: "sub",
    operator.imul: "mul",
    operator.itruediv: "truediv",
}


@dataclass
class Translated:
    """What a traced call became: a layer (`operation` with its inputs), or a plain `value` that is no layer."""

    type: str
    operation: Operation | None = None
    inputs: tuple[int, ...] = ()
    scalars: tuple[int, ...] = ()
    value: Any = None


def is_leaf(module: nn.Module) -> bool:
    """Whether tracing stops at this module: a known layer, or a subclass that keeps its forward function."""
    for known in LEAVES:
        if isinstance(module, known):
            return type(module).forward is known.forward
    return module.__module__.startswith("torch.nn.modules") and not isinstance(
        module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    )


def is_nonnegative(operation: Operation, inputs: list[bool]) -> bool:
    """Whether the output of an operation can hold no negative value, from what is known of its inputs."""
    if isinstance(operation, Activation):
        function = operation.function
        if isinstance(function, NONNEGATIVE) or getattr(function, "nonnegative", False):
            return True
        return getattr(function, "unchanged", False) and all(inputs)
    if isinstance(operation, Sum):
        return all(inputs) and operation.constant is None and all(sign > 0 for sign in operation.signs)
    kinds = {"lrn", "max-pool", "average-pool", "concat", "view", "product", "maximum", "pad"}
    return operation.kind in kinds and all(inputs)


def translate(
    node: fx.Node, name: str, root: nn.Module, resolve: Callable[[Any], Any], layers: list[Any]
) -> Translated:
    """The operation of one traced call. UnsupportedLayer names the layer, its type and what to do."""
    arguments, keywords = resolve(node.args), resolve(node.kwargs)
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        return Translated(type(module).__name__, _module(module, name), (int(arguments[0]),))
    label = DISPATCHED.get(node.target) if callable(node.target) else None
    label = label or getattr(node.target, "__name__", str(node.target))
    label = label if label.startswith("_") else label.rstrip("_")
    call = _Call(node, name, label, arguments, dict(keywords), layers)
    return _function(call)


@dataclass
class _Call:
    node: fx.Node
    name: str
    label: str
    arguments: Any
    keywords: dict[str, Any]
    layers: list[Any]

    def get(self, index: int, keyword: str, default: Any = None) -> Any:
        """An argument by position or keyword."""
        return self.arguments[index] if len(self.arguments) > index else self.keywords.get(keyword, default)

    def references(self) -> list[Any]:
        """The layers among the arguments, in order of appearance, each once."""
        found: list[Any] = []

        def visit(leaf: Any) -> Any:
            if _is_reference(leaf) and leaf not in found:
                found.append(leaf)
            return leaf

        fx.node.map_aggregate((self.arguments, self.keywords), visit)
        return found

    def is_scalar(self, reference: Any) -> bool:
        return bool(self.layers[reference].kind == "scalar")

    def tensors(self) -> tuple[int, ...]:
        return tuple(int(r) for r in self.references() if not self.is_scalar(r))

    def scalars(self) -> tuple[int, ...]:
        return tuple(int(r) for r in self.references() if self.is_scalar(r))

    def replay(self) -> Callable[..., Any]:
        """The traced call as a function of its tensor inputs followed by its scalar inputs."""
        order = {index: place for place, index in enumerate((*self.tensors(), *self.scalars()))}
        node, arguments, keywords = self.node, self.arguments, self.keywords

        def run(*values: Any) -> Any:
            def fill(leaf: Any) -> Any:
                return values[order[int(leaf)]] if _is_reference(leaf) else leaf

            args, kwargs = fx.node.map_aggregate(arguments, fill), fx.node.map_aggregate(keywords, fill)
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            return node.target(*args, **kwargs)  # type: ignore[operator]

        return run

    def done(self, operation: Operation) -> Translated:
        return Translated(self.label, operation, self.tensors(), self.scalars())

    def unsupported(self, why: str = "") -> UnsupportedLayer:
        return _unsupported(self.name, self.label, why)


def _is_reference(leaf: Any) -> bool:
    return type(leaf).__name__ == "_Reference"


def _unsupported(name: str, kind: str, why: str = "") -> UnsupportedLayer:
    reason = f" {why}" if why else ""
    return UnsupportedLayer(
        f"Layer {name!r} of type {kind} has no relevance rule.{reason} Replace it by layers that have one "
        "(docs/rules.md lists them) or cut the model before it."
    )


def _function(call: _Call) -> Translated:
    label, references = call.label, call.references()
    if not references:
        return Translated(label, value=call.replay()())
    if label in SIZES and not (label == "getattr" and call.arguments[1] not in ("shape", "ndim")):
        return Translated(label, Scalar(call.replay()), (), call.tensors() + call.scalars())
    if not call.tensors():
        if label in ARITHMETIC:
            return Translated(label, Scalar(call.replay()), (), call.scalars())
        raise call.unsupported()
    if label in VIEWS:
        return _view(call)
    if label in UNCHANGED:
        return call.done(Activation(_Unchanged()))
    if label in ELEMENTWISE:
        call.keywords.pop("inplace", None)
        return call.done(Activation(_Elementwise(call)))
    handler = HANDLERS.get(label)
    if handler is None:
        raise call.unsupported()
    return call.done(handler(call))


class _Unchanged:
    """Dropout and its kin, which do nothing when a model is used."""

    unchanged = True

    def __call__(self, x: Tensor) -> Tensor:
        return x


class _Elementwise:
    """A functional activation, always out of place so that no remembered activation is overwritten."""

    def __init__(self, call: _Call) -> None:
        self.nonnegative = call.label in NONNEGATIVE_NAMES
        self.function = getattr(functional, call.label, None) or getattr(torch, call.label)
        self.arguments = tuple(call.arguments[1:]) if call.label not in NONNEGATIVE_NAMES else ()
        self.keywords = {} if self.nonnegative else call.keywords

    def __call__(self, x: Tensor) -> Tensor:
        result: Tensor = self.function(x, *self.arguments, **self.keywords)
        return result


def _view(call: _Call) -> Translated:
    """A view of one tensor; a part of a split is a view of what was split, so that it needs no layer of parts."""
    if call.label == "getitem":
        parent = call.layers[call.arguments[0]]
        if getattr(parent.operation, "many", False):
            part, split = call.arguments[1], parent.operation.function
            return Translated(call.label, View(lambda x, *sizes: split(x, *sizes)[part]), parent.inputs, parent.scalars)
    operation = View(call.replay())
    operation.many = call.label in ("chunk", "split", "unbind")
    return call.done(operation)


def _addends(call: _Call, second_sign: float) -> Operation:
    first, second = call.arguments[0], call.get(1, "other")
    if call.keywords.get("alpha", 1) != 1:
        raise call.unsupported("An 'alpha' of torch.add is not known here.")
    if _is_reference(first) and _is_reference(second):
        if first == second:
            return Affine(1.0 + second_sign)
        return Sum((1.0, second_sign))
    if _is_reference(first):
        return Sum((1.0,), second_sign * second)
    return Sum((second_sign,), first)


def _product(call: _Call) -> Operation:
    first, second = call.arguments[0], call.get(1, "other")
    if not _is_reference(first) or not _is_reference(second):
        return Affine(second if _is_reference(first) else first)
    gates = [_is_gate(call.layers, int(reference)) for reference in (first, second)]
    if gates[0] == gates[1]:
        raise call.unsupported(
            "Of a product, one factor must be a gate (the output of a sigmoid), the other the signal."
        )
    return Product(gates.index(False))


def _is_gate(layers: list[Any], index: int) -> bool:
    return layers[index].type in GATES


def _quotient(call: _Call) -> Operation:
    divisor = call.get(1, "other")
    if _is_reference(divisor):
        raise call.unsupported("Only a division by a constant is known.")
    return Affine(1.0 / divisor)


def _mean(call: _Call) -> Operation:
    axes = call.get(1, "dim", call.keywords.get("axis"))
    if axes is None:
        raise call.unsupported("Name the axes of the mean.")
    return Mean((axes,) if isinstance(axes, int) else tuple(axes), bool(call.get(2, "keepdim", False)))


def _max_pool(call: _Call) -> Operation:
    kernel = call.get(1, "kernel_size")
    stride = call.get(2, "stride") or kernel
    ceil = bool(call.get(5, "ceil_mode", False))
    return MaxPool(
        _pair(kernel), _pair(stride), _pair(call.get(3, "padding", 0)), _pair(call.get(4, "dilation", 1)), ceil
    )


def _average_pool(call: _Call) -> Operation:
    kernel = call.get(1, "kernel_size")
    stride = call.get(2, "stride") or kernel
    return AveragePool(
        _pair(kernel), _pair(stride), _pair(call.get(3, "padding", 0)), bool(call.get(4, "ceil_mode", False)),
        bool(call.get(5, "count_include_pad", True)), call.get(6, "divisor_override"),
    )  # fmt: skip


def _concat(call: _Call) -> Operation:
    return Concat(call.get(1, "dim", call.keywords.get("axis", 0)))


def _softmax(call: _Call) -> Operation:
    return Softmax()


HANDLERS: dict[str, Callable[[_Call], Operation]] = {
    "add": lambda call: _addends(call, 1.0),
    "sub": lambda call: _addends(call, -1.0),
    "mul": _product,
    "multiply": _product,
    "truediv": _quotient,
    "div": _quotient,
    "mean": _mean,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": lambda call: AdaptiveAveragePool(call.get(1, "output_size")),
    "adaptive_max_pool2d": lambda call: AdaptiveMaxPool(call.get(1, "output_size")),
    "cat": _concat,
    "concat": _concat,
    "concatenate": _concat,
    "maximum": lambda call: Maximum(),
    "softmax": _softmax,
    "log_softmax": _softmax,
    "pad": lambda call: Pad.from_call(call.get(1, "pad"), call.get(2, "mode", "constant"), call.get(3, "value")),
}


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _module(module: nn.Module, name: str) -> Operation:
    if isinstance(module, CONVOLUTIONS):
        return Convolution(module, _padding(module, name))
    if isinstance(module, nn.Linear):
        return FullyConnected(module)
    if isinstance(module, BATCH_NORMS):
        return _batch_norm(module, name)
    if isinstance(module, DROPOUTS):
        return Activation(_Unchanged())
    if isinstance(module, ACTIVATIONS):
        return Activation(_out_of_place(module))
    if isinstance(module, (LocalResponseNorm, nn.LocalResponseNorm)):
        return NormalizationOperation(_normalization(module, name))
    return _other_module(module, name)


def _other_module(module: nn.Module, name: str) -> Operation:
    if isinstance(module, nn.MaxPool2d):
        stride = module.stride or module.kernel_size
        return MaxPool(_pair(module.kernel_size), _pair(stride), _pair(module.padding), _pair(module.dilation),
                       module.ceil_mode)  # fmt: skip
    if isinstance(module, nn.AvgPool2d):
        stride = module.stride or module.kernel_size
        return AveragePool(_pair(module.kernel_size), _pair(stride), _pair(module.padding), module.ceil_mode,
                           module.count_include_pad, module.divisor_override)  # fmt: skip
    if isinstance(module, nn.AdaptiveMaxPool2d):
        return AdaptiveMaxPool(module.output_size)
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return AdaptiveAveragePool(module.output_size)
    if isinstance(module, (nn.Flatten, nn.Unflatten)):
        return View(module)
    if isinstance(module, (nn.Softmax, nn.LogSoftmax, nn.Softmax2d)):
        return Softmax()
    if isinstance(module, nn.ZeroPad2d):
        return Pad(tuple(module.padding))
    return _refuse(module, name)


def _refuse(module: nn.Module, name: str) -> Operation:
    raise _unsupported(name, type(module).__name__)


def _padding(module: Any, name: str) -> tuple[int, ...]:
    """Padding as numbers, the same on both sides."""
    if module.padding_mode != "zeros":
        raise _unsupported(name, type(module).__name__, f"Its padding mode is {module.padding_mode!r}.")
    if module.padding == "valid":
        return (0,) * len(module.kernel_size)
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if any(total % 2 for total in totals):
            raise _unsupported(name, type(module).__name__, "Its padding differs on the two sides; pad before it.")
        return tuple(total // 2 for total in totals)
    return tuple(module.padding)


def _batch_norm(module: Any, name: str) -> Affine:
    if module.running_mean is None:
        raise _unsupported(name, type(module).__name__, "It keeps no running statistics.")
    scale = 1 / torch.sqrt(module.running_var.detach().double() + module.eps)
    scale = scale if module.weight is None else scale * module.weight.detach().double()
    shift = -module.running_mean.detach().double() * scale
    shift = shift if module.bias is None else shift + module.bias.detach().double()
    return Affine(scale, shift, per_channel=True)


def _out_of_place(module: nn.Module) -> nn.Module:
    """A shallow copy in eval mode that writes nothing in place; parameters stay shared, the original unchanged."""
    result = copy.copy(module)
    result.training = False
    if hasattr(result, "inplace"):
        result.inplace = False
    return result


def _normalization(module: Any, name: str) -> LocalResponseNorm:
    if isinstance(module, LocalResponseNorm):
        return module
    if module.size % 2 == 0:
        raise _unsupported(name, "LocalResponseNorm", f"Its window of {module.size} channels has no centre.")
    return LocalResponseNorm(module.size, module.alpha, module.beta, module.k)
