"""Composites: what TOML may say, which entry wins, and what is refused with which words."""

import math
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from lrpcli import Composite, Explainer, LocalResponseNorm, load_composite
from lrpcli.errors import ConfigError, suggestion
from lrpcli.lrp.composites.assign import assign_rules
from lrpcli.lrp.composites.composite import builtin_names, config_folder, parse_composite
from lrpcli.lrp.composites.entries import KIND_KEYS
from lrpcli.lrp.rules import RULES
from lrpcli.lrp.tracing.translate import build_graph

BUILT_IN = {
    "alpha2-beta1-epsilon", "alpha2-beta1-relative", "beta-0", "beta-1", "composite", "epsilon", "epsilon-1",
    "epsilon-alpha2-beta1", "epsilon-alpha2-beta1-flat", "epsilon-gamma-box", "epsilon-over-beta-0",
    "epsilon-over-beta-1", "epsilon-over-gamma", "epsilon-plus", "epsilon-plus-flat", "gradient",
    "gradient-times-input", "identity-beta-0", "identity-beta-1", "identity-epsilon", "identity-epsilon-1",
    "zero-epsilon-gamma",
}  # fmt: skip
PIXELS = (torch.full((1, 3, 1, 1), -2.0), torch.full((1, 3, 1, 1), 2.0))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3), LocalResponseNorm(3, 0.1, 0.75)
        self.conv2, self.conv3 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.pool, self.relu = nn.MaxPool2d(2), nn.ReLU()
        self.fc1, self.fc2 = nn.Linear(4, 6), nn.Linear(6, 5)

    def forward(self, x):
        x = self.norm1(self.pool(self.relu(self.conv1(x))))
        x = self.relu(self.conv3(self.relu(self.conv2(x))))
        return self.fc2(self.fc1(x.mean((2, 3)) + 0.0))


@pytest.fixture(scope="module")
def graph():
    return build_graph(Net())


def assigned(graph, **content):
    """Layer name -> (rule, parameters, reason)."""
    found = assign_rules(parse_composite(content, "mine"), graph, PIXELS)
    return {item.layer.name: (item.rule_name, item.parameters, item.reason) for item in found}


def refused(content, text, graph=None):
    with pytest.raises(ConfigError) as caught:
        assign_rules(parse_composite(content, "mine"), graph or build_graph(Net()), None)
    assert text in str(caught.value)


def test_the_built_in_composites():
    assert set(builtin_names()) == BUILT_IN
    for name in builtin_names():
        composite = load_composite(name)
        assert composite.title == name
        assert composite.description
        assert composite.source


def test_an_alias_is_the_same_composite_under_its_own_title():
    """Runs that name `composite` go on to say so."""
    alias, composite = load_composite("composite"), load_composite("alpha2-beta1-epsilon")
    assert (alias.title, composite.title) == ("composite", "alpha2-beta1-epsilon")
    assert replace(alias, title=composite.title) == composite


