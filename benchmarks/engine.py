"""Time of a relevance map beside that of a gradient, in one process, interleaved.

    python -m benchmarks.engine [--net googlenet | resnet50] [--batch 1 --batch 8 --batch 32] [--config epsilon ...]
    python -m benchmarks.engine --peers                   # beside Zennit, Captum and autoLRP, those that are installed
    python -m benchmarks.engine --profile --batch 32 --config composite      # per layer

The unit is one forward pass plus the gradient of the input, with frozen parameters, of the same net in plain torch, its
own LocalResponseNorm included: the layouts of CaffeNet, GoogLeNet or torchvision's ResNet-50 with random weights. A
ratio below 1 means that a map costs less than that gradient. Every figure is the median over the repeats; in each
repeat all candidates run once, in turn. Conservation is the share of the start relevance that arrives at the pixels
when biases are left out of the denominators (1 is all of it). Freed memory is kept, as `lrp explain` keeps it, for all
candidates alike.
"""

import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import click
import torch
from torch import nn

from benchmarks.peers import peers
from lrpcli import Explainer, LocalResponseNorm
from lrpcli.lrp.batch_limit import keep_freed_memory
from lrpcli.lrp.composites.composite import builtin_names
from lrpcli.models import load_architecture

CONFIGS = ("epsilon", "epsilon-plus-flat", "epsilon-plus", "epsilon-gamma-box", "epsilon-over-gamma", "composite",
           "epsilon-alpha2-beta1")  # fmt: skip
SIZES = {"caffenet": 227, "googlenet": 224, "resnet50": 224}
LOW, HIGH = -120.0, 150.0


def random_net(name: str) -> nn.Module:
    """A net's layout with weights that keep activations at its input's size, frozen; torch's own LRN, no softmax."""
    torch.manual_seed(0)
    net = _layout(name)
    for layer in net.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            scale = (2 / layer.weight[0].numel()) ** 0.5
            layer.weight = nn.Parameter(torch.randn(layer.weight.shape) * scale)
            if layer.bias is not None:
                layer.bias = nn.Parameter(torch.randn(layer.bias.shape) * 0.3)
    for path, layer in list(net.named_modules()):
        if isinstance(layer, LocalResponseNorm):
            _replace(net, path, nn.LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.k))
        elif isinstance(layer, nn.Softmax):
            _replace(net, path, nn.Identity())
    return net.eval().requires_grad_(False)


def _layout(name: str) -> nn.Module:
    if name != "resnet50":
        return load_architecture(name).module
    from torchvision.models import resnet50

    net: nn.Module = resnet50(weights=None)
    return net


def _replace(net: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, child = path.rpartition(".")
    setattr(net.get_submodule(parent), child, layer)


def forward(net: nn.Module, x: torch.Tensor) -> None:
    """The forward pass alone."""
    with torch.no_grad():
        net(x)


def gradient(net: nn.Module, x: torch.Tensor) -> None:
    """The gradient of the best class by the input."""
    x = x.detach().requires_grad_()
    torch.autograd.grad(net(x).max(1).values.sum(), x)


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


def explainer(net: nn.Module, config: str) -> Explainer:
    """An explainer whose z-box knows the range of the random pixels."""
    return Explainer(net, config, pixel_range=(torch.full((1, 3, 1, 1), LOW), torch.full((1, 3, 1, 1), HIGH)))


def profile(net: nn.Module, config: str, x: torch.Tensor, repeats: int) -> None:
    """Prints the milliseconds an image of every layer that takes a hundredth of the whole or more."""
    explain, times = explainer(net, config), {}

    def timed(key: tuple[str, str], function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments)
            times.setdefault(key, []).append(time.perf_counter() - started)
            return result

        return run

    for index, assignment in enumerate(explain.assignments[1:], 1):
        layer, rule = assignment.layer, copy.copy(assignment.rule)
        object.__setattr__(rule, "relevance", timed((layer.name, assignment.rule_name), rule.relevance))
        layer.operation.run = timed((layer.name, "forward"), layer.operation.run)  # type: ignore[method-assign]
        explain.plan.rules[index] = rule
    whole = medians({config: lambda: explain(x)}, repeats)[config]
    click.echo(f"\n{config}, batch {len(x)}: {1000 * whole / len(x):.2f} ms an image")
    for (name, what), values in times.items():
        seconds = statistics.median(values[1:])
        if seconds > whole / 100:
            click.echo(f"    {name:24}{what:16}{1000 * seconds / len(x):8.2f}")


@click.command()
@click.option("--net", "name", type=click.Choice(sorted(SIZES)), default="caffenet", show_default=True)
@click.option("--batch", "batches", type=int, multiple=True, default=(1, 8, 32), show_default=True)
@click.option("--repeats", default=7, show_default=True)
@click.option("--config", "configs", multiple=True, default=CONFIGS, type=click.Choice(builtin_names()))
@click.option("--threads", default=2, show_default=True)
@click.option("--peers", "with_peers", is_flag=True, help="Zennit, Captum and autoLRP too, those that are installed.")
@click.option("--profile", "profiled", is_flag=True, help="The time of every layer in place of the table.")
def main(
    name: str,
    batches: tuple[int, ...],
    repeats: int,
    configs: tuple[str, ...],
    threads: int,
    with_peers: bool,
    profiled: bool,
) -> None:
    """Prints the table of ratios."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    net = random_net(name)
    explainers = {config: explainer(net, config) for config in configs}
    rows: dict[str, list[float]] = {}
    for batch in batches:
        x = torch.empty(batch, 3, SIZES[name], SIZES[name]).uniform_(LOW, HIGH)
        if profiled:
            for config in configs:
                profile(net, config, x, repeats)
            continue
        candidates: dict[str, Callable[[], object]] = {
            "forward + gradient": lambda x=x: gradient(net, x),
            "forward": lambda x=x: forward(net, x),
            **{config: lambda x=x, run=run: run(x) for config, run in explainers.items()},
            **(peers(net, x, LOW, HIGH) if with_peers else {}),
        }
        found = medians(candidates, repeats)
        unit = found["forward + gradient"]
        for candidate, seconds in found.items():
            rows.setdefault(candidate, []).append(seconds / unit)
        click.echo(f"batch {batch}: forward + gradient takes {1000 * unit / batch:.1f} ms an image")
    if profiled:
        return
    click.echo(f"\n{name:32}" + "".join(f"{f'batch {batch}':>11}" for batch in batches))
    for candidate, ratios in rows.items():
        click.echo(f"{candidate:32}" + "".join(f"{ratio:11.2f}" for ratio in ratios))
    click.echo(f"\nLRP-0 without biases, float64: {conservation(net, x[:1]):.12f} of the start relevance arrives.")


if __name__ == "__main__":
    main()
