"""The study behind the default config: guards, then region perturbation with three fills, on four nets.

python -m benchmarks.evaluation_study --shared nets/ --out out/study

Prepares the images, runs one `lrp evaluate` after the other, and writes tables.md with what they found. First every
config is held against the guards that need no perturbation (class and kept). Those that fail fewest of them over all
nets, and a few that are in the paper or were the default, go through region perturbation with noise, blur and ROAD,
each with LRN `taylor` and `identity`, and once through every measure, for a profile. A stopped study goes on where it
was when the same command is given again. `--only` picks nets, `--stage` stages; `--minutes` bounds each evaluation:
images are added until the time is up. `--shards` runs so many processes at once, each with one thread, which on a
machine with as many cores takes less time than one process with as many threads. Run it on a quiet machine.
"""

import argparse
import csv
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lrpcli.evaluation.limits import LARGEST_COSINE, LEAST_KEPT, MOST_WRONG
from lrpcli.evaluation.summary import paired_intervals
from lrpcli.lrp.composites.composite import builtin_names
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from training.data import entries, split

CANDIDATES = tuple(name for name in builtin_names() if not name.startswith(("gradient", "identity")))
REFERENCES = ("epsilon-1", "beta-1", "composite", "epsilon-plus")
"""Go through region perturbation whatever the guards say: from the paper, or the default of earlier versions."""
FILLS = ("noise", "blur", "road")
STAGES = ("guards", *FILLS, "profile", "boxes")
CONTROLS = ("random", "gradient", "gradient-times-input", "edges")
TILE, TILES_PER_ROW = 32, 50
CIFAR_PER_CLASS = 50
HELD_OUT_PHOTOS = 300
FIRST_IMAGES = 10
"""Images of the first of several runs under a time limit; each later one doubles them at most."""

Results = dict[str, Any]


@dataclass(frozen=True)
class Net:
    """A net of the study, the images that it is measured on, and how many of them a stage takes.

    `regions` are options of perturbation for a stage, `references` configs that go through it whatever the guards say;
    `taylor_alone` are the fills with which LRN `identity` is left out.
    """

    name: str
    title: str
    images: str
    model: tuple[str, ...]
    counts: dict[str, int]
    regions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    references: tuple[str, ...] = REFERENCES
    taylor_alone: tuple[str, ...] = ()


