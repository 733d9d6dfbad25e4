"""Maps per second on a GPU: python -m benchmarks.gpu [--net googlenet] [--batch 64] [--device cuda]

Prints, per config and batch, images a second, the peak of the card's memory, and the arithmetic rate of the forward
pass's multiplications alone as a share of what the card reaches in one large float32 matrix product in the same run.
Works on any device that torch knows; it has not been run on a GPU yet, and no figure of one is claimed anywhere.
"""

import time
from collections.abc import Callable
from functools import partial

import click
import torch
from torch import nn

from benchmarks.engine import CONFIGS, HIGH, LOW, SIZES, random_net
from lrpcli import Explainer

SIDE = 8192
"""Of the square matrices whose product says what the card can do; smaller on a processor."""


def seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Mean seconds of a run, the device's queue included, after two untimed ones."""
    for _ in range(2):
        run()
    _wait(device)
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    _wait(device)
    return (time.perf_counter() - started) / repeats


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def multiplications(net: nn.Module, x: torch.Tensor) -> float:
    """Multiply-adds of one image's forward pass in convolutions and fully connected layers."""
    total = 0.0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += layer.weight[0].numel() * output[0].numel()  # type: ignore[index, operator]

    layers = [layer for layer in net.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        net(x[:1])
    for hook in hooks:
        hook.remove()
    return total


@click.command()
@click.option("--net", "name", type=click.Choice(sorted(SIZES)), default="caffenet", show_default=True)
@click.option("--batch", "batches", type=int, multiple=True, default=(1, 16, 64, 256), show_default=True)
@click.option("--config", "configs", multiple=True, default=CONFIGS)
@click.option("--repeats", default=10, show_default=True)
@click.option("--device", "where", default="cuda", show_default=True)
def main(name: str, batches: tuple[int, ...], configs: tuple[str, ...], repeats: int, where: str) -> None:
    """Prints a line per config and batch."""
    device = torch.device(where)
    net = random_net(name)
    side = SIDE if device.type == "cuda" else SIDE // 8
    matrix = torch.randn(side, side, device=device)
    torch.backends.cuda.matmul.allow_tf32 = False
    best = side**3 / seconds(lambda: matrix @ matrix, device, repeats)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    click.echo(f"{card}: {best / 1e12:.2f} T multiply-adds/s in a float32 matrix product of {side} x {side}")
    bounds = (torch.full((1, 3, 1, 1), LOW), torch.full((1, 3, 1, 1), HIGH))
    for config in configs:
        explain = Explainer(net, config, device=device, pixel_range=bounds)
        for batch in batches:
            x = torch.empty(batch, 3, SIZES[name], SIZES[name], device=device).uniform_(LOW, HIGH)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            rate = batch / seconds(partial(explain, x), device, repeats)
            memory = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else float("nan")
            share = rate * multiplications(net, x.cpu()) / best
            click.echo(f"{config:24}batch {batch:4}{rate:10.1f} images/s{memory:10.0f} MiB{share:8.1%} of the product")


if __name__ == "__main__":
    main()
