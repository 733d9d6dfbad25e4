"""Parameters of rules: what a config may give, and what a rule takes from its surroundings."""

from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor, nn

from lrpcli import Explainer
from lrpcli.errors import ConfigError
from lrpcli.lrp.layers.linear import LinearOperation
from lrpcli.lrp.operation import (
    Number,
    Operation,
    Rule,
    Surroundings,
    Word,
    at_zeros,
    divide_by_nonnegative,
    number,
    safe_divide,
    smallest,
    tensor,
    word,
)
from lrpcli.lrp.rules import RULES


@dataclass(frozen=True)
class Trial(Rule[LinearOperation]):
    """R goes to the inputs by |w|, scaled; a rule with one parameter of each sort."""

    mode: str = word("all", ("all", "positive"))
    share: float = number(1.0, least=0, most=1)
    scale: Tensor = tensor()

    @classmethod
    def bind(cls, given, surroundings):
        """The scale is one per output, unless the config says otherwise."""
        ones = surroundings.operation.weight.new_ones(len(surroundings.operation.weight))
        return cls(**{"scale": ones} | cls.read(given))

    def relevance(self, step, relevance):
        """sum_j |w_ij| R_j."""
        weight = step.operation.weight
        weight = weight.clamp(min=0) if self.mode == "positive" else weight.abs()
        return (self.share * (relevance * self.scale) @ weight,)


@pytest.fixture
def explained(monkeypatch):
    """Relevance of a layer under an entry of a config that names the trial rule."""
    monkeypatch.setitem(RULES["fully-connected"], "trial", Trial)
    layer = nn.Linear(2, 2, bias=False).double()
    layer.weight.data = torch.tensor([[1.0, -2.0], [-3.0, 4.0]], dtype=torch.float64)

    def explain(**parameters):
        entry = {"rule": "trial", **parameters}
        explainer = Explainer(
            nn.Sequential(layer), {"start": "one", "kind": {"fully-connected": entry}}, dtype=torch.float64
        )
        relevance = explainer(torch.ones(1, 2, dtype=torch.float64), 1).relevance
        return relevance[0].tolist(), explainer.assignments[1].parameters

    return explain


def test_a_rule_of_ones_own_needs_a_line_in_the_table_only(explained):
    assert explained() == ([3.0, 4.0], "mode=all share=1.0")
    assert explained(mode="positive", share=0.5) == ([0.0, 2.0], "mode=positive share=0.5")
    assert explained(scale=10)[0] == [30.0, 40.0]


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"mode": "positiv"}, "In config 'custom', mode = 'positiv' is not known. Did you mean 'positive'?"),
        ({"mode": 1}, "In config 'custom', 'mode' must be a text, not 1."),
        ({"share": 1.5}, "In config 'custom', share = 1.5 of rule 'trial' must be a finite number, 0 to 1."),
        ({"scale": "all"}, "In config 'custom', scale = 'all' of rule 'trial' must be a finite number."),
        ({"scales": 1}, "unknown parameter of rule 'trial', 'scales'. Did you mean 'scale'?"),
    ],
)
def test_what_a_parameter_cannot_be_is_refused(explained, parameters, text):
    with pytest.raises(ConfigError) as caught:
        explained(**parameters)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("least", "most", "value", "bounds"),
    [
        (0, None, -0.1, ", zero or larger"),
        (1, None, 0.9, ", 1 or larger"),
        (-1, 1, 2, ", -1 to 1"),
        (None, None, 1e30, ""),
        (None, None, float("nan"), ""),
        (None, None, True, ""),
    ],
)
def test_numbers_say_their_bounds(least, most, value, bounds):
    limits = {name: limit for name, limit in (("least", least), ("most", most)) if limit is not None}
    complaint = Number(**limits).complaint("a", value, "r")
    assert complaint == f"a = {value!r} of rule 'r' must be a finite number{bounds}."
    assert Number(**limits).complaint("a", least or 0, "r") == ""


def test_the_bias_is_the_composites_unless_the_entry_says_otherwise():
    surroundings = Surroundings("conv", Operation(), "ignore")
    for rules in RULES.values():
        for rule in rules.values():
            if "bias" in rule.parameters():
                assert rule.bind({}, surroundings).bias == "ignore"
                assert rule.bind({"bias": "absorb"}, surroundings).bias == "absorb"


@pytest.mark.parametrize("kind", RULES)
def test_every_field_of_every_rule_is_a_parameter(kind):
    for rule in RULES[kind].values():
        assert list(rule.parameters()) == [item.name for item in fields(rule)]
        for item in fields(rule):
            parameter = item.metadata["parameter"]
            if isinstance(parameter, Word):
                assert item.default in parameter.choices


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_share_is_divided_or_left_over(dtype):
    """Also where the denominator is just what counts as zero, or next to it."""
    least = torch.tensor(smallest(dtype), dtype=dtype)
    below, above = (torch.nextafter(least, torch.tensor(end, dtype=dtype)) for end in (0.0, 1.0))
    denominators = torch.stack([torch.zeros_like(least), below, least, above, 2 * least, torch.ones_like(least)])
    for sign in (1, -1):
        divided = safe_divide(torch.ones_like(denominators), sign * denominators)
        left = at_zeros(torch.ones_like(denominators), sign * denominators)
        assert (divided != 0).tolist() == [False, False, True, True, True, True]
        assert left.tolist() == [1, 1, 0, 0, 0, 0]
    never_negative = divide_by_nonnegative(torch.ones_like(denominators), denominators)
    assert (never_negative[[0, 1, 3, 4, 5]] != 0).tolist() == [False, False, True, True, True]
    assert divide_by_nonnegative(torch.ones_like(denominators), -denominators).tolist() == [0] * 6
