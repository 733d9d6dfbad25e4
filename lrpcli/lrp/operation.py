"""What layers, rules and the parameters of rules are to the engine, and the division that every rule shares."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, Self, TypeGuard, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from lrpcli.errors import suggestion

Relevances = Sequence[Tensor | None]
"""Relevance of each tensor input of a layer, in the order of its inputs; None where nothing is sent."""

Setting = float | str
"""The value of a parameter as a config gives it."""

BIASES = ("absorb", "ignore", "distribute")
"""What may become of a bias: it takes its share of the relevance, it is left out of the denominator, or its share goes
to the inputs in equal parts."""


class Operation:
    """One layer's computation: `run` is a pure function of its tensor inputs that changes none of them.

    `kind` is what configs call it. Parameters are the model's own, never written to, until `to` copies them.
    """

    kind: ClassVar[str]
    signed = False
    """Whether it may put out negative values where no input is negative, though others of its kind do not."""

    def run(self, *inputs: Any) -> tuple[Any, Tensor | None]:
        """The output, and a memo that the layer's rule may use again (or None)."""
        raise NotImplementedError

    def settled(self, *scalars: Any) -> "Operation":
        """The operation for one pass, where its settings are sizes read off other tensors."""
        return self

    def receivers(self, inputs: tuple[int, ...]) -> tuple[int, ...]:
        """Those of its inputs that its relevance goes to: all, except for gates."""
        return inputs

    def describe(self) -> str:
        """Parameters for the layer table, empty if there are none."""
        return ""

    def to(self, device: torch.device, dtype: torch.dtype) -> None:
        """Makes private copies of all parameters there, so that no later change of the model is seen in part."""


Op = TypeVar("Op", bound=Operation)
"""The type of layer that a rule serves."""


@dataclass
class Step(Generic[Op]):
    """What the forward pass remembered of one layer: what the layer's rule needs of it."""

    operation: Op
    shapes: tuple[torch.Size, ...]
    """Shape of each tensor input."""
    inputs: tuple[Tensor, ...] = ()
    output: Tensor | None = None
    memo: Tensor | None = None
    scalars: tuple[Any, ...] = ()
    """Sizes that the layer read off other tensors, such as the arguments of a reshape."""
    nonnegative: bool = False
    """Whether the input is known to hold no negative value (it comes from a ReLU)."""
    rectified: bool = False
    """Whether `output` holds what the ReLU behind it made of it, and relevance is zero where that is zero."""


@dataclass(frozen=True)
class Surroundings:
    """What a rule may learn from the layer that it is for, and from the composite."""

    layer: str
    """Name of the layer, for errors."""
    operation: Operation
    bias: str
    """The composite's treatment of biases, one of BIASES."""
    input_range: tuple[Tensor, Tensor] | None = None
    """Smallest and largest input, broadcastable to (1, C, H, W); known where the layer reads the model's input."""


@dataclass(frozen=True)
class Parameter(ABC):
    """What a config may give for one field of a rule; `number`, `word` and `tensor` make fields that carry one."""

    take: Callable[[Surroundings], Setting] | None = None
    """Finds the value where the config gives none; without it the field's default holds."""

    @abstractmethod
    def complaint(self, name: str, value: object, rule: str) -> str:
        """What is wrong with a value, as the end of a sentence that begins with the config; empty if nothing is."""

    def read(self, value: Setting) -> Setting | Tensor:
        """The field's value for a config's."""
        return value


@dataclass(frozen=True)
class Number(Parameter):
    """A finite number from `least` to `most`."""

    least: float = -math.inf
    most: float = math.inf

    def complaint(self, name: str, value: object, rule: str) -> str:
        """See Parameter; from 1e30 on a product would overflow float32."""
        if _is_number(value) and abs(value) < 1e30 and self.least <= value <= self.most:
            return ""
        return f"{name} = {value!r} of rule {rule!r} must be a finite number{self._bounds()}."

    def _bounds(self) -> str:
        if self.most < math.inf:
            return f", {self.least:g} to {self.most:g}"
        if self.least == -math.inf:
            return ""
        return ", zero or larger" if self.least == 0 else f", {self.least:g} or larger"


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True)
class TensorNumber(Number):
    """A tensor; a config may give one number for all its places."""

    def read(self, value: Setting) -> Tensor:
        """The number as a tensor ()."""
        return torch.tensor(float(value))


@dataclass(frozen=True)
class Word(Parameter):
    """A text; one of `choices` if there are any."""

    choices: tuple[str, ...] = ()

    def complaint(self, name: str, value: object, rule: str) -> str:
        """See Parameter."""
        if not isinstance(value, str):
            return f"{name!r} must be a text, not {value!r}."
        if self.choices and value not in self.choices:
            return f"{name} = {value!r} is not known.{suggestion(value, self.choices)}"
        return ""


Figure = TypeVar("Figure", float, float | None)
"""A number, or a number that may be missing."""


