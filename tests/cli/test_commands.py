"""Every command: help, light start, configs."""

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import lrpcli
from lrpcli.cli import main
from tests.photos import TINY

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHAPE = ("--input-shape", "3,32,32", "--preprocessing", "caffe")


def lrp(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def commands(group=main, path=("lrp",)):
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize(("path", "command"), [pytest.param(*entry, id=" ".join(entry[0])) for entry in commands()])
def test_every_command_and_option_has_help_and_stands_in_the_documentation(path, command):
    assert command.help and command.help.splitlines()[0].endswith((".", ":"))
    assert "..." not in command.get_short_help_str(limit=200)
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or parameter.help, parameter.name
    assert " ".join(path) in (DOCS / "cli.md").read_text()


def test_help_and_version_import_nothing_heavy():
    heavy = "torch torchvision numpy matplotlib PIL platformdirs google safetensors tqdm h5py"
    code = (
        "import sys\n"
        "from lrpcli.cli import main\n"
        "try: main(['--help'], prog_name='lrp')\n"
        f"except SystemExit: sys.exit(' '.join(m for m in {heavy.split()} if m in sys.modules) or 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Usage: lrp ")


def test_version():
    assert lrp("--version").stdout == f"lrp {lrpcli.__version__}\n"


def test_a_misspelt_command_or_option_is_exit_2_with_a_suggestion():
    assert lrp("explain", "--modle", "x").exit_code == 2
    assert "--model" in lrp("explain", "--modle", "x").stderr
    assert lrp("explian").exit_code == 2


@pytest.mark.parametrize("group", ["", "configs", "models"])
def test_a_group_without_a_command_shows_its_help_in_lines(group):
    result = lrp(*group.split())
    assert result.exit_code == 2 and result.stderr == lrp(*group.split(), "--help").stdout
    assert result.stderr.startswith("Usage: ") and "\nCommands:\n" in result.stderr


def test_configs_list_names_every_file_and_alias():
    names = sorted([*(path.stem for path in (DOCS.parent / "configs").glob("*.toml")), "composite"])
    starts = [line.split()[0] for line in lrp("configs", "list").stdout.splitlines() if not line.startswith("   ")]
    assert starts == names
    rows = {row["name"]: row for row in json.loads(lrp("configs", "list", "--json").stdout)}
    assert list(rows) == names
    assert {name: row["alias_of"] for name, row in rows.items() if row["alias_of"]} == {
        "composite": "alpha2-beta1-epsilon"
    }
    assert rows["composite"]["description"] == rows["alpha2-beta1-epsilon"]["description"]


def test_configs_show_says_which_rule_each_layer_gets_and_why():
    result = lrp("configs", "show", "epsilon-gamma-box", "--model", TINY, *SHAPE)
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: re.sub(" +", " ", line) for line in result.stdout.splitlines()}
    assert "z-box" in rows["conv1"] and "it is the first linear layer" in rows["conv1"]
    assert "gamma gamma=0.25 bias=absorb kind 'convolution'" in rows["conv2"]
    assert "epsilon epsilon=0.01 bias=absorb kind 'fully-connected'" in rows["fc4"]
    assert "taylor" in rows["norm1"]
    identity = lrp("configs", "show", "composite", "--lrn", "identity", "--model", TINY, *SHAPE, "--json")
    norm = next(row for row in json.loads(identity.stdout) if row["layer"] == "norm1")
    assert (norm["rule"], norm["why"]) == ("identity", "--lrn")


def test_configs_show_without_a_model():
    result = lrp("configs", "show", "composite")
    assert "kind convolution" in result.stdout and "alpha-beta beta=1.0" in result.stdout
    assert json.loads(lrp("configs", "show", "composite", "--json").stdout)["start"] == "logit"


def test_configs_check(tmp_path):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('[kind]\nlinear = { rule = "epsilon", epsilon = 0.1 }\n')
    bad.write_text('[kind]\nlinear = { rule = "epsilon", epsilom = 0.1 }\n')
    assert lrp("configs", "check", good).exit_code == 0
    result = lrp("configs", "check", good, bad)
    assert result.exit_code == 2 and "Did you mean 'epsilon'?" in result.stderr
