"""A hundred million images: python -m benchmarks.scale [--photos FOLDER] [--model NAME] [--images 64] [--out FILE]

Measures what one image costs, in processor time (user + system, of this process alone): decoding, the engine, encoding,
writing, the journal. Makes of it a model of a run of 10^8 images, and simulates nodes that are slow and nodes that
fail, for shards that are fixed and for rows that whoever is free takes. Writes JSON; `--show FILE` prints the tables of
docs/scale.md from it and measures nothing, `--figure FILE` draws the curves.
"""

import argparse
import dataclasses
import heapq
import io
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypedDict, TypeVar

from lrpcli.lrp.composites.default import DEFAULT_CONFIG

T = TypeVar("T")

IMAGES = 100_000_000
STAGES = ("decode", "engine", "encode", "write", "journal")
DAY = 86_400.0


class Costs(TypedDict):
    """Seconds of processor time an image by stage, bytes of an image, and of what; `load` are seconds for the net."""

    machine: str
    model: str
    config: str
    images: int
    batch: int
    seconds: dict[str, float]
    bytes_read: float
    bytes_written: dict[str, float]
    journal_bytes: float
    load: float


@dataclasses.dataclass(frozen=True)
class Node:
    """A kind of machine: `cores` do what processors do; `cards` explain so many images a second each, 0 for none."""

    name: str
    cores: int
    cards: int = 0
    card_rate: float = 0.0


@dataclasses.dataclass(frozen=True)
class Shared:
    """What all nodes share: bytes a second read and written, and files made or renamed a second. Assumptions."""

    read: float = 5e9
    written: float = 2e9
    changes: float = 20_000.0


NODES = (
    Node("CPU, 64 cores", 64),
    Node("GPU, 1 card, 16 cores", 16, 1, 2500.0),
    Node("GPU, 8 cards, 96 cores", 96, 8, 2500.0),
)
"""2,500 images a second of a card are a goal and no measurement."""
SHARED = Shared()
CHANGES = 4
"""Of an image in two files: each is made and renamed."""


