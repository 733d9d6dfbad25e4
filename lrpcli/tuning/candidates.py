"""The candidates of a search: the default, the other built-in configs, and points of the space, each once."""

from dataclasses import dataclass, replace

from torch import Tensor

from lrpcli.errors import ConfigError
from lrpcli.lrp.composites.assign import assign_rules
from lrpcli.lrp.composites.composite import Composite, load_composite
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from lrpcli.lrp.names import builtin_names
from lrpcli.lrp.targets import WHOLE_STARTS
from lrpcli.lrp.tracing.graph import Graph
from lrpcli.tuning.space import Limits, Point, composite_at, drawn

Rules = tuple[object, ...]
"""What tells one candidate from another: the rule of every layer, and the start."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """A config that is tried; `point` is its place in the space, None for a built-in one.

    `same_as` are the names of others that come out as the same rules on this net.
    """

    name: str
    composite: Composite
    point: Point | None = None
    same_as: tuple[str, ...] = ()


@dataclass(frozen=True)
class Candidates:
    """The default and the others, in the order in which they are tried; `unfit`: name -> why the net cannot have it."""

    default: Candidate
    others: tuple[Candidate, ...]
    unfit: dict[str, str]


def choose_candidates(
    graph: Graph, pixel_range: tuple[Tensor, Tensor] | None, limits: Limits, count: int, seed: int
) -> Candidates:
    """The built-in configs and `count` points that differ from them and each other on this net, or all there are.

    ConfigError if the net cannot have the default.
    """
    rules = _rules(load_composite(DEFAULT_CONFIG), graph, pixel_range, limits)
    found = {rules: Candidate(DEFAULT_CONFIG, load_composite(DEFAULT_CONFIG))}
    unfit: dict[str, str] = {}

    def add(candidate: Candidate) -> None:
        try:
            rules = _rules(candidate.composite, graph, pixel_range, limits)
        except ConfigError as error:
            unfit[candidate.name] = str(error)
            return
        known = found.get(rules)
        if known is None:
            found[rules] = candidate
        else:
            found[rules] = replace(known, same_as=(*known.same_as, candidate.name))

    for name in builtin_names():
        if name != DEFAULT_CONFIG:
            add(Candidate(name, load_composite(name)))
    wanted = len(found) + count
    for number, point in enumerate(drawn(limits, seed), 1):
        if len(found) == wanted:
            break
        add(Candidate(f"c{number}", composite_at(point, f"c{number}"), point))
    default, *others = found.values()
    return Candidates(default, tuple(others), unfit)


def _rules(composite: Composite, graph: Graph, pixel_range: tuple[Tensor, Tensor] | None, limits: Limits) -> Rules:
    """The rules of a composite on a net; ConfigError if a layer cannot have its rule."""
    assignments = assign_rules(composite, graph, pixel_range)
    start = "one" if composite.start in WHOLE_STARTS else composite.start
    if composite.start == "logit" and "one" in limits.starts:
        start = "logit"  # whose maps are turned round where a logit is negative
    return (start, *((item.layer.name, item.rule_name, item.parameters) for item in assignments[1:]))