def number(default: Figure, *, least: float = -math.inf, most: float = math.inf) -> Figure:
    """A field of a rule that a config may set to a number from `least` to `most`."""
    return field(default=default, metadata={"parameter": Number(None, least, most)})


def word(default: str, choices: tuple[str, ...] = (), take: Callable[[Surroundings], str] | None = None) -> str:
    """A field that a config may set to one of `choices`; see Parameter for `take`."""
    return field(default=default, metadata={"parameter": Word(take, choices)})


def bias_treatment() -> str:
    """A field for what becomes of the bias: the composite's treatment unless the rule's own entry says otherwise."""
    return word("absorb", BIASES, lambda surroundings: surroundings.bias)


def tensor() -> Tensor:
    """A field that a config may set to one number, and for which the rule's `bind` else finds a tensor."""
    result: Tensor = field(metadata={"parameter": TensorNumber()}, kw_only=True)
    return result


@dataclass(frozen=True, eq=False)
class Rule(ABC, Generic[Op]):
    """Redistributes relevance from a layer's output to its inputs; data only, so one object serves many threads.

    A rule is a frozen dataclass whose fields are its parameters, made by `number`, `word` and `tensor`.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """What the forward pass must remember for it: any of inputs, output, memo."""
    alternatives: ClassVar[tuple[str, ...]] = ()
    """Parameters of which a config gives one at most."""
    relevance_at_zero: ClassVar[str] = "any"
    """What an input of 0 gets: "zero" nothing, "passes" nothing if no output of 0 got anything, "any" anything."""

    @property
    def zero_input_gets(self) -> str:
        """As relevance_at_zero, for this very rule: a bias that is distributed reaches every input."""
        return "any" if getattr(self, "bias", "") == "distribute" else self.relevance_at_zero

    @classmethod
    def parameters(cls) -> dict[str, Parameter]:
        """What a config may set, by name."""
        return {item.name: item.metadata["parameter"] for item in fields(cls)}

    @classmethod
    def read(cls, given: Mapping[str, Setting]) -> dict[str, Any]:
        """Values of the fields that a config gives."""
        parameters = cls.parameters()
        return {name: parameters[name].read(value) for name, value in given.items()}

    @classmethod
    def bind(cls, given: Mapping[str, Setting], surroundings: Surroundings) -> Self:
        """The rule for one layer: with what the config gives, and what its parameters take from the surroundings.

        ConfigError names the layer if a rule does not find there what it needs.
        """
        takers = {name: parameter.take for name, parameter in cls.parameters().items() if parameter.take}
        return cls(**{name: take(surroundings) for name, take in takers.items()} | cls.read(given))

    def why_unfit(self, operation: Op) -> str:
        """Why it cannot serve a layer of its own kind, as a sentence; empty if it can."""
        return ""

    def remember(self, operation: Op, output: Any, memo: Tensor | None) -> Tensor | None:
        """What becomes the step's memo: that of the layer, or what else the rule must know of the output as it is now.

        A ReLU may write over the output afterwards.
        """
        return memo if "memo" in self.needs else None

    @abstractmethod
    def relevance(self, step: Step[Op], relevance: Tensor) -> Relevances:
        """Relevance of each input, from the relevance of the output, in the same units."""


HALVES = (torch.float16, torch.bfloat16)
"""Types in which squares overflow (float16, from 256 on) or lose all but two digits."""


def wide(values: Tensor) -> Tensor:
    """Values in float32 where their own type is half as wide, else as they are."""
    return values.float() if values.dtype in HALVES else values


def smallest(dtype: torch.dtype) -> float:
    """Magnitude under which a denominator counts as zero: far below any layer's scale, so that no share is bent."""
    tiny = torch.finfo(dtype).tiny
    return tiny * 1e8 if tiny < 1e-30 else tiny  # half precision has no room below


def safe_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator with x / 0 = 0, so that a zero denominator drops the share instead of making NaN."""
    zero = denominator.abs() < smallest(denominator.dtype)
    return divide_by_own(numerator, denominator.masked_fill(zero, torch.inf))


def at_zeros(numerator: Tensor, denominator: Tensor) -> Tensor:
    """What safe_divide drops: the numerator where the denominator counts as zero, 0 elsewhere."""
    return numerator.masked_fill(denominator.abs() >= smallest(denominator.dtype), 0.0)


def divide_by_nonnegative(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The same for denominators that are never negative but for rounding; such a negative one counts as zero."""
    return divide_by_own(numerator, functional.threshold(denominator, smallest(denominator.dtype), torch.inf))


def divide_by_own(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, written over the denominator, which the caller made and nobody else reads.

    A new block of memory would cost as much as the division; it is taken where shape or type of the result differ.
    """
    fits = numerator.shape == denominator.shape and numerator.dtype == denominator.dtype
    if not fits or torch.is_grad_enabled():
        return numerator / denominator
    return torch.div(numerator, denominator, out=denominator)
