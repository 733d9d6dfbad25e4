"""What a GPU makes of the engine, in five minutes: python -m benchmarks.gpu [--out gpu.json] [--minutes 5]

For each precision (float32, TF32, bfloat16), config and batch: images a second, what share of the card's own forward
pass + input gradient that is (plain torch, and compiled), the memory of the batch, and how far the maps are from those
in float64, as a share of the largest value. For the first config also what a CUDA graph and torch.compile make of the
engine's loop. At the end the whole command with decoding, drawing and writing, on JPEG photos made of `--photos`. The
numbers are printed as they come, and written to `--out` with the card's name. What time leaves no room for is named.
Nets have random weights in the layout of `--net`. It works on a processor too (--device cpu), where it is slow.
"""

import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from benchmarks.cli import make_photos
from benchmarks.engine import CONFIGS, HIGH, LOW, SIZES, gradient, random_net
from lrpcli import Explainer
from lrpcli.lrp import explainer as engine
from lrpcli.lrp.propagate import backward, forward

PRECISIONS = ("float32", "tf32", "bfloat16")
BATCHES = (64, 256)
COMPARED = 4
"""Images whose maps are compared with those in float64."""
ENOUGH = 1.0
"""Seconds that a figure is measured for, at least."""


class Clock:
    """The time that is left for everything."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes

    def is_over(self, what: str) -> bool:
        """Whether the time is up; then says what is left out."""
        over = time.monotonic() > self.end
        if over:
            click.echo(f"no time left for {what}")
        return over


class Card:
    """The device that is measured."""

    def __init__(self, where: str) -> None:
        self.device = torch.device(where)
        self.is_gpu = self.device.type == "cuda"

    def describe(self) -> dict[str, Any]:
        """Its name, its memory, and the versions that matter."""
        name = torch.cuda.get_device_name(self.device) if self.is_gpu else platform.processor() or "processor"
        memory = torch.cuda.get_device_properties(self.device).total_memory / 2**30 if self.is_gpu else None
        return {"device": name, "memory_gib": memory, "torch": torch.__version__, "cuda": torch.version.cuda}

    def rate(self, run: Callable[[], object], images: int) -> float:
        """Images a second, the device's queue included, after two rounds that are not timed."""
        for _ in range(2):
            run()
        self.wait()
        rounds, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < ENOUGH or rounds < 2:
            run()
            self.wait()
            rounds += 1
        return rounds * images / passed

    def wait(self) -> None:
        """Until everything in the device's queue is done."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    @contextmanager
    def peak(self, found: dict[str, Any]) -> Iterator[None]:
        """Writes down the largest amount of the device's memory meanwhile, in MiB, beyond what was taken before."""
        if self.is_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
        yield
        if self.is_gpu:
            found["mib"] = round((torch.cuda.max_memory_allocated(self.device) - before) / 2**20)


@contextmanager
def precision(name: str) -> Iterator[torch.dtype]:
    """The dtype of an engine of that precision; TF32 rounds in convolutions and products, which it else forbids."""
    if name != "tf32":
        yield torch.bfloat16 if name == "bfloat16" else torch.float32
        return
    before, matrices = engine.full_precision, torch.get_float32_matmul_precision()
    engine.full_precision = rounded  # type: ignore[assignment]
    torch.set_float32_matmul_precision("high")
    try:
        yield torch.float32
    finally:
        engine.full_precision = before
        torch.set_float32_matmul_precision(matrices)


@contextmanager
def rounded(device: torch.device) -> Iterator[None]:
    """In place of full_precision: torch's own setting, which rounds convolutions on a GPU."""
    yield