def test_built_in_composites_say_what_the_specification_says(graph):
    """Rule and parameters of conv1, conv2 and fc1, and the LRN rule."""
    epsilon, one, beta1, beta0 = "epsilon=0.01", "epsilon=1.0", "beta=1.0", "beta=0.0"
    expected = {
        "epsilon": (("epsilon", epsilon), ("epsilon", epsilon), ("epsilon", epsilon)),
        "epsilon-1": (("epsilon", one), ("epsilon", one), ("epsilon", one)),
        "beta-1": (("alpha-beta", beta1), ("alpha-beta", beta1), ("alpha-beta", beta1)),
        "beta-0": (("alpha-beta", beta0), ("alpha-beta", beta0), ("alpha-beta", beta0)),
        "alpha2-beta1-epsilon": (("alpha-beta", beta1), ("alpha-beta", beta1), ("epsilon", one)),
        "alpha2-beta1-relative": (("alpha-beta", beta1), ("alpha-beta", beta1), ("epsilon", "relative=1.0")),
        "composite": (("alpha-beta", beta1), ("alpha-beta", beta1), ("epsilon", one)),
        "epsilon-plus": (("z-plus", ""), ("z-plus", ""), ("epsilon", epsilon)),
        "epsilon-plus-flat": (("flat", ""), ("z-plus", ""), ("epsilon", epsilon)),
        "epsilon-alpha2-beta1": (("alpha-beta", beta1), ("alpha-beta", beta1), ("epsilon", epsilon)),
        "epsilon-alpha2-beta1-flat": (("flat", ""), ("alpha-beta", beta1), ("epsilon", epsilon)),
        "epsilon-gamma-box": (("z-box", ""), ("gamma", "gamma=0.25"), ("epsilon", epsilon)),
        "epsilon-over-beta-0": (("alpha-beta", beta0), ("alpha-beta", beta0), ("epsilon", "relative=0.05")),
        "epsilon-over-beta-1": (("alpha-beta", beta1), ("alpha-beta", beta1), ("epsilon", "relative=0.05")),
        "epsilon-over-gamma": (("gamma", "gamma=0.25"), ("gamma", "gamma=0.25"), ("epsilon", "relative=0.05")),
        "zero-epsilon-gamma": (("gamma", "gamma=0.25"), ("gamma", "gamma=0.25"), ("epsilon", "relative=0.25")),
        "gradient": (("gradient", ""),) * 3,
        "gradient-times-input": (("gradient-times-input", ""), ("gradient", ""), ("gradient", "")),
    }
    for twin in ("epsilon", "epsilon-1", "beta-1", "beta-0"):
        expected[f"identity-{twin}"] = expected[twin]
    assert set(expected) == BUILT_IN
    for name, rules in expected.items():
        found = {item.layer.name: item for item in assign_rules(load_composite(name), graph, PIXELS)}
        for layer, (rule, parameters) in zip(("conv1", "conv2", "fc1"), rules, strict=True):
            assert found[layer].rule_name == rule
            assert found[layer].parameters.replace("bias=absorb", "").strip() == parameters
        lrn = "identity" if name.startswith("identity") else "gradient" if name.startswith("gradient") else "taylor"
        assert found["norm1"].rule_name == lrn


def test_the_epsilon_of_the_last_layer_only_scales_a_map():
    """A start at one logit: what its epsilon leaves is the same share for all inputs."""
    torch.manual_seed(0)
    x, content = torch.rand(2, 3, 6, 6, dtype=torch.float64), load_composite("alpha2-beta1-relative")
    assert assign_rules(content, build_graph(Net()), PIXELS)[-1].parameters == "relative=0.01 bias=absorb"
    explain = Explainer(Net().double(), content, dtype=torch.float64)
    less = replace(content, entries=tuple(entry for entry in content.entries if entry.key != "last"))
    maps, smaller = explain(x).relevance, explain.with_config(less)(x).relevance
    scale = maps.abs().amax((1, 2, 3), keepdim=True) / smaller.abs().amax((1, 2, 3), keepdim=True)
    torch.testing.assert_close(maps, scale * smaller, rtol=1e-9, atol=1e-12)
    assert bool((scale > 1).all())


def test_defaults_without_any_entry(graph):
    found = assigned(graph)
    rules = {name: (rule, reason) for name, (rule, _, reason) in found.items()}
    assert rules["input"] == ("default", "it is the input")
    assert rules["conv1"] == ("epsilon", "the default")
    assert rules["norm1"] == ("taylor", "the default")
    assert rules["pool"] == ("winner", "the default")
    assert rules["mean"] == ("proportional", "the default")
    assert rules["relu"] == ("default", "the default")


def test_the_most_specific_entry_wins(graph):
    """any < linear < kind < range (narrow wins) < first, last < pattern (long wins) < name."""
    content = {"kind": {"any": "gradient"}}
    steps = [
        ("kind", "any", "gradient", "kind 'any'"),
        ("kind", "linear", "flat", "kind 'linear'"),
        ("kind", "convolution", "w-square", "kind 'convolution'"),
        ("position", "1..4", "z-plus", "position '1..4'"),
        ("position", "1..2", "gamma", "position '1..2'"),
        ("position", "1", "sign", "position '1'"),
        ("position", "first", "epsilon", "it is the first linear layer"),
        ("name", "*1", "alpha-beta", "name '*1'"),
        ("name", "conv*", "gamma", "name 'conv*'"),
        ("name", "conv1", "flat", "name 'conv1'"),
    ]
    for table, key, rule, reason in steps:
        content.setdefault(table, {})[key] = rule
        backwards = {name: dict(reversed(section.items())) for name, section in reversed(content.items())}
        for order in (content, backwards):
            found = assigned(graph, **order)["conv1"]
            assert (found[0], found[2]) == (rule, reason)


