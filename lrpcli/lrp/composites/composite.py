"""Composites: TOML or a mapping in, one rule per layer out, each with the reason why (SPEC section 5)."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lrpcli.errors import ConfigError, UsageError, suggestion
from lrpcli.lrp.composites.entries import Entry, best_entry, check_position
from lrpcli.lrp.layers import elementwise, linear_rules, normalization, pooling
from lrpcli.lrp.layers.elementwise import is_unchanged
from lrpcli.lrp.operation import Rule
from lrpcli.lrp.targets import STARTS, top_count
from lrpcli.lrp.tracing.graph import Graph, Layer

_LINEAR_KINDS = ("convolution", "fully-connected")
RULES: dict[str, dict[str, type[Rule]]] = {
    **{kind: {**linear_rules.RULES, "gradient": elementwise.Gradient} for kind in _LINEAR_KINDS},
    "lrn": {**normalization.RULES, "gradient": elementwise.Gradient},
    "max-pool": {**pooling.MAX_RULES, "gradient": elementwise.Gradient},
    "average-pool": {**pooling.AVERAGE_RULES, "gradient": elementwise.Gradient},
    **{kind: {"default": rule, "gradient": elementwise.Gradient} for kind, rule in elementwise.DEFAULT_RULES.items()},
    "scalar": {"default": elementwise.Pass},
}
KINDS = ("any", "linear", *(kind for kind in RULES if kind != "scalar"))
KEYS = ("description", "source", "bias", "target", "start", "kind", "position", "name")
BIASES = ("absorb", "ignore")
DEFAULTS = {"convolution": "epsilon", "fully-connected": "epsilon", "lrn": "taylor", "max-pool": "winner",
            "average-pool": "proportional"}  # fmt: skip


@dataclass(frozen=True)
class Composite:
    """A checked config: entries that say which layers get which rule, bias treatment, target and start.

    >>> import lrpcli
    >>> composite = lrpcli.load_composite("epsilon-1")
    >>> composite.title, composite.source, composite.bias, composite.start
    ('epsilon-1', 'Binder et al. 2016', 'absorb', 'logit')
    >>> baseline = composite.with_lrn("identity")  # for an Explainer, in place of the name
    """

    title: str
    entries: tuple[Entry, ...] = ()
    description: str = ""
    source: str = ""
    bias: str = "absorb"
    target: str | int = "top"
    start: str = "logit"

    def with_lrn(self, rule: str) -> "Composite":
        """The same composite with another rule for every LRN layer, whatever the config says; or a ConfigError."""
        if rule not in RULES["lrn"]:
            choices = ", ".join(RULES["lrn"])
            raise ConfigError(f"There is no LRN rule {rule!r}.{suggestion(rule, RULES['lrn'])} Known are: {choices}.")
        entry = Entry("override", "lrn", rule)
        return replace(self, entries=(*self.entries, entry))


@dataclass(frozen=True)
class Assignment:
    """The rule of one layer and why it got it."""

    layer: Layer
    rule: Rule
    rule_name: str
    reason: str

    @property
    def parameters(self) -> str:
        """Parameters of the rule as text, such as "epsilon=0.01 bias=absorb"."""
        values = ((item.name, getattr(self.rule, item.name)) for item in fields(self.rule))  # type: ignore[arg-type]
        return " ".join(f"{name}={value}" for name, value in values if not isinstance(value, Tensor))


def config_folder() -> Path:
    """Where the built-in composites lie: inside the installed package, or beside it in a source checkout."""
    package = Path(__file__).resolve().parents[2]
    return next(folder for folder in (package / "configs", package.parent / "configs") if folder.is_dir())


@lru_cache
def builtin_names() -> tuple[str, ...]:
    """Names of the built-in composites, sorted."""
    return tuple(sorted(path.stem for path in config_folder().glob("*.toml")))


def load_composite(config: "str | Path | Mapping[str, Any] | Composite") -> Composite:
    """A composite by name, path of a TOML file, or mapping of the same content. ConfigError says what is wrong.

    >>> import lrpcli
    >>> lrpcli.load_composite("epsilon-gamma-box").source
    'Montavon et al. 2019'
    >>> lrpcli.load_composite({"kind": {"convolution": "z-plus"}, "start": "one"}).start
    'one'
    >>> lrpcli.load_composite("mine.toml").title
    'mine'
    """
    if isinstance(config, Composite):
        return config
    if isinstance(config, Mapping):
        return parse_composite(config, "custom")
    if str(config) in builtin_names():
        path = config_folder() / f"{config}.toml"
    elif str(config).endswith(".toml"):
        path = Path(config)
    else:
        hint = suggestion(str(config), builtin_names())
        raise ConfigError(
            f"There is no config named {str(config)!r}.{hint} 'lrp configs list' shows all; a file ends in .toml."
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The config file {str(path)!r} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The config file {str(path)!r} is not valid TOML: {error}.") from error
    except RecursionError as error:
        raise ConfigError(f"The config file {str(path)!r} is nested too deeply.") from error
    return parse_composite(content, path.stem)


def parse_composite(content: Mapping[str, Any], title: str) -> Composite:
    """A composite from the content of a TOML file; every key and value is checked. ConfigError says what is wrong."""
    _check_key(content, KEYS, title, "key")
    texts: dict[str, Any] = {key: _choice(content, key, title) for key in ("description", "source", "bias", "start")}
    texts["target"] = _target(content, title)
    entries = []
    for table in ("kind", "position", "name"):
        section = content.get(table, {})
        if not isinstance(section, Mapping):
            raise ConfigError(f"In config {title!r}, {table!r} must be a table [{table}], not {section!r}.")
        for key, value in section.items():
            if table == "kind" and key not in KINDS:
                raise ConfigError(f"Config {title!r} has a rule for the unknown kind {key!r}.{suggestion(key, KINDS)}")
            if table == "position":
                check_position(str(key), title)
            entries.append(_entry(table, str(key), value, title))
    return Composite(title, tuple(entries), **{key: text for key, text in texts.items() if text is not None})


def _choice(content: Mapping[str, Any], key: str, title: str) -> str | None:
    value = content.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise ConfigError(f"In config {title!r}, {key!r} must be a text, not {value!r}.")
    allowed = {"bias": BIASES, "start": STARTS}.get(key)
    if allowed and value not in allowed:
        raise ConfigError(f"In config {title!r}, {key} = {value!r} is not known.{suggestion(value, allowed)}")
    return value


def _target(content: Mapping[str, Any], title: str) -> str | int | None:
    """What is explained: "top", "topK" or a class index."""
    value = content.get("target")
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    try:
        if isinstance(value, str):
            top_count(value)
            return value
    except UsageError as error:
        raise ConfigError(f"In config {title!r}: {error}") from error
    raise ConfigError(f'In config {title!r}, \'target\' must be "top", "topK" or a class index, not {value!r}.')


def _entry(table: str, key: str, value: Any, title: str) -> Entry:
    """One line of a config: a rule's name, or a table with `rule` and its parameters."""
    content = {"rule": value} if isinstance(value, str) else value
    if not isinstance(content, Mapping) or not isinstance(content.get("rule"), str):
        raise ConfigError(
            f"In config {title!r}, the entry {key!r} of [{table}] must be a rule's name, or a table such as "
            '{ rule = "epsilon", epsilon = 0.01 }.'
        )
    name, parameters = content["rule"], {k: v for k, v in content.items() if k != "rule"}
    places = _kinds_of(table, key)
    choices = sorted({rule for kind in places for rule in RULES[kind]})
    if name not in choices:
        raise ConfigError(
            f"Config {title!r} gives {key!r} the unknown rule {name!r}.{suggestion(name, choices)} "
            f"Known there: {', '.join(choices)}."
        )
    known = next(RULES[kind][name] for kind in places if name in RULES[kind])
    _check_parameters(known, name, parameters, title)  # those of this layer's kind are checked when it is known
    return Entry(table, key, name, tuple(sorted(parameters.items())))