def measure(photos: Path, model: str, config: str, images: int, batch: int) -> Costs:
    """Runs the stages one after the other, each over all images."""
    from lrpcli.images.find import Discovery
    from lrpcli.pipeline.explain_run import prepare_run
    from lrpcli.pipeline.kinds import KINDS
    from lrpcli.pipeline.settings import ExplainSettings, ModelSettings, RunSettings
    from lrpcli.records.resume import Resume
    from lrpcli.records.store import write_whole

    found = list(Discovery([str(photos)]))
    sources = [
        dataclasses.replace(found[number % len(found)], name=f"{number}/{found[number % len(found)].name}")
        for number in range(images)
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = RunSettings(folder, ModelSettings(model), ExplainSettings(config), batch_size=batch)
        began = time.process_time()
        run = prepare_run(settings)
        stages = run.stages.fitted(batch)
        load = time.process_time() - began
        prepared, decode = timed(lambda: [stages.decode(source) for source in sources])
        stages.work(prepared[:batch])
        batches = [prepared[start : start + batch] for start in range(0, images, batch)]
        answers, engine = timed(lambda: [answer for one in batches for answer in stages.work(one)])
        records, whole = timed(
            lambda: [stages.write(item, answer, 0.0) for item, answer in zip(prepared, answers, strict=True)]
        )
        contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        _, write = timed(lambda: [write_whole(path, content, "0", folder) for path, content in contents.items()])
        with Resume(folder, run.files, run.kind, run.description.fingerprint, "1-of-1") as resume:

            def journal() -> None:
                for source, record in zip(sources, records, strict=True):
                    resume.take(source.path, source.name)
                    resume.begin(source.name)
                    resume.end(record)

            _, lines = timed(journal)
        size = (folder / ".lrp" / "journal-1-of-1.jsonl").stat().st_size
    kinds = {kind: KINDS[kind].ending(settings.output.picture_format) for kind in settings.output.save}
    seconds = {"decode": decode, "engine": engine, "encode": max(whole - write, 0.0), "write": write, "journal": lines}
    return {
        "machine": machine(),
        "model": model,
        "config": config,
        "images": images,
        "batch": batch,
        "seconds": {stage: spent / images for stage, spent in seconds.items()},
        "bytes_read": sum(Path(source.path).stat().st_size for source in sources) / images,
        "bytes_written": {
            kind: sum(len(content) for path, content in contents.items() if path.name.endswith(ending)) / images
            for kind, ending in kinds.items()
        },
        "journal_bytes": size / images,
        "load": load,
    }


def timed(function: Callable[[], T]) -> tuple[T, float]:
    """What a function gives, and the processor time that this process spent on it, in all threads."""
    began = time.process_time()
    return function(), time.process_time() - began


def machine() -> str:
    """The processor, by what Linux says."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} x {names[0]}" if names else "unknown"


class Rate(TypedDict):
    """Images a second of a node, by what limits it, and how many nodes saturate what they share."""

    node: str
    limits: dict[str, float]
    first: str
    rate: float
    days: dict[str, float]
    saturates: dict[str, float]


def rate_of(node: Node, costs: Costs, shared: Shared = SHARED) -> Rate:
    """The rate is that of what is slowest; the nodes that a shared thing bears are its capacity over a node's use."""
    seconds = dict(costs["seconds"])
    engine = seconds.pop("engine")
    processors = sum(seconds.values()) + (0.0 if node.cards else engine)
    limits = {"processors": node.cores / processors}
    if node.cards:
        limits["cards"] = node.cards * node.card_rate
    first = min(limits, key=limits.__getitem__)
    rate = limits[first]
    written = sum(costs["bytes_written"].values()) + costs["journal_bytes"]
    uses = {
        "reading": (costs["bytes_read"] * rate, shared.read),
        "writing": (written * rate, shared.written),
        "files made and renamed": (CHANGES * rate, shared.changes),
    }
    days = {str(count): IMAGES / rate / count / DAY for count in (1, 8, 64)}
    return {
        "node": node.name, "limits": limits, "first": first, "rate": rate, "days": days,
        "saturates": {name: capacity / used for name, (used, capacity) in uses.items()},
    }  # fmt: skip


class Simulated(TypedDict):
    """A run of all images: hours of an ideal one, and by how much longer it takes with shards and with rows."""

    workers: int
    slow: float
    mtbf_hours: float
    ideal_hours: float
    shards: float
    rows: float
    lost: float


def simulate(rate: float, workers: int, slow: float, mtbf: float, load: float, seed: int = 0) -> Simulated:
    """`slow` of the workers have a fifth of the speed; each dies every `mtbf` seconds on average, and comes back.

    With shards, each worker does an equal part; with rows, whoever is free takes the next. A death costs the batches
    that were under way (48 images at most), and the time until the net is loaded again and a minute for the node.
    """
    from lrpcli.pipeline.row import Rows
    from lrpcli.pipeline.shard import WHOLE

    generator = random.Random(f"{slow} {seed}")
    speeds = [rate * (0.2 if generator.random() < slow else generator.lognormvariate(0, 0.05)) for _ in range(workers)]
    lost = [0.0]

    def spent(images: float, speed: float) -> float:
        """Seconds for so many images on a worker that dies now and then; a death finds half of what is under way."""
        seconds, left = 0.0, images / speed
        while mtbf and (until := generator.expovariate(1 / mtbf)) < left:
            again = min(48 / speed, until)
            lost[0] += again * speed
            seconds += until + load + 60.0
            left -= until - again
        return seconds + left

    shards = max(spent(IMAGES / workers, speed) for speed in speeds)
    free = [(0.0, number) for number in range(workers)]
    rows = Rows.of(WHOLE, IMAGES, 16, workers)
    ended = 0.0
    for place in range(rows.count):
        now, number = heapq.heappop(free)
        now += spent(min(rows.size, IMAGES - place * rows.size), speeds[number])
        ended = max(ended, now)
        heapq.heappush(free, (now, number))
    ideal = IMAGES / sum(speeds)
    return {
        "workers": workers, "slow": slow, "mtbf_hours": mtbf / 3600, "ideal_hours": ideal / 3600,
        "shards": shards / ideal, "rows": ended / ideal, "lost": lost[0] / 2 / IMAGES,
    }  # fmt: skip


WORKERS = 128
"""Of four cores each, as many as eight nodes hold."""


def simulations(costs: Costs) -> list[Simulated]:
    """A table of slow and of dying workers."""
    rate = 4 / sum(costs["seconds"].values())
    return [
        simulate(rate, WORKERS, slow, hours * 3600.0, costs["load"])
        for slow in (0.0, 0.05, 0.2)
        for hours in (0.0, 24.0, 2.0)
    ]


def tables(measured: dict[str, object]) -> str:
    """The tables of docs/scale.md."""
    costs: Costs = measured["costs"]  # type: ignore[assignment]
    rates: list[Rate] = measured["rates"]  # type: ignore[assignment]
    runs: list[Simulated] = measured["simulated"]  # type: ignore[assignment]
    out = io.StringIO()
    say = lambda text="": print(text, file=out)  # noqa: E731
    say(f"{costs['model']}, `{costs['config']}`, batches of {costs['batch']}, {costs['images']} photos of "
        f"{costs['bytes_read'] / 1e3:.0f} kB; {costs['machine']}.")  # fmt: skip
    say("\n| stage | processor time an image | 10^8 images |\n| --- | --- | --- |")
    total = sum(costs["seconds"].values())
    for stage, seconds in [*costs["seconds"].items(), ("together", total)]:
        say(f"| {stage} | {seconds * 1e3:.2f} ms | {seconds * IMAGES / 3600:,.0f} core hours |")
    say("\n| what | an image | 10^8 images |\n| --- | --- | --- |")
    sizes = {**costs["bytes_written"], "journal": costs["journal_bytes"]}
    for name, size in [*sizes.items(), ("together", sum(sizes.values())), ("read", costs["bytes_read"])]:
        say(f"| {name} | {size / 1e3:.1f} kB | {size * IMAGES / 1e12:.2f} TB |")
    say("\n| node | images/s | limited by | hours on 1, 8, 64 nodes | nodes until reading, writing, files are full |")
    say("| --- | --- | --- | --- | --- |")
    for row in rates:
        hours = ", ".join(f"{24 * value:.1f}" for value in row["days"].values())
        full = ", ".join(f"{value:.1f}" for value in row["saturates"].values())
        say(f"| {row['node']} | {row['rate']:,.0f} | {row['first']} | {hours} | {full} |")
    say("\n| slow workers | a worker dies every | ideal | fixed shards | rows | work done twice |")
    say("| --- | --- | --- | --- | --- | --- |")
    for run in runs:
        dies = f"{run['mtbf_hours']:g} h" if run["mtbf_hours"] else "never"
        say(f"| {run['slow']:.0%} | {dies} | {run['ideal_hours']:.1f} h | {run['shards']:.2f} | {run['rows']:.3f} | "
            f"{run['lost']:.4%} |")  # fmt: skip
    return out.getvalue().rstrip()


def draw(measured: dict[str, object], path: Path) -> None:
    """How much longer than ideal a run takes, over the share of slow workers, for shards and rows."""
    from lrpcli.pictures.figure import own_style

    costs: Costs = measured["costs"]  # type: ignore[assignment]
    rate, shares = 4 / sum(costs["seconds"].values()), [0.0, 0.005, 0.02, 0.05, 0.1, 0.2]
    with own_style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for hours, style in ((0.0, "-"), (24.0, "--"), (2.0, ":")):
            runs = [simulate(rate, WORKERS, slow, hours * 3600.0, costs["load"]) for slow in shares]
            dies = f"a worker dies every {hours:g} h" if hours else "no worker dies"
            for kind, colour in (("shards", "#b2182b"), ("rows", "#2166ac")):
                values = [run[kind] for run in runs]  # type: ignore[literal-required]
                axes.plot([100 * share for share in shares], values, style, color=colour, label=f"{kind}, {dies}")
        axes.set(xlabel="workers with a fifth of the speed, %", ylabel="time / ideal time", ylim=(0.9, None))
        axes.legend(frameon=False)
        figure.savefig(path, dpi=100)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=Path(__file__).parent.parent / "sample_images")
    parser.add_argument("--model", default="caffenet-small")
    parser.add_argument("--config", default=DEFAULT_CONFIG)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--out", type=Path, help="where the JSON goes; standard output without it")
    parser.add_argument("--costs", type=Path, help="simulate anew with the costs of this JSON, and measure nothing")
    parser.add_argument("--show", type=Path, help="print the tables of this JSON")
    parser.add_argument("--figure", type=Path, help="draw the curves of --show, or of what was measured")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.show is not None:
        measured = json.loads(options.show.read_text())
    else:
        if options.costs is not None:
            costs = json.loads(options.costs.read_text())["costs"]
        else:
            costs = measure(options.photos, options.model, options.config, options.images, options.batch)
        measured = {"costs": costs, "rates": [rate_of(node, costs) for node in NODES], "simulated": simulations(costs)}
        text = json.dumps(measured, indent=1) + "\n"
        options.out.write_text(text) if options.out is not None else print(text, end="")
    if options.show is not None:
        print(tables(measured))
    if options.figure is not None:
        draw(measured, options.figure)


if __name__ == "__main__":
    main()
