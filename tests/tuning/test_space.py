"""The space as data: every point is a config that can be written, read back, and built on nets with and without LRN."""

import tomllib

import pytest
import torch

import lrpcli
from lrpcli.lrp.composites.assign import assign_rules
from lrpcli.lrp.composites.composite import builtin_names, load_composite, parse_composite
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from lrpcli.lrp.rules import RULES
from lrpcli.lrp.targets import STARTS
from lrpcli.lrp.tracing.translate import build_graph
from lrpcli.tuning import space
from lrpcli.tuning.candidates import choose_candidates
from lrpcli.tuning.toml_text import toml_text

WITH_LRN = space.limits_of(lrn=True, classes=10, head="softmax", negative=True)
WITHOUT = space.limits_of(lrn=False, classes=10, head="softmax", negative=False)
NET = torch.nn.Sequential(
    torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
    torch.nn.Flatten(), torch.nn.Linear(4 * 36, 8), torch.nn.ReLU(), torch.nn.Linear(8, 5),
)  # fmt: skip
RANGE = (torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1))


def graph_of(name):
    if name == "plain":
        return build_graph(NET, (3, 16, 16)), RANGE
    model = lrpcli.load_model(name)
    return build_graph(model.module, model.input_shape), model.pixel_range


@pytest.fixture(scope="module", params=["cifar10", "caffenet-small", "plain"])
def net(request):
    """A net's graph, the range of its pixels, and what of the space suits it."""
    graph, pixel_range = graph_of(request.param)
    return graph, pixel_range, WITHOUT if request.param == "plain" else WITH_LRN


def same_rules(one, other):
    return (one.entries, one.start, one.bias, one.target) == (other.entries, other.start, other.bias, other.target)


@pytest.mark.parametrize("limits", [WITH_LRN, WITHOUT], ids=["lrn", "without"])
def test_every_point_is_a_config_that_can_be_read_back(limits):
    texts = set()
    for point in space.points(limits):
        composite = space.composite_at(point, "c")
        text = toml_text(composite, [space.in_words(point)])
        again = parse_composite(tomllib.loads(text), "c")
        assert same_rules(composite, again) and again.description == space.in_words(point)
        texts.add(text)
    assert len(texts) == space.size(limits)


@pytest.mark.slow
def test_every_point_builds_on_the_nets(net):
    graph, pixel_range, limits = net
    for point in space.points(space.Limits(limits.lrn, ("logit",))):
        assign_rules(space.composite_at(point, "c"), graph, pixel_range)


def test_the_parts_of_a_point_reach_their_layers():
    graph, pixel_range = graph_of("caffenet-small")
    point = space.Point(0.5, "beta 1", 0.1, "flat", "identity", "contrastive")
    composite = space.composite_at(point, "c")
    rules = {
        item.layer.name: (item.rule_name, item.parameters)
        for item in assign_rules(composite, graph, pixel_range)
        if item.layer.depth is not None
    }
    depths = {layer.name: layer.depth for layer in graph.layers if layer.depth is not None}
    first, *middle, last = sorted(depths, key=depths.__getitem__)
    assert rules[first][0] == "flat"
    assert rules[last] == ("epsilon", "relative=0.01 bias=absorb")
    for name in middle:
        lower = ("alpha-beta", "beta=1.0 bias=absorb")
        assert rules[name] == (lower if depths[name] < 0.5 else ("epsilon", "relative=0.1 bias=absorb"))
    assert composite.start == "contrastive"
    assert {item.rule_name for item in assign_rules(composite, graph, pixel_range) if item.layer.kind == "lrn"} == {
        "identity"
    }


def test_the_space_names_rules_and_starts_that_exist():
    assert set(space.STARTS) == set(STARTS) - {"probability"}
    assert {str(rule["rule"]) for rule in space.LOWER.values()} <= set(RULES["convolution"])
    assert set(space.FIRST) - {space.SAME} <= set(RULES["convolution"]) and set(space.LRN) <= set(RULES["lrn"])


def test_limits_leave_out_what_makes_no_other_maps():
    assert WITHOUT.starts == ("logit", "softmax-gradient", "contrastive", "contrastive-positive")
    assert space.limits_of(lrn=False, classes=1, head="softmax", negative=False).starts == ("logit",)
    assert space.limits_of(lrn=False, classes=9, head="sigmoid", negative=True).starts == ("logit", "one")
    assert all(point.lrn is None for point in space.points(WITHOUT))


def test_points_are_drawn_by_the_seed_each_once():
    first, again, other = space.drawn(WITHOUT, 1), space.drawn(WITHOUT, 1), space.drawn(WITHOUT, 2)
    assert first == again != other
    assert len(set(first)) == len(first) == space.size(WITHOUT) and set(first) == set(other)


def test_candidates_are_the_built_in_configs_and_so_many_points(net):
    graph, pixel_range, limits = net
    found = choose_candidates(graph, pixel_range, limits, 12, 0)
    assert found.default.name == DEFAULT_CONFIG and found.unfit == {}
    everyone = [found.default, *found.others]
    names = {name for candidate in everyone for name in (candidate.name, *candidate.same_as)}
    assert set(builtin_names()) <= names
    assert sum(candidate.point is not None for candidate in everyone) == 12
    rules = [
        (item.composite.start, *((a.layer.name, a.rule_name, a.parameters)
                                 for a in assign_rules(item.composite, graph, pixel_range)[1:]))
        for item in everyone
    ]  # fmt: skip
    assert len(set(rules)) == len(rules)


def test_candidates_that_come_out_as_the_same_rules_are_one():
    """In a net with a single layer only the first layer's rule is left, where it is not that of the part."""
    graph = build_graph(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3)), (3, 2, 2))
    low, high = (torch.full((1, 12), bound) for bound in (0.0, 1.0))
    limits = space.Limits(False, ("logit",))
    found = choose_candidates(graph, (low, high), limits, 10**6, 0)
    points = [candidate.point for candidate in found.others if candidate.point is not None]
    assert len(points) < 60 < space.size(limits)
    flat = [candidate for candidate in found.others if candidate.point and candidate.point.first == "flat"]
    assert len(flat) <= 1


def test_what_a_net_cannot_have_is_left_out_with_the_reason():
    graph, _ = graph_of("plain")
    found = choose_candidates(graph, None, WITHOUT, 40, 0)
    assert "epsilon-gamma-box" in found.unfit and all("z-box" in reason for reason in found.unfit.values())
    assert all(candidate.point is None or candidate.point.first != "z-box" for candidate in found.others)
    assert sum(candidate.point is not None for candidate in found.others) == 40


@pytest.mark.parametrize("name", builtin_names())
def test_built_in_configs_can_be_written_too(name):
    composite = load_composite(name)
    assert same_rules(parse_composite(tomllib.loads(toml_text(composite)), name), composite)


def test_text_of_any_kind_stays_within_its_line():
    nasty = 'a"b\\c\nd\x7f\x1b[2J\u2028\udcff = """'
    composite = parse_composite({"description": nasty, "source": nasty}, "mine")
    text = toml_text(composite, [nasty, "kind = 1\r[name]"])
    read = tomllib.loads(text)
    assert set(read) == {"description", "source", "bias", "target", "start"}
    assert 'a"b\\c\\nd\\x7f' in read["description"]
    text.encode()