def _kinds_of(table: str, key: str) -> tuple[str, ...]:
    if table == "position":
        return _LINEAR_KINDS
    if table == "name" or key == "any":
        return tuple(kind for kind in RULES if kind != "scalar")
    return _LINEAR_KINDS if key == "linear" else (key,)


def _check_parameters(rule: type[Rule], name: str, parameters: Mapping[str, Any], title: str, where: str = "") -> None:
    known = {item.name for item in fields(rule)}  # type: ignore[arg-type]
    _check_key(parameters, sorted(known), title, f"parameter of rule {name!r}{where}")
    for key, value in parameters.items():
        if key == "bias":
            _choice({"bias": value}, "bias", title)
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not _sensible(key, value):
            raise ConfigError(
                f"In config {title!r}, {key} = {value!r} of rule {name!r} must be a finite number"
                + ("." if key in ("low", "high") else ", zero or larger.")
            )


def _sensible(key: str, value: float) -> bool:
    return abs(value) < 1e30 and (key in ("low", "high") or value >= 0)


def _check_key(content: Mapping[str, Any], known: Any, title: str, what: str) -> None:
    for key in content:
        if key not in known:
            raise ConfigError(f"Config {title!r} has an unknown {what}, {key!r}.{suggestion(key, known)}")


def assign_rules(
    composite: Composite, graph: Graph, pixel_range: tuple[Tensor, Tensor] | None = None
) -> list[Assignment]:
    """One assignment per layer of the graph, the input's included; the most specific entry wins.

    ConfigError if a rule does not fit its layer, a name or pattern fits no layer, or z-box lacks the pixel range.
    """
    for entry in composite.entries:
        if entry.table == "name":
            _require_match(entry, composite, graph)
    assignments = [Assignment(graph.layers[0], RULES["activation"]["default"](), "default", "it is the input")]
    for layer in graph.layers[1:]:
        assignments.append(_assign(layer, composite, pixel_range if _reads_input(layer, graph) else None))
    return assignments


