"""`lrp env` and `lrp completion`: what this installation is made of, and how a shell completes its commands."""

import os
import sys
from typing import Any

import click

import lrpcli
from lrpcli.cli.options import verbosity
from lrpcli.cli.settings import variables_of
from lrpcli.cli.terminal import say, say_json
from lrpcli.errors import WeightsError
from lrpcli.paths import is_url, shown_url
from lrpcli.records.text import one_line
from lrpcli.scale.devices import usable_cpus

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "matplotlib", "safetensors", "h5py", "onnx", "timm",
            "huggingface_hub", "pyarrow", "fsspec", "s3fs", "click")  # fmt: skip
SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@verbosity
def env(as_json: bool, quiet: bool) -> None:
    """Show versions, devices, the cache and the LRP_ variables that are set, as a report of a problem needs them."""
    import platform

    import torch

    from lrpcli.images.jpeg import libjpeg_name
    from lrpcli.models.zoo.mirrors import VARIABLE, shown
    from lrpcli.models.zoo.weights import is_offline

    variables = {name: _without_password(value) for name, value in variables_of(os.environ).items()}
    mirror = shown(variables.get(VARIABLE, ""))

    facts: dict[str, Any] = {
        "lrp": lrpcli.__version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        **{name: _version(name) for name in PACKAGES},
        "jpeg": libjpeg_name(),
        "cpus": usable_cpus(),
        "threads": torch.get_num_threads(),
        "cuda": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "mps": torch.backends.mps.is_available(),
        "cache": _cache(),
        "offline": is_offline(),
        "mirror": mirror or None,
        "variables": {**variables, VARIABLE: mirror} if mirror else variables,
    }
    if as_json:
        say_json(facts, indent=2)
        return
    for name, value in facts.items():
        say(one_line(f"{name:15} {_text(value)}"))


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete lrp's commands and options.

    \b
    bash:  lrp completion bash > ~/.local/share/bash-completion/completions/lrp
    zsh:   lrp completion zsh > ~/.zfunc/_lrp
    fish:  lrp completion fish > ~/.config/fish/completions/lrp.fish
    """  # noqa: D301  (click reads the escape)
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    say(kind(context.find_root().command, {}, "lrp", "_LRP_COMPLETE").source())


def _without_password(value: str) -> str:
    return shown_url(value) if is_url(value) else value


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cache() -> str | None:
    from lrpcli.models.zoo.weights import cache_folder

    try:
        return str(cache_folder())
    except WeightsError:
        return None


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if value is None:
        return "-"
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