def pixels(batch: int, side: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random pixels (N, 3, H, W), the same in each call."""
    random = torch.Generator().manual_seed(0)
    return (torch.rand(batch, 3, side, side, generator=random) * (HIGH - LOW) + LOW).to(device, dtype)


def explainer(net: nn.Module, config: str, device: torch.device, dtype: torch.dtype) -> Explainer:
    """An explainer whose z-box knows the range of the pixels."""
    bounds = (torch.full((1, 3, 1, 1), LOW), torch.full((1, 3, 1, 1), HIGH))
    return Explainer(net, config, device=device, dtype=dtype, pixel_range=bounds, check=False)


def error(net: nn.Module, config: str, card: Card, dtype: torch.dtype, side: int) -> float:
    """The largest difference to the maps in float64, as a share of their largest value, for the same classes."""
    x = pixels(COMPARED, side, card.device, dtype)
    exact = explainer(net, config, card.device, torch.float64)(x.double())
    found = explainer(net, config, card.device, dtype)(x, target=exact.target, strict=False).relevance.double()
    largest = exact.relevance.abs().amax((1, 2, 3), keepdim=True)
    return float(((found - exact.relevance).abs() / largest).max())


def gradients(net: nn.Module, card: Card, name: str, batch: int, side: int) -> dict[str, float | str]:
    """Images a second of the net's own forward pass + input gradient: plain, and compiled or why it cannot be."""
    with precision(name) as dtype, engine.full_precision(card.device):
        mine = net.to(card.device, dtype)
        x = pixels(batch, side, card.device, dtype)
        found: dict[str, float | str] = {"plain": card.rate(lambda: gradient(mine, x), batch)}
        compiled = torch.compile(mine)
        found["compiled"] = tried(lambda: card.rate(lambda: gradient(compiled, x), batch))
    return found


def tried(run: Callable[[], float]) -> float | str:
    """A number, or in one line why there is none."""
    try:
        return run()
    except Exception as problem:  # whatever a compiler or a driver raises
        return f"{type(problem).__name__}: {str(problem).strip().partition(chr(10))[0]:.120}"


def maps(net: nn.Module, card: Card, name: str, config: str, batch: int, side: int) -> dict[str, Any]:
    """Images a second, memory, and the error of the engine by one config."""
    with precision(name) as dtype:
        explain = explainer(net, config, card.device, dtype)
        x = pixels(batch, side, card.device, dtype)
        found: dict[str, Any] = {"precision": name, "config": config, "batch": batch}
        with card.peak(found):
            found["rate"] = card.rate(lambda: explain(x, strict=False), batch)
        found["error"] = error(net, config, card, dtype, side)
    return found


def loops(net: nn.Module, card: Card, name: str, config: str, batch: int, side: int) -> dict[str, float | str]:
    """Images a second of the engine's two loops alone: as they are, compiled, and as a CUDA graph."""
    with precision(name) as dtype, engine.engine_mode(card.device):
        plan = explainer(net, config, card.device, dtype).plan
        x = pixels(batch, side, card.device, dtype)
        start = torch.zeros_like(forward(plan, x).output)
        start[:, 0] = 1

        def loop() -> Tensor:
            return backward(plan, forward(plan, x), start).relevance

        found = {"plain": tried(lambda: card.rate(loop, batch)),
                 "compiled": tried(lambda: card.rate(torch.compile(loop), batch))}  # fmt: skip
        if card.is_gpu:
            found["graph"] = tried(lambda: card.rate(graph_of(loop), batch))
    return found


def graph_of(run: Callable[[], object]) -> Callable[[], None]:
    """A CUDA graph of what it does."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def command(card: Card, photos: list[Path], images: int, words: tuple[str, ...]) -> dict[str, Any]:
    """Images a second of `lrp explain` on JPEG photos of 640 x 480, its start apart."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos(photos, folder / "in", images, 640)

        def seconds(source: Path) -> float:
            started = time.perf_counter()
            subprocess.run([sys.executable, "-m", "lrpcli", "explain", "-q", "--device", str(card.device), *words,
                            str(source), str(folder / "out")], check=True, stdout=subprocess.DEVNULL)  # fmt: skip
            passed = time.perf_counter() - started
            shutil.rmtree(folder / "out")
            return passed

        seconds(folder / "in" / "00000.jpg")  # fetches what the system keeps in memory
        start, whole = seconds(folder / "in" / "00000.jpg"), seconds(folder / "in")
    rate = (images - 1) / (whole - start) if whole > start else None  # of too few images nothing can be told
    return {"options": list(words), "images": images, "start": start, "rate": rate}


def measure(card: Card, name: str, configs: tuple[str, ...], batches: tuple[int, ...], clock: Clock) -> Iterator[Any]:
    """The engine's figures, a dictionary each, most wanted first."""
    net, side = random_net(name), SIZES[name]
    for one in PRECISIONS:
        if clock.is_over(one):
            return
        largest = max(batches)
        units = gradients(random_net(name), card, one, largest, side)
        yield {"precision": one, "batch": largest, "forward + gradient": units}
        yield {"precision": one, "config": configs[0], "batch": largest,
               "loops": loops(net, card, one, configs[0], largest, side)}  # fmt: skip
        best = max(value for value in units.values() if isinstance(value, float))
        for batch in batches:
            for config in configs:
                if clock.is_over(f"{one}, {config}, batch {batch}"):
                    return
                found = maps(net, card, one, config, batch, side)
                yield {**found, "share": found["rate"] / best}


def line(found: dict[str, Any]) -> str:
    """A figure for people."""
    what = " ".join(str(found[key]) for key in ("precision", "config", "batch") if key in found)
    numbers = ", ".join(f"{key} {shown(value)}" for key, value in found.items()
                        if key not in ("precision", "config", "batch"))  # fmt: skip
    return f"{what:40}{numbers}"


def shown(value: Any) -> str:
    """A value of a figure for people."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {shown(inner)}" for key, inner in value.items())
    return (
        f"{value:.3g}"
        if isinstance(value, float) and value < 10
        else f"{value:.0f}"
        if isinstance(value, float)
        else str(value)
    )


@click.command()
@click.option("--net", "name", type=click.Choice(sorted(SIZES)), default="caffenet", show_default=True)
@click.option("--batch", "batches", type=int, multiple=True, default=BATCHES, show_default=True)
@click.option("--config", "configs", multiple=True, default=CONFIGS)
@click.option("--device", "where", default="cuda", show_default=True)
@click.option("--minutes", default=5.0, show_default=True, help="For the engine; the command takes its own time.")
@click.option("--photos", type=click.Path(exists=True, path_type=Path), default=Path("sample_images"))
@click.option("--images", default=4000, show_default=True, help="Photos that the command explains; 0 for none.")
@click.option("--out", type=click.Path(path_type=Path), help="A JSON file for the figures.")
def main(
    name: str, batches: tuple[int, ...], configs: tuple[str, ...], where: str, minutes: float, photos: Path,
    images: int, out: Path | None,
) -> None:  # fmt: skip
    """Prints the figures, and writes them to a file."""
    card = Card(where)
    about = {**card.describe(), "net": name}
    click.echo(about)
    figures: list[Any] = []

    def keep(found: dict[str, Any]) -> None:
        figures.append(found)
        click.echo(line(found))
        if out is not None:
            out.write_text(json.dumps({**about, "figures": figures}, indent=1))

    if images:
        for words in ((), ("--picture-format", "jpeg"), ("--save", "map")):
            keep({"command": command(card, [photos], images, words)})
    for found in measure(card, name, configs, batches, Clock(minutes)):
        keep(found)


if __name__ == "__main__":
    main()
