"""The study of docs/evaluation.md: every config with LRN `taylor` and `identity` on four nets, by `lrp evaluate`.

python -m benchmarks.evaluation_study --shared ../shared --out out/evaluation

Prepares the images, runs one `lrp evaluate` after the other, and writes tables.md with what they found. A stopped study
goes on where it was when the same command is given again. `--only` picks studies by name; `--minutes` bounds each
of them: images are added until the time is up. Run it on a quiet machine.
"""

import argparse
import io
import json
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from PIL import Image

from training.data import entries, split

CONFIGS = ("epsilon", "epsilon-1", "beta-1", "beta-0", "composite", "epsilon-plus", "epsilon-alpha2-beta1",
           "epsilon-gamma-box")  # fmt: skip
RULES = ("--lrn", "taylor", "--lrn", "identity")
CONTROLS = ("--control", "random", "--control", "gradient", "--control", "gradient-times-input")
TILE, TILES_PER_ROW = 32, 50
CIFAR_PER_CLASS = 50
HELD_OUT_PHOTOS = 300
FIRST_IMAGES = 10
"""Images of the first of several runs under a time limit; each later one doubles them at most."""


@dataclass(frozen=True)
class Study:
    """One evaluation: what to evaluate on which images, and for how many minutes at most (None: all images)."""

    name: str
    title: str
    images: str
    model: tuple[str, ...]
    options: tuple[str, ...]
    minutes: float | None = None


