"""Time of a relevance map beside that of a gradient, in one process, interleaved.

    python benchmarks/engine.py [--batch 1 --batch 8 --batch 32] [--repeats 7] [--config epsilon ...]

The unit is one forward pass plus the gradient of the input, with frozen parameters, of the same net in plain torch:
CaffeNet's layout with random weights. A ratio below 1 means that a map costs less than that gradient. Every figure is
the median over the repeats; in each repeat all candidates run once, in turn. Conservation is the share of the start
relevance that arrives at the pixels when biases are left out of the denominators (1 is all of it).
"""

import statistics
import time
from collections.abc import Callable

import click
import torch
from torch import nn

from lrpcli import Explainer, LocalResponseNorm
from lrpcli.lrp.config import builtin_names

CONFIGS = ("epsilon", "epsilon-plus-flat", "epsilon-plus", "epsilon-gamma-box", "composite", "epsilon-alpha2-beta1")


def caffenet() -> nn.Module:
    """CaffeNet's layout (Jia et al. 2014) for inputs (N, 3, 227, 227), with random weights and frozen parameters."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), LocalResponseNorm(5, 1e-4, 0.75),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        LocalResponseNorm(5, 1e-4, 0.75),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 1000),
    ]  # fmt: skip
    return nn.Sequential(*layers).eval().requires_grad_(False)


def forward(net: nn.Module, x: torch.Tensor) -> None:
    """The forward pass alone."""
    with torch.no_grad():
        net(x)


def gradient(net: nn.Module, x: torch.Tensor) -> None:
    """The gradient of the best class by the input."""
    x = x.detach().requires_grad_()
    torch.autograd.grad(net(x).max(1).values.sum(), x)


def with_torch_lrn(net: nn.Module) -> nn.Module:
    """The same net with torch's own normalisation, as it would be without this package."""
    layers = [
        nn.LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.k)
        if isinstance(layer, LocalResponseNorm)
        else layer
        for layer in net.children()
    ]
    return nn.Sequential(*layers)


def medians(candidates: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each candidate; one untimed round first, then all in turn."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for repeat in range(repeats + 1):
        for name, run in candidates.items():
            started = time.perf_counter()
            run()
            if repeat:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def conservation(net: nn.Module, x: torch.Tensor) -> float:
    """Share of the start relevance that arrives, LRP-0 without biases, in float64."""
    rule = {"rule": "epsilon", "epsilon": 0, "bias": "ignore"}
    result = Explainer(net, {"kind": {"linear": rule}}, dtype=torch.float64)(x)
    return float((result.conservation["input"] / result.start).mean())


@click.command()
@click.option("--batch", "batches", type=int, multiple=True, default=(1, 8, 32), show_default=True)
@click.option("--repeats", default=7, show_default=True)
@click.option("--config", "configs", multiple=True, default=CONFIGS, type=click.Choice(builtin_names()))
@click.option("--threads", default=2, show_default=True)
def main(batches: tuple[int, ...], repeats: int, configs: tuple[str, ...], threads: int) -> None:
    """Prints the table of ratios."""
    torch.set_num_threads(threads)
    net = caffenet()
    plain = with_torch_lrn(net)
    bounds = (torch.full((1, 3, 1, 1), -120.0), torch.full((1, 3, 1, 1), 150.0))
    explainers = {name: Explainer(net, name, pixel_range=bounds) for name in configs}
    rows: dict[str, list[float]] = {}
    for batch in batches:
        x = torch.empty(batch, 3, 227, 227).uniform_(-120, 150)
        candidates: dict[str, Callable[[], object]] = {
            "forward + gradient": lambda x=x: gradient(plain, x),
            "forward": lambda x=x: forward(plain, x),
            **{name: lambda x=x, run=run: run(x) for name, run in explainers.items()},
        }
        found = medians(candidates, repeats)
        for name, seconds in found.items():
            rows.setdefault(name, []).append(seconds / found["forward + gradient"])
        click.echo(
            f"batch {batch}: forward + gradient takes {1000 * found['forward + gradient'] / batch:.1f} ms an image"
        )
    click.echo(f"\n{'':24}" + "".join(f"{f'batch {batch}':>11}" for batch in batches))
    for name, ratios in rows.items():
        click.echo(f"{name:24}" + "".join(f"{ratio:11.2f}" for ratio in ratios))
    click.echo(f"\nLRP-0 without biases, float64: {conservation(net, x[:1]):.12f} of the start relevance arrives.")


if __name__ == "__main__":
    main()
