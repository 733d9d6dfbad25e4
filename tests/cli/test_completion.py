"""What a shell offers: names of everything that options take, without importing anything heavy."""

import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete

from lrpcli.cli import main
from lrpcli.lrp.composites.composite import builtin_names
from lrpcli.lrp.names import LRN_RULES, STARTS
from lrpcli.lrp.rules import RULES
from lrpcli.lrp.targets import check_start
from lrpcli.models.zoo import list_entries
from tests.resilience.runs import environment


def offered(*words):
    """Values and, where a shell shall look for files itself, "file" or "dir"."""
    *before, typed = words
    items = ShellComplete(main, {}, "lrp", "_LRP_COMPLETE").get_completions(list(before), typed)
    return [item.value if item.type == "plain" else item.type for item in items]


def names(start):
    return [entry.name for entry in list_entries() if entry.name.startswith(start)]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("explain", "--model", "caf"), [*names("caf"), "file"]),
        (("evaluate", "--model", "onnx-"), [*names("onnx-"), "file"]),
        (("explain", "--model", "torchvision:alex"), ["torchvision:alexnet", "file"]),
        (("explain", "--config", "beta"), ["beta-0", "beta-1", "file"]),
        (("evaluate", "--config", "beta"), ["beta-0", "beta-1", "file"]),
        (("explain", "--lrn", "tay"), ["taylor", "taylor-unnormalized"]),
        (("explain", "--start", "con"), ["contrastive", "contrastive-positive"]),
        (("explain", "--style", "o"), ["overlay"]),
        (("explain", "--save", "overlay,m"), ["overlay,map"]),
        (("explain", "--device", "c"), ["cpu", "cuda"]),
        (("explain", "--labels", "x"), ["file"]),
        (("explain", "--base", "x"), ["dir"]),
        (("explain", "--settings", "x"), ["file"]),
        (("explain", "x"), ["file"]),
        (("models", "show", "ci"), [*names("ci"), "file"]),
        (("models", "labels", "ci"), [*names("ci"), "file"]),
        (("models", "fetch", "ci"), names("ci")),
        (("models", "path", "ci"), names("ci")),
        (("models", "list", "t"), ["torchvision", "timm"]),
        (("configs", "show", "beta"), ["beta-0", "beta-1", "file"]),
        (("configs", "show", "beta-0", "--model", "ci"), [*names("ci"), "file"]),
        (("table", "--format", "p"), ["parquet"]),
        (("help", "mo"), ["models"]),
        (("help", "models", "la"), ["labels"]),
        (("help", "explain", ""), []),
        (("models", "la"), ["labels"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_offered(words, values):
    assert offered(*words) == values


def test_the_names_are_those_that_are_taken():
    assert tuple(RULES["lrn"]) == LRN_RULES
    assert [check_start(start) for start in STARTS] == list(STARTS)
    assert set(offered("explain", "--config", "")) == {*builtin_names(), "file"}


@pytest.mark.parametrize(
    "words", ["lrp explain --model ", "lrp explain --config ", "lrp explain --lrn ", "lrp models show "]
)
def test_nothing_heavy_is_imported_for_it(words):
    heavy = "torch torchvision numpy matplotlib PIL onnx timm"
    code = (
        "import sys\nfrom lrpcli.cli import main\n"
        "try: main(prog_name='lrp')\n"
        f"except SystemExit: sys.exit(' '.join(m for m in {heavy.split()} if m in sys.modules) or 0)\n"
    )
    env = environment(_LRP_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split())))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, check=False)
    assert done.returncode == 0 and done.stdout.count(b"plain,") > 3, done.stderr