def studies(shared: Path) -> list[Study]:
    models, configs = shared / "models", tuple(part for name in CONFIGS for part in ("--config", name))
    cifar_caffe = ("--model", "cifar10-full", "--mean", f"{models}/cifar10_mean.binaryproto",
                   "--weights", f"{models}/cifar10_full_iter_70000_v2format.caffemodel")  # fmt: skip
    googlenet = ("--model", f"{models}/bvlc_googlenet_rebuilt.caffemodel",
                 "--prototxt", f"{models}/bvlc_googlenet_deploy.prototxt",
                 "--labels", f"{models}/synset_words.txt", "--resize", "none", "--mean", "104,117,123")  # fmt: skip
    everything = (*configs, *RULES, *CONTROLS)
    return [
        Study("cifar10", "CIFAR-10, bundled net", "cifar10", ("--model", "cifar10"), everything),
        Study("cifar10-caffe", "CIFAR-10, net trained with Caffe", "cifar10", cifar_caffe, everything),
        Study("caffenet-small", "caffenet-small, held-out photos", "held-out", ("--model", "caffenet-small"),
              everything),
        # The perturbed images of one photo take half a minute on a processor.
        Study("googlenet", "GoogLeNet, ImageNet photos", "boxes", googlenet, everything, 120),
        Study("googlenet-boxes", "GoogLeNet, localisation", "boxes", googlenet,
              (*configs, *RULES, "--control", "gradient", "--control", "gradient-times-input", "--order", "morf",
               "--steps", "1", "--boxes", "boxes.csv")),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and models/")
    parser.add_argument("--out", type=Path, default=Path("out/evaluation"))
    parser.add_argument("--only", action="append", help="name of a study; can be given several times")
    parser.add_argument("--minutes", type=float, help="for each study, in place of its own limit")
    parser.add_argument("--images", type=int, help="for each study at most, to try it out")
    options = parser.parse_args()
    chosen = [study for study in studies(options.shared) if not options.only or study.name in options.only]
    for study in chosen:
        folder = options.out / "images" / study.images
        if not (folder / "complete").exists():
            PREPARE[study.images](options.shared / "data", folder)
            (folder / "complete").touch()
        minutes = study.minutes if options.minutes is None else options.minutes
        run(study, folder, options.out / study.name, minutes, options.images)
    found = [(study, options.out / study.name / "results.json") for study in studies(options.shared)]
    read = [(study, json.loads(path.read_text())) for study, path in found if path.exists()]
    (options.out / "tables.md").write_text("\n".join(tables(read)))
    print(options.out / "tables.md")


def run(study: Study, images: Path, output: Path, minutes: float | None, limit: int | None) -> None:
    """One `lrp evaluate`; under a time limit several, each with more images, of which only the new are computed."""
    total = sum(path.suffix != "" and path.name != "boxes.csv" for path in images.rglob("*") if path.is_file())
    total = min(total, limit or total)
    words = [str(images / word) if word == "boxes.csv" else word for word in (*study.model, *study.options)]
    started, done = perf_counter(), 0
    count = total if minutes is None else min(FIRST_IMAGES, total)
    while True:
        command = ["lrp", "evaluate", *words, str(images), "-o", str(output), "--images", str(count)]
        print("$", shlex.join(command), flush=True)
        code = subprocess.run([sys.executable, "-m", "lrpcli", *command[1:]], check=False).returncode
        if code not in (0, 1):
            sys.exit(code)
        done, used = count, perf_counter() - started
        if minutes is None or done >= total:
            return
        affordable = int(done * minutes * 60 / used)
        if affordable <= done * 1.1:
            return
        count = min(total, 2 * done, affordable)


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
        for source in ("imagenette160.zip", "caltech101_160.zip")
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


def tables(read: list[tuple[Study, dict[str, Any]]]) -> Iterator[str]:
    """Markdown: a table per study, then LRN rules compared, then the places of configs over all studies."""
    for study, results in read:
        localised = study.name == "googlenet-boxes"
        yield from (localisation_table if localised else perturbation_table)(study, results)
    measured = [(study, results) for study, results in read if study.name != "googlenet-boxes"]
    yield from taylor_table(measured)
    yield from rank_table(measured, "auc", "Place by AUC", lower_is_better=True)
    yield from rank_table(measured, "abpc", "Place by ABPC", lower_is_better=False)


def perturbation_table(study: Study, results: dict[str, Any]) -> Iterator[str]:
    yield from (f"### {study.title}", "", f"{results['images']} images, mean score {results['score']:.3f}.", "")
    yield from (
        "| method | AUC | AOPC | LeRF AUC | ABPC | AUC less the first's | MoRF < random < LeRF |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    )
    (random,) = (method["metrics"]["auc"]["mean"] for method in results["methods"] if method["name"] == "random")
    for method in results["methods"]:
        metrics = method["metrics"]
        numbers = " | ".join(_mean(metrics[key]) for key in ("auc", "aopc", "lerf_auc", "abpc"))
        ordered = "yes" if metrics["auc"]["mean"] < random < metrics["lerf_auc"]["mean"] else "no"
        ordered = "-" if method["name"] == "random" else ordered
        yield f"| {method['name']} | {numbers} | {_interval(method['difference']['auc'])} | {ordered} |"
    yield ""


def localisation_table(study: Study, results: dict[str, Any]) -> Iterator[str]:
    yield from (f"### {study.title}", "", f"{results['images_with_boxes']} images with boxes; the boxes cover "
                f"{results['box_area']:.3f} of the image.", "")  # fmt: skip
    yield from ("| method | pointing game | share inside | share less the first's |", "| --- | --- | --- | --- |")
    for method in results["methods"]:
        numbers = " | ".join(_mean(method["metrics"][key]) for key in ("pointing", "share"))
        yield f"| {method['name']} | {numbers} | {_interval(method['difference']['share'])} |"
    yield ""


def taylor_table(measured: list[tuple[Study, dict[str, Any]]]) -> Iterator[str]:
    """AUC with `identity` less AUC with `taylor`: above 0 where Taylor is better."""
    yield from ("### AUC with `identity` less AUC with `taylor` (above 0: Taylor is better)", "")
    yield f"| config | {' | '.join(study.title for study, _ in measured)} |"
    yield f"| --- |{' --- |' * len(measured)}"
    for config in CONFIGS:
        rows = [[row for row in results["lrn"] if row["config"] == config] for _, results in measured]
        yield f"| {config} | {' | '.join(_interval(row[0]['auc']) if row else '-' for row in rows)} |"
    yield ""


def rank_table(
    measured: list[tuple[Study, dict[str, Any]]], metric: str, title: str, *, lower_is_better: bool
) -> Iterator[str]:
    """Places of the configs by a metric within each study, and the mean place."""
    yield from (f"### {title}", "", f"| method | {' | '.join(study.title for study, _ in measured)} | mean |")
    yield f"| --- |{' --- |' * (len(measured) + 1)}"
    places: dict[str, list[int]] = {}
    for _, results in measured:
        known = [method for method in results["methods"] if not method["control"]]
        known.sort(key=lambda method: method["metrics"][metric]["mean"], reverse=not lower_is_better)
        for place, method in enumerate(known, 1):
            places.setdefault(method["name"], []).append(place)
    for name, found in sorted(places.items(), key=lambda item: sum(item[1]) / len(item[1])):
        yield f"| {name} | {' | '.join(map(str, found))} | {sum(found) / len(found):.1f} |"
    yield ""


def _mean(entry: dict[str, float] | None) -> str:
    return "-" if entry is None else f"{entry['mean']:.3f}"


def _interval(entry: dict[str, float] | None) -> str:
    if entry is None or entry["low"] is None:
        return "-"
    return f"{entry['mean']:+.4f} [{entry['low']:+.4f}, {entry['high']:+.4f}]"


if __name__ == "__main__":
    main()
