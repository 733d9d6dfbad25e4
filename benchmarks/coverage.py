"""Which nets of torchvision and timm are explained, by which tracer, and why the others are refused: as Markdown.

Random weights, small images, the forward pass of one image compared with the model's own. Ten minutes on two cores:

    python -m benchmarks.coverage torchvision timm
"""

import textwrap
import warnings
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import version

import click
import torch
from torch import nn

from lrpcli import Explainer
from lrpcli.errors import LrpError
from tests.lrp.zoo_nets import TIMM

SIDES = (64, 96, 128, 224)
"""Sides of the images; the first that a net takes is used."""


def names_of(zoo: str) -> list[str]:
    """The nets that are tried."""
    if zoo == "timm":
        return TIMM
    from torchvision import models

    return models.list_models(module=models)


def build(zoo: str, name: str) -> nn.Module:
    """A net with random weights, in eval mode."""
    if zoo == "timm":
        import timm

        net: nn.Module = timm.create_model(name, pretrained=False)
    else:
        from torchvision import models

        net = models.get_model(name, weights=None)
    return net.eval()


def outcome(net: nn.Module) -> str:
    """The tracer that explains a net, or the reason for which it is refused."""
    x = next(image for image in images() if is_taken(net, image))
    try:
        explainer = Explainer(net, device="cpu", input_shape=x.shape[1:])
        explainer.predict(x)
    except LrpError as error:
        why = "attention has no rule" if "attention" in str(error).lower() else str(error).partition(". ")[0]
        return f"refused by name, {why}"
    return "traced by torch.export" if explainer.graph.shape else "traced by torch.fx"


def images() -> Iterable[torch.Tensor]:
    """One image of each side."""
    return (torch.randn(1, 3, side, side) for side in SIDES)


def is_taken(net: nn.Module, x: torch.Tensor) -> bool:
    """Whether a net takes images of such a size."""
    try:
        with torch.no_grad():
            net(x)
    except Exception:
        return False
    return True


def report(zoo: str) -> str:
    """All outcomes for a zoo, each with its nets."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names_of(zoo):
        torch.manual_seed(0)
        found[outcome(build(zoo, name))].append(name)
        click.echo(name, err=True)
    total = sum(map(len, found.values()))
    explained = sum(len(names) for how, names in found.items() if how.startswith("traced"))
    lines = [f"**{zoo} {version(zoo)}: {explained} of {total}**", ""]
    for how, names in sorted(found.items(), key=lambda item: (item[0].startswith("refused"), -len(item[1]))):
        listed = f"- {how} ({len(names)}): {', '.join(f'`{name}`' for name in names)}"
        lines += textwrap.wrap(listed, 120, subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines)


@click.command()
@click.argument("zoos", nargs=-1, required=True, type=click.Choice(["torchvision", "timm"]))
def main(zoos: tuple[str, ...]) -> None:
    """Prints the coverage of each zoo."""
    warnings.simplefilter("ignore")
    for zoo in zoos:
        click.echo(report(zoo) + "\n")


if __name__ == "__main__":
    main()