def nets(shared: Path) -> list[Net]:
    models = shared / "models"
    cifar_caffe = ("--model", "cifar10-full", "--mean", f"{models}/cifar10_mean.binaryproto",
                   "--weights", f"{models}/cifar10_full_iter_70000_v2format.caffemodel")  # fmt: skip
    googlenet = ("--model", f"{models}/bvlc_googlenet_rebuilt.caffemodel",
                 "--prototxt", f"{models}/bvlc_googlenet_deploy.prototxt",
                 "--labels", f"{models}/synset_words.txt", "--resize", "none", "--mean", "104,117,123")  # fmt: skip
    tiny = {"guards": 500, "noise": 300, "blur": 300, "road": 150, "profile": 150}
    return [
        Net("cifar10", "CIFAR-10, bundled net", "cifar10", ("--model", "cifar10"), tiny),
        Net("cifar10-caffe", "CIFAR-10, net trained with Caffe", "cifar10", cifar_caffe, tiny),
        Net("caffenet-small", "caffenet-small, held-out photos", "held-out", ("--model", "caffenet-small"),
            {"guards": 300, "noise": 150, "blur": 150, "road": 100, "profile": 40},
            regions={"road": ("--region", "16", "--steps", "10")}),  # its systems of equations take long at this size
        # A slow net: three times the region's side takes a tenth of the passes for the same area.
        Net("googlenet", "GoogLeNet, ImageNet photos", "boxes", googlenet,
            {"guards": 150, "noise": 150, "blur": 150, "road": 100, "profile": 30, "boxes": 150},
            regions=dict.fromkeys((*FILLS, "profile"), ("--region", "28", "--steps", "10")),
            references=("composite", "epsilon-plus"), taylor_alone=("road",)),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and models/")
    parser.add_argument("--out", type=Path, default=Path("out/study"))
    parser.add_argument("--only", action="append", help="name of a net; can be given several times")
    parser.add_argument("--stage", action="append", choices=STAGES, help="can be given several times")
    parser.add_argument("--minutes", type=float, help="for each evaluation at most")
    parser.add_argument("--images", type=int, help="for each evaluation at most, to try it out")
    parser.add_argument("--shards", type=int, default=1, help="processes of one thread each; 1: one with all threads")
    options = parser.parse_args()
    every = nets(options.shared)
    for stage in options.stage or STAGES:
        for net in every:
            if stage in net.counts and (not options.only or net.name in options.only):
                images = prepared(net, options)
                output = options.out / f"{net.name}-{stage}"
                words = [*net.model, *stage_options(stage, net, passing(every, options.out), images)]
                count = min(net.counts[stage], options.images or sys.maxsize)
                run(words, images, output, count, options.minutes, options.shards)
    (options.out / "tables.md").write_text("\n".join(tables(every, options.out)))
    print(options.out / "tables.md")


def prepared(net: Net, options: argparse.Namespace) -> Path:
    """The folder of the net's images, made once."""
    folder: Path = options.out / "images" / net.images
    if not (folder / "complete").exists():
        PREPARE[net.images](options.shared / "data", folder)
        (folder / "complete").touch()
    return folder


def stage_options(stage: str, net: Net, passed: list[str], images: Path) -> Iterator[str]:
    """Options of `lrp evaluate` for a stage, the model apart."""
    regions = net.regions.get(stage, ())
    configs = CANDIDATES if stage == "guards" else tuple(dict.fromkeys((*passed, *net.references)))
    for name in configs:
        yield from ("--config", name)
    if stage == "guards":
        yield from ("--measure", "class", "--measure", "kept")
    elif stage == "profile":
        yield from ("--all", *regions)
    elif stage == "boxes":
        yield from ("--measure", "localisation", "--boxes", str(images / "boxes.csv"))
    else:
        yield from ("--measure", "perturbation", "--fill", stage, "--lrn", "taylor", *regions)
        yield from () if stage in net.taylor_alone else ("--lrn", "identity")
        for control in CONTROLS if stage == "noise" and not regions else ("random",):
            yield from ("--control", control)


def run(words: list[str], images: Path, output: Path, count: int, minutes: float | None, shards: int) -> None:
    """One `lrp evaluate`; under a time limit several, each with more images, of which only the new are computed."""
    started, done = perf_counter(), 0
    wanted = count if minutes is None else min(FIRST_IMAGES, count)
    while True:
        command = ["lrp", "evaluate", *words, str(images), "-o", str(output), "--images", str(wanted)]
        print("$", shlex.join(command), flush=True)
        code = evaluate(command[1:], shards)
        if code not in (0, 1):
            sys.exit(code)
        done, used = wanted, perf_counter() - started
        if minutes is None or done >= count:
            return
        affordable = int(done * minutes * 60 / used)
        if affordable <= done * 1.1:
            return
        wanted = min(count, 2 * done, affordable)


def evaluate(words: list[str], shards: int) -> int:
    """`lrp` with these words, in so many processes at once; the largest of their exit codes."""
    command = [sys.executable, "-m", "lrpcli", *words]
    if shards == 1:
        return subprocess.run(command, check=False).returncode
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    every = [subprocess.Popen([*command, "--shard", f"{number}/{shards}"], env=alone)
             for number in range(1, shards + 1)]  # fmt: skip
    return max(process.wait() for process in every)


def prepare_cifar(data: Path, folder: Path) -> None:
    """The first 50 test images of each class."""
    for entry in entries(data / "cifar10_sheets.zip"):
        if entry.path.parts[-2] != "test":
            continue
        with Image.open(io.BytesIO(entry.read())) as sheet:
            for number in range(CIFAR_PER_CLASS):
                left, top = number % TILES_PER_ROW * TILE, number // TILES_PER_ROW * TILE
                path = folder / entry.path.stem / f"{number:04}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                sheet.convert("RGB").crop((left, top, left + TILE, top + TILE)).save(path)


def prepare_held_out(data: Path, folder: Path) -> None:
    """300 photos that training held out, spread evenly over all of them in the order of their classes."""
    kept = [
        entry
        for source in ("imagenette160.zip", "caltech101_160.zip", "everyday160.zip")
        for entry, held_out in split(data / source, ["BACKGROUND_Google"])
        if held_out
    ]
    for number in range(HELD_OUT_PHOTOS):
        entry = kept[number * len(kept) // HELD_OUT_PHOTOS]
        path = folder / entry.folder / entry.path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(entry.read())


def prepare_boxes(data: Path, folder: Path) -> None:
    """The 500 photos with boxes, and boxes.csv."""
    with tarfile.open(data / "imagenette_boxes500.tar") as archive:
        archive.extractall(folder, filter="data")


PREPARE = {"cifar10": prepare_cifar, "held-out": prepare_held_out, "boxes": prepare_boxes}


def read(out: Path, net: Net, stage: str) -> Results | None:
    """results.json of a stage, None where it has not run."""
    path = out / f"{net.name}-{stage}" / "results.json"
    return json.loads(path.read_text()) if path.exists() else None


def mean(method: Results, metric: str) -> float | None:
    found = method["metrics"][metric]
    return None if found is None else found["mean"]


def failed_guards(method: Results) -> list[str]:
    """Those of a method of the guards' stage."""
    cosine, kept, wrong = mean(method, "class_second"), method["quantiles"]["kept"], mean(method, "wrong_sign")
    assert cosine is not None and kept is not None and wrong is not None
    found = [] if cosine < LARGEST_COSINE else ["class"]
    found += [] if kept["median"] > LEAST_KEPT else ["kept"]
    return found + ([] if wrong <= MOST_WRONG else ["wrong sign"])


def passing(every: list[Net], out: Path) -> list[str]:
    """Candidates that fail fewest guards, over the nets whose guards were measured."""
    failed = dict.fromkeys(CANDIDATES, 0)
    for net in every:
        for method in (read(out, net, "guards") or {"methods": []})["methods"]:
            if method["name"] in failed:
                failed[method["name"]] += len(failed_guards(method))
    return [name for name, count in failed.items() if count == min(failed.values())]


def tables(every: list[Net], out: Path) -> Iterator[str]:
    """Markdown: guards, perturbation for each net and fill, the mean ABPC over nets, LRN rules, localisation."""
    yield from guard_table(every, out)
    yield from ranking(every, out)
    yield from default_table(every, out)
    yield from lrn_table(every, out)
    for stage in FILLS:
        for net in every:
            if (results := read(out, net, stage)) is not None:
                yield from perturbation_table(net, stage, results)
    for net in every:
        if (results := read(out, net, "boxes")) is not None:
            yield from localisation_table(net, results)


def guard_table(every: list[Net], out: Path) -> Iterator[str]:
    """Cosine, median kept share and wrong signs of every candidate on every net; what fails a guard is bold."""
    measured = [(net, results) for net in every if (results := read(out, net, "guards")) is not None]
    yield from ("### Guards", "", "Cosine with the second class, median kept share, totals of the wrong sign.", "")
    heads = [f"{net.title}, {results['images']} images" for net, results in measured]
    yield f"| config | {' | '.join(heads)} |"
    yield f"| --- |{' --- |' * len(measured)}"
    rows = [{method["name"]: method for method in results["methods"]} for _, results in measured]
    for name in CANDIDATES:
        cells = [guard_cell(row[name]) if name in row else "-" for row in rows]
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def guard_cell(method: Results) -> str:
    failed = failed_guards(method)
    texts = {
        "class": f"{mean(method, 'class_second'):.2f}",
        "kept": f"{method['quantiles']['kept']['median']:.2f}",
        "wrong sign": f"{mean(method, 'wrong_sign'):.0%}",
    }
    return ", ".join(f"**{text}**" if guard in failed else text for guard, text in texts.items())


def ranking(every: list[Net], out: Path) -> Iterator[str]:
    """Mean ABPC of every method over the nets, where all have it, and where MoRF < random < LeRF does not hold."""
    yield from ("### Mean ABPC over the nets", "", f"| method | {' | '.join(FILLS)} | mean | in order |")
    yield f"| --- |{' --- |' * (len(FILLS) + 2)}"
    found: dict[str, dict[str, list[float]]] = {}
    disordered: dict[str, list[str]] = {}
    for stage in FILLS:
        for net in every:
            results = read(out, net, stage)
            for method in results["methods"] if results else []:
                if (abpc := mean(method, "abpc")) is not None:
                    found.setdefault(method["name"], {}).setdefault(stage, []).append(abpc)
                    if not in_order(results, method):
                        disordered.setdefault(method["name"], []).append(f"{net.name} {stage}")
    means = {name: {fill: sum(values) / len(values) for fill, values in fills.items() if len(values) == len(every)}
             for name, fills in found.items()}  # fmt: skip
    whole = {name: sum(fills.values()) / len(FILLS) for name, fills in means.items() if len(fills) == len(FILLS)}
    for name in sorted(means, key=lambda name: -whole.get(name, 0.0)):
        order = ", ".join(f"not {where}" for where in disordered.get(name, [])) or "yes"
        numbers = " | ".join(number(means[name].get(fill)) for fill in FILLS)
        yield f"| {name} | {numbers} | {number(whole.get(name))} | {order} |"
    yield ""


def default_table(every: list[Net], out: Path) -> Iterator[str]:
    """ABPC of every config with Taylor for each fill, less that of the default in brackets; * where not in order."""
    for stage in FILLS:
        measured = [(net, results) for net in every if (results := read(out, net, stage)) is not None]
        if not measured:
            continue
        yield from (f"### ABPC, {stage}; less the default's [95 %]; * MoRF < random < LeRF does not hold", "")
        heads = [f"{net.title}, {results['images']}" for net, results in measured]
        yield f"| config | {' | '.join(heads)} |"
        yield f"| --- |{' --- |' * len(measured)}"
        scores = [abpc_of(out / f"{net.name}-{stage}" / "results.csv") for net, _ in measured]
        ordered = [{method["name"]: in_order(results, method) for method in results["methods"]}
                   for _, results in measured]  # fmt: skip
        for name in sorted({name for found in scores for name in found}):
            cells = [default_cell(found, name, order[name]) if name in found else "-"
                     for found, order in zip(scores, ordered, strict=True)]  # fmt: skip
            yield f"| {name} | {' | '.join(cells)} |"
        yield ""


def abpc_of(path: Path) -> dict[str, NDArray[np.float64]]:
    """ABPC of each image by method, (N,): configs with Taylor, and controls that have one."""
    found: dict[str, list[float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["lrn"] in ("taylor", "") and row["abpc"]:
                name = f"{row['config']}/{row['lrn']}" if row["lrn"] else row["config"]
                found.setdefault(name, []).append(float(row["abpc"]))
    return {name: np.array(values) for name, values in found.items()}


def default_cell(found: dict[str, NDArray[np.float64]], name: str, ordered: bool) -> str:
    """The mean, and in brackets the difference to the default's with its paired interval."""
    star = "" if ordered else "*"
    default = f"{DEFAULT_CONFIG}/taylor"
    if name == default:
        return f"{found[name].mean():.3f}{star}"
    difference = found[name] - found[default]
    (low,), (high,) = paired_intervals(difference[:, None])
    return f"{found[name].mean():.3f}{star} ({difference.mean():+.3f} [{low:+.3f}, {high:+.3f}])"


def in_order(results: Results, method: Results) -> bool:
    """Whether MoRF < random < LeRF in mean AUC."""
    random = next(mean(other, "auc") for other in results["methods"] if other["name"] == "random")
    morf, lerf = mean(method, "auc"), mean(method, "lerf_auc")
    return morf is not None and lerf is not None and random is not None and morf < random < lerf


def lrn_table(every: list[Net], out: Path) -> Iterator[str]:
    """`identity` less `taylor` in AUC and ABPC for each fill."""
    for metric, better in (("auc", "above 0"), ("abpc", "below 0")):
        for stage in FILLS:
            measured = [(net, results) for net in every if (results := read(out, net, stage)) is not None]
            if not measured:
                continue
            yield from (f"### {metric.upper()}, {stage}: `identity` less `taylor` ({better}: Taylor is better)", "")
            yield f"| config | {' | '.join(net.title for net, _ in measured)} |"
            yield f"| --- |{' --- |' * len(measured)}"
            for config in dict.fromkeys(row["config"] for _, results in measured for row in results["lrn"]):
                rows = [[row for row in results["lrn"] if row["config"] == config] for _, results in measured]
                yield f"| {config} | {' | '.join(interval(row[0][metric]) if row else '-' for row in rows)} |"
            yield ""


def perturbation_table(net: Net, stage: str, results: Results) -> Iterator[str]:
    yield from (f"### {net.title}, {stage}", "", f"{results['images']} images, mean score {results['score']:.3f}.", "")
    yield from (
        "| method | AUC | LeRF AUC | ABPC | ABPC less the first's | MoRF < random < LeRF |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    for method in results["methods"]:
        numbers = " | ".join(number(mean(method, key)) for key in ("auc", "lerf_auc", "abpc"))
        ordered = "-" if method["name"] == "random" else "yes" if in_order(results, method) else "no"
        yield f"| {method['name']} | {numbers} | {interval(method['difference']['abpc'])} | {ordered} |"
    yield ""


def localisation_table(net: Net, results: Results) -> Iterator[str]:
    yield from (f"### {net.title}, localisation", "", f"{results['images_with_boxes']} images with boxes; the boxes "
                f"cover {results['box_area']:.3f} of the image.", "")  # fmt: skip
    yield from ("| method | pointing game | share inside | share less the first's |", "| --- | --- | --- | --- |")
    for method in results["methods"]:
        numbers = " | ".join(number(mean(method, key)) for key in ("pointing", "share"))
        yield f"| {method['name']} | {numbers} | {interval(method['difference']['share'])} |"
    yield ""


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def interval(entry: Results | None) -> str:
    if entry is None or entry["low"] is None:
        return "-"
    return f"{entry['mean']:+.3f} [{entry['low']:+.3f}, {entry['high']:+.3f}]"


if __name__ == "__main__":
    main()