class Branches(nn.Module):
    """A residual block with a gate; the longest path has the linear layers one, two, three, five."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three, self.side = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.squeeze, self.five = nn.Conv2d(3, 3, 1), nn.Linear(3, 2)

    def forward(self, x):
        x = self.one(x)
        x = self.three(self.two(x).relu()) + self.side(x)
        x = x * torch.sigmoid(self.squeeze(x.mean((2, 3), keepdim=True)))
        return self.five(x.mean((2, 3)))


def test_depth_is_the_share_of_the_linear_layers_on_the_longest_path():
    graph = build_graph(Branches())
    depths = {layer.name: layer.depth for layer in graph.layers if layer.depth is not None}
    assert depths == {"one": 0.125, "two": 0.375, "three": 0.625, "side": 0.375, "squeeze": 0.875, "five": 0.875}


def test_depth_entries_take_their_part_of_the_linear_layers(graph):
    found = assigned(graph, depth={"0..0.5": {"rule": "gamma", "gamma": 0.5}, "0.5..1": "z-plus"})
    # Five on one path: the middles of their places are 0.1, 0.3, 0.5, 0.7 and 0.9.
    assert [found[name][0] for name in ("conv1", "conv2", "conv3", "fc1", "fc2")] == ["gamma"] * 2 + ["z-plus"] * 3
    assert found["conv1"][1:] == ("gamma=0.5 bias=absorb", "depth '0..0.5'")
    assert found["norm1"][0] == "taylor"


def test_a_narrower_depth_wins_over_a_wider_one_and_over_kinds_and_loses_to_positions(graph):
    found = assigned(
        graph,
        kind={"convolution": "flat", "fully-connected": "flat"},
        depth={"0..1": "z-plus", "0.25..0.6": "gamma", "0.9..1": "w-square"},
        position={"2": "alpha-beta", "last": "epsilon"},
    )
    assert [found[name][0] for name in ("conv1", "conv2", "conv3", "fc1", "fc2")] == [
        "z-plus", "alpha-beta", "gamma", "z-plus", "epsilon"
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["0.5..0.5", "0.6..0.5", "0..1.5", "-1..0", "half", "0.5", "0..", "nan..1", "0...5"])
def test_what_is_no_part_of_the_depth_is_refused(key):
    refused({"depth": {key: "z-plus"}}, f"[depth] has the unknown key {key!r}. It must be a part of the way")


def test_depth_entries_take_rules_of_linear_layers_alone():
    refused({"depth": {"0..1": "taylor"}}, "gives '0..1' the unknown rule 'taylor'")


def test_positions(graph):
    found = assigned(graph, position={"first": "flat", "2..3": "z-plus", "4": "gamma", "last": "w-square"})
    rules = [found[name][0] for name in ("conv1", "conv2", "conv3", "fc1", "fc2")]
    assert rules == ["flat", "z-plus", "z-plus", "gamma", "w-square"]


def test_any_and_patterns_skip_layers_that_cannot_have_the_rule(graph):
    found = assigned(graph, kind={"any": "z-plus"}, name={"*o*": "alpha-beta"})
    assert found["fc1"][0] == "z-plus"
    assert found["norm1"][0] == "alpha-beta"
    assert found["conv2"][0] == "alpha-beta"
    assert found["pool"] == ("winner", "", "the default")


def test_one_pattern_covers_a_block_with_its_activations():
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.MaxPool2d(2)), nn.Flatten(), nn.Linear(4, 2))
    found = assigned(build_graph(net), name={"0.*": "flat"})
    assert [found[name][0] for name in ("0.0", "0.1", "0.2", "2")] == ["flat", "default", "winner", "epsilon"]


def test_a_folded_batch_norm_can_be_named():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    assert assigned(build_graph(net), name={"1": "flat"})["0"][0] == "flat"


def test_bias_treatment_of_the_whole_and_of_one_rule(graph):
    found = assigned(graph, bias="ignore", kind={"convolution": {"rule": "z-plus", "bias": "absorb"}})
    assert found["conv1"][1] == "bias=absorb"
    assert found["fc1"][1] == "epsilon=0.01 bias=ignore"
    assert found["add"][1] == "bias=ignore"


def test_an_lrn_rule_overrides_whatever_the_config_says(graph):
    composite = parse_composite({"kind": {"lrn": "identity"}, "name": {"norm1": "taylor-unnormalized"}}, "mine")
    found = {item.layer.name: item for item in assign_rules(composite.with_lrn("epsilon"), graph)}
    assert (found["norm1"].rule_name, found["norm1"].reason) == ("epsilon", "--lrn")
    assert found["norm1"].parameters == "epsilon=0.01"
    assert Explainer(Net(), composite, lrn="taylor").assignments[4].rule_name == "taylor"
    with pytest.raises(
        ConfigError, match="There is no LRN rule 'tailor'. Did you mean 'taylor'\\? Known are: taylor, "
    ):
        composite.with_lrn("tailor")


REFUSED = [
    ({"kinds": {}}, "Config 'mine' has an unknown key, 'kinds'. Did you mean 'kind'?"),
    ({"kind": "epsilon"}, "In config 'mine', 'kind' must be a table [kind], not 'epsilon'."),
    ({"kind": {"convolutions": "flat"}}, "the unknown kind 'convolutions'. Did you mean 'convolution'?"),
    ({"kind": {"convolution": "epsilom"}}, "gives 'convolution' the unknown rule 'epsilom'. Did you mean 'epsilon'?"),
    ({"kind": {"lrn": "z-plus"}}, "gives 'lrn' the unknown rule 'z-plus'. Known there: alpha-beta, epsilon, gradient"),
    ({"kind": {"linear": {"rule": "epsilon", "epsilom": 1}}}, "an unknown parameter of rule 'epsilon', 'epsilom'. Did"),
    ({"kind": {"linear": {"epsilon": 1}}}, "the entry 'linear' of [kind] must be a rule's name, or a table such as"),
    ({"kind": {"linear": 3}}, "the entry 'linear' of [kind] must be a rule's name, or a table such as"),
    ({"kind": {"linear": {"rule": "epsilon", "epsilon": -1}}}, "epsilon = -1 of rule 'epsilon' must be a finite"),
    ({"kind": {"linear": {"rule": "epsilon", "epsilon": math.nan}}}, "epsilon = nan of rule 'epsilon' must be"),
    ({"kind": {"linear": {"rule": "epsilon", "epsilon": math.inf}}}, "epsilon = inf of rule 'epsilon' must be"),
    ({"kind": {"linear": {"rule": "epsilon", "epsilon": True}}}, "epsilon = True of rule 'epsilon' must be a finite"),
    ({"kind": {"linear": {"rule": "gamma", "gamma": "0.25"}}}, "gamma = '0.25' of rule 'gamma' must be"),
    ({"kind": {"linear": {"rule": "gamma", "bias": "ignored"}}}, "bias = 'ignored' is not known. Did you mean"),
    ({"kind": {"any": {"rule": "epsilon", "bias": "ignore"}}},
     "an unknown parameter of rule 'epsilon' for layer 'norm1' of kind lrn, 'bias'"),
    ({"bias": "drop"}, "In config 'mine', bias = 'drop' is not known."),
    ({"bias": 1}, "In config 'mine', 'bias' must be a text, not 1."),
    ({"start": "logits"}, "start = 'logits' is not known. Did you mean 'logit'?"),
    ({"target": "best"}, "In config 'mine': The target 'best' is not known"),
    ({"target": -1}, "'target' must be \"top\", \"topK\" or a class index, not -1."),
    ({"target": True}, "'target' must be \"top\", \"topK\" or a class index, not True."),
    ({"position": {"second": "flat"}}, "[position] has the unknown key 'second'. It must be first, last, the number"),
    ({"position": {"0": "flat"}}, "[position] has the unknown key '0'."),
    ({"position": {"4..2": "flat"}}, "[position] has the unknown key '4..2'."),
    ({"position": {"first": "taylor"}}, "gives 'first' the unknown rule 'taylor'."),
    ({"name": {"conv9": "flat"}}, "names the layer 'conv9', but no layer of the model is called that. Did you"),
    ({"name": {"inception*": "flat"}}, "names the layer 'inception*', but no layer of the model is called that."),
    ({"name": {"pool": "flat"}}, "which layers of kind max-pool cannot have. They can have: average, gradient, "),
    ({"name": {"relu*": "flat"}}, "gives 'relu*' the rule 'flat', which layers of kind activation cannot have."),
    ({"position": {"first": "z-box"}}, "The rule z-box of layer 'conv1' needs the range of its input"),
    ({"position": {"first": {"rule": "z-box", "low": 1}}}, "The rule z-box of layer 'conv1' needs the range"),
    ({"position": {"first": {"rule": "z-box", "low": 1, "high": 1}}}, "'conv1' needs a low below its high"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_is_refused(graph, number):
    refused(*REFUSED[number], graph)


def test_z_box_takes_the_pixel_range_for_layers_that_read_the_input_alone(graph):
    composite = parse_composite({"position": {"2": "z-box"}}, "mine")
    with pytest.raises(ConfigError, match="The rule z-box of layer 'conv2' needs the range of its input"):
        assign_rules(composite, graph, PIXELS)
    first = assign_rules(load_composite("epsilon-gamma-box"), graph, PIXELS)[1].rule
    assert (first.low, first.high) == PIXELS


def test_a_users_file(tmp_path, graph):
    path = tmp_path / "mine.toml"
    path.write_text(
        'bias = "ignore"\ntarget = 3\nstart = "one"\n[kind]\nlinear = { rule = "epsilon", epsilon = 0.5 }\n'
    )
    composite = load_composite(path)
    assert (composite.title, composite.target, composite.start, composite.bias) == ("mine", 3, "one", "ignore")
    assert load_composite(str(path)) == composite
    result = Explainer(Net(), path)(torch.randn(2, 3, 8, 8))
    assert result.target.tolist() == [3, 3]
    assert result.start.tolist() == [1.0, 1.0]


def test_a_mapping_and_a_composite():
    content = tomllib.loads((config_folder() / "alpha2-beta1-epsilon.toml").read_text())
    composite = load_composite(content)
    assert composite.title == "custom"
    assert composite.entries == load_composite("composite").entries
    assert load_composite(composite) is composite
    assert load_composite({"position": {1: "flat"}}).entries[0].key == "1"
    assert isinstance(composite, Composite)


def test_unreadable_files_and_unknown_names(tmp_path):
    broken = tmp_path / "broken.toml"
    broken.write_text("[kind\n")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    for config, text in (
        ("composit", "There is no config named 'composit'. Did you mean 'composite'? 'lrp configs list' shows all"),
        (tmp_path / "none.toml", "cannot be read: No such file or directory; check the path."),
        (tmp_path, "There is no config named"),
        (broken, "is not valid TOML"),
        (binary, "cannot be read: it is UTF-16 text; save it as UTF-8."),
    ):
        with pytest.raises(ConfigError) as caught:
            load_composite(config)
        assert text in str(caught.value)


def test_suggestions():
    assert suggestion("epsilom", ["epsilon", "gamma"]) == " Did you mean 'epsilon'?"
    assert suggestion("xyz", ["epsilon", "gamma"]) == ""


DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_documents_examples_are_configs():
    blocks = re.findall(r"```toml\n(.*?)```", (DOCS / "configs.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert load_composite(tomllib.loads(block)).entries


def test_the_documents_name_every_kind_rule_and_composite():
    rules, configs = (DOCS / "rules.md").read_text(), (DOCS / "configs.md").read_text()
    for word in {*RULES, *(rule for known in RULES.values() for rule in known)} - {"scalar"}:
        assert f"`{word}`" in rules, word
    for word in (*KIND_KEYS, *builtin_names()):
        assert f"`{word}`" in configs, word
