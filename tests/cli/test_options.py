"""Options come from the settings dataclasses: defaults, choices, bounds and help are written once."""

from dataclasses import dataclass

import click
import pytest
from click.testing import CliRunner

from lrpcli.cli.evaluate import evaluate
from lrpcli.cli.explain import explain
from lrpcli.cli.options import from_options, options_of_settings
from lrpcli.cli.tune import tune
from lrpcli.evaluation.settings import EvaluationRunSettings, EvaluationSettings, PerturbationSettings
from lrpcli.images.formats import DecodePolicy
from lrpcli.pictures.style import PictureStyle
from lrpcli.pipeline.settings import (
    ExplainSettings,
    FlowSettings,
    ModelSettings,
    OutputSettings,
    PreprocessingSettings,
    RunSettings,
)
from lrpcli.setting import require_choices, setting, settings_of
from lrpcli.tuning.settings import SearchSettings

EXPLAIN = (
    ModelSettings,
    PreprocessingSettings,
    ExplainSettings,
    DecodePolicy,
    OutputSettings,
    PictureStyle,
    FlowSettings,
)
EVALUATE = (ModelSettings, PreprocessingSettings, EvaluationSettings, PerturbationSettings, DecodePolicy, FlowSettings)
TUNE = (ModelSettings, PreprocessingSettings, SearchSettings, DecodePolicy)


@pytest.mark.parametrize(
    ("command", "arguments", "kinds"),
    [(explain, ["in", "out"], EXPLAIN), (evaluate, ["in", "-o", "out"], EVALUATE), (tune, ["in", "-o", "out"], TUNE)],
)
def test_without_flags_every_setting_is_the_dataclass_default(command, arguments, kinds):
    context = command.make_context(command.name, arguments)
    for kind in kinds:
        assert from_options(kind, context.params) == kind()
        for item, details in settings_of(kind):
            option = next(option for option in command.params if option.name == item.name)
            assert f"--{details.flag(item.name)}" in option.opts and option.help.startswith(details.help.split("{")[0])


@pytest.mark.parametrize("command", [explain, evaluate, tune])
def test_no_option_is_given_twice(command):
    flags = [flag for option in command.params for flag in (*option.opts, *option.secondary_opts)]
    assert len(flags) == len(set(flags))


def test_settings_of_a_run_that_are_options_have_one():
    for command, kind in ((explain, RunSettings), (evaluate, EvaluationRunSettings)):
        assert {item.name for item, _ in settings_of(kind)} <= {option.name for option in command.params}


@dataclass(frozen=True)
class Example:
    speed: int = setting(3, help="How fast.", metavar="N", least=1, most=9)
    mood: str = setting("calm", help="{choices}.", choices=("calm", "wild", "odd"))
    names: tuple[str, ...] = setting((), flags=("--name",), help="Names.", shown_default="nobody")
    share: float | None = setting(None, help="A share.", least=0, most=1)
    loud: bool = setting(False, help="Shout.")
    kinds: tuple[str, ...] = setting(("a", "b"), help="Kinds.", as_text=True)

    def __post_init__(self):
        if isinstance(self.kinds, str):
            object.__setattr__(self, "kinds", tuple(self.kinds.split(",")))
        require_choices(self)


def invoke(*arguments):
    found = []

    @click.command()
    @options_of_settings(Example)
    def command(**values):
        found.append(from_options(Example, values))

    return CliRunner().invoke(command, list(arguments)), found


def test_a_setting_becomes_an_option_and_back():
    assert invoke()[1] == [Example()]
    given = invoke("--speed", "5", "--mood", "odd", "--name", "x", "--name", "y,z", "--share", "0.5", "--loud",
                   "--kinds", "c,d")  # fmt: skip
    assert given[1] == [Example(5, "odd", ("x", "y,z"), 0.5, True, ("c", "d"))]


def test_the_help_says_choices_defaults_and_bounds():
    text = " ".join(invoke("--help")[0].output.split())
    for part in ("How fast. [default: 3; 1<=x<=9]", "calm, wild or odd. [default: calm]", "[default: nobody]",
                 "Kinds. [default: a,b]"):  # fmt: skip
        assert part in text, text


@pytest.mark.parametrize("arguments", [["--speed", "10"], ["--speed", "x"], ["--share", "nan"], ["--share", "2"]])
def test_values_out_of_bounds_are_exit_2(arguments):
    assert invoke(*arguments)[0].exit_code == 2


def test_a_choice_that_is_not_known_is_refused_with_a_suggestion():
    error = invoke("--mood", "mild")[0].exception
    assert "--mood 'mild' is not known. Did you mean 'wild'? Choose one of calm, wild, odd." in str(error)


def test_choices_are_completed():
    option = next(option for option in explain.params if option.name == "style")
    context = click.Context(explain)
    assert [item.value for item in option.shell_complete(context, "co")] == ["contour"]