def _require_match(entry: Entry, composite: Composite, graph: Graph) -> None:
    """ConfigError if an entry's name or pattern matches no layer, or none that can have the rule."""
    matching = [layer for layer in graph.layers[1:] if entry.matches(layer)]
    if not matching:
        names = [name for name, _ in graph.named()]
        raise ConfigError(
            f"Config {composite.title!r} names the layer {entry.key!r}, but no layer of the model is called that."
            f"{suggestion(entry.key, names)}"
        )
    if not any(entry.rule in RULES[layer.kind] for layer in matching):
        kinds = ", ".join(sorted({layer.kind for layer in matching}))
        choices = sorted({rule for layer in matching for rule in RULES[layer.kind]})
        raise ConfigError(
            f"Config {composite.title!r} gives {entry.key!r} the rule {entry.rule!r}, which layers of kind {kinds} "
            f"cannot have. They can have: {', '.join(choices)}."
        )


def _assign(layer: Layer, composite: Composite, pixel_range: tuple[Tensor, Tensor] | None) -> Assignment:
    entry = best_entry(composite.entries, layer, set(RULES[layer.kind]))
    name = entry.rule if entry else DEFAULTS.get(layer.kind, "default")
    rule = RULES[layer.kind][name]
    parameters = dict(entry.parameters) if entry else {}
    _check_parameters(rule, name, parameters, composite.title, f" for layer {layer.name!r} of kind {layer.kind}")
    if "bias" in {item.name for item in fields(rule)}:  # type: ignore[arg-type]
        parameters.setdefault("bias", composite.bias)
    if name == "z-box":
        parameters = _bounds(layer, parameters, pixel_range)
    assigned = rule(**parameters)
    why_unfit = assigned.why_unfit(layer.operation)
    if why_unfit:
        raise ConfigError(f"Layer {layer.name!r} cannot have the rule {name!r}. {why_unfit}")
    return Assignment(layer, assigned, name, entry.reason if entry else "the default")


def _reads_input(layer: Layer, graph: Graph) -> bool:
    """Whether a layer reads the model's input as it is."""
    while layer.inputs:
        if layer.inputs[0] == 0:
            return True
        layer = graph.layers[layer.inputs[0]]
        if not is_unchanged(layer.operation):
            return False
    return False


def _bounds(layer: Layer, parameters: dict[str, Any], pixel_range: tuple[Tensor, Tensor] | None) -> dict[str, Any]:
    """Smallest and largest input of a z-box layer: what the config says, else the model's pixel range."""
    bounds = dict(zip(("low", "high"), pixel_range or (None, None), strict=True))
    bounds.update({key: torch.tensor(float(value)) for key, value in parameters.items()})
    low, high = bounds["low"], bounds["high"]
    if low is None or high is None:
        raise ConfigError(
            f"The rule z-box of layer {layer.name!r} needs the range of its input, which is not known here; give low "
            "and high in the config or, for a layer that reads the model's input, pixel_range to the Explainer."
        )
    if not bool((low < high).all()):
        raise ConfigError(f"The rule z-box of layer {layer.name!r} needs a low below its high.")
    return bounds
