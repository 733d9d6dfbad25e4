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
import io
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from PIL import Image

from benchmarks.study_tables import CANDIDATES, FILLS, Net, passing, tables
from training.data import entries, split

STAGES = ("guards", *FILLS, "profile", "boxes")
CONTROLS = ("random", "gradient", "gradient-times-input", "edges")
TILE, TILES_PER_ROW = 32, 50
CIFAR_PER_CLASS = 50
HELD_OUT_PHOTOS = 300
FIRST_IMAGES = 10
"""Images of the first of several runs under a time limit; each later one doubles them at most."""


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


if __name__ == "__main__":
    main()
