"""The whole command beside its parts: python -m benchmarks.cli PHOTOS... [--images 1000] [--model caffenet-small]

Makes so many JPEG files from crops of the photos, explains them with `lrp explain` into a folder, and measures in this
process what cannot be avoided: the engine on the same batches, and the processor time of decoding and of drawing and
writing. The least a run can take is the engine plus the rest spread over the processors; the ratio is what the
command, less its start, takes of that: the median of rounds, each with the parts measured on either side. The start is
the time of one photo; beside it, in turns, stands what no command could do without, importing torch and loading the
weights.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the command has it, before numpy is loaded

import torch
from PIL import Image

from lrpcli.images.find import Discovery
from lrpcli.lrp.batch_limit import keep_freed_memory
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from lrpcli.pipeline.explain import Answer
from lrpcli.pipeline.explain_run import prepare_run
from lrpcli.pipeline.settings import ExplainSettings, ModelSettings, PreprocessingSettings, RunSettings

SAMPLE = 64
"""Photos on which the parts are measured."""
STARTS = 5
"""Times that a start is measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--width", type=int, default=640, help="of the photos, in pixels; three quarters as high")
    parser.add_argument("--model", default="caffenet-small")
    parser.add_argument("--prototxt")
    parser.add_argument("--preprocessing")
    parser.add_argument("--config", default=DEFAULT_CONFIG)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photos([Path(path) for path in options.photos], folder / "in", options.images, options.width)
        measure(options, folder)


def make_photos(photos: list[Path], folder: Path, count: int, width: int) -> None:
    """JPEG files (quality 90) of width x 3/4 width: crops of the photos that differ in their place, and mirrored."""
    folder.mkdir()
    sources = [Image.open(source.path).convert("RGB") for source in Discovery([str(path) for path in photos])]
    size = (width, width * 3 // 4)
    for number in range(count):
        photo = sources[number % len(sources)]
        turn = number // len(sources)
        side = (photo.width * 9 // 10, photo.height * 9 // 10)
        left, top = (
            turn * step % (whole - part + 1) for step, whole, part in zip((7, 5), photo.size, side, strict=True)
        )
        crop = photo.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + side[0], top + side[1]))
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if turn % 2 else crop
        crop.save(folder / f"{number:05}.jpg", quality=90)


def measure(options: argparse.Namespace, folder: Path) -> None:
    """Prints milliseconds an image of the parts and of the command."""
    parts = Parts(options, folder)
    starts = [(command(options, folder, one=True), bare_start(options)) for _ in range(STARTS)]
    start, bare = (min(times) for times in zip(*starts, strict=True))
    rounds, before = [], parts.measured()
    for _ in range(options.repeat):
        whole = command(options, folder)
        after = parts.measured()
        rounds.append([*(sum(pair) / 2 for pair in zip(before, after, strict=True)), whole])
        before = after
    cpus = len(os.sched_getaffinity(0))
    engine, decoding, writing, whole = (median(times) for times in zip(*rounds, strict=True))
    leasts = [one[0] + (one[1] + one[2]) / cpus for one in rounds]
    ratios = [(one[-1] - start) / (options.images - 1) / least for one, least in zip(rounds, leasts, strict=True)]
    print(f"{options.images} photos of {options.width} x {options.width * 3 // 4}, {options.model}, {options.config}, "
          f"{cpus} CPUs, {torch.get_num_threads()} threads, batch {parts.stages.batch_size}; medians of "
          f"{options.repeat} rounds")  # fmt: skip
    for what, seconds in (("engine", engine), ("decode and preprocess, one CPU", decoding),
                          ("draw and write, one CPU", writing),
                          ("least: engine + the rest over the CPUs", median(leasts)),
                          ("lrp explain, less its start", (whole - start) / (options.images - 1))):  # fmt: skip
        print(f"{what:44}{1000 * seconds:8.2f} ms an image")
    print(f"{'start: lrp explain of one photo':44}{start:8.2f} s, {start / bare:.2f} of the next line")
    print(f"{'import torch, load the weights':44}{bare:8.2f} s")
    print(f"{'lrp explain of all photos':44}{whole:8.2f} s, {options.images / whole:.0f} images/s")
    print(f"{'ratio to the least':44}{median(ratios):8.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


class Parts:
    """What cannot be avoided, in this process."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        preprocessing = PreprocessingSettings(preset=options.preprocessing)
        model = ModelSettings(options.model, prototxt=options.prototxt, preprocessing=preprocessing)
        (folder / "parts").mkdir()
        self.stages = prepare_run(RunSettings(folder / "parts", model, ExplainSettings(options.config))).stages
        self.work = self.stages.work.sized(self.stages.batch_size)
        self.sources = list(Discovery([str(folder / "in")]))[:SAMPLE]
        self.measured()

    def measured(self) -> tuple[float, float, float]:
        """Seconds an image: of the engine, and of one processor for decoding and for drawing and writing."""
        size, sources = self.stages.batch_size, self.sources
        prepared, decoding = by_processor(lambda: [self.stages.decode(source) for source in sources])
        batches = [prepared[start : start + size] for start in range(0, len(prepared), size)]
        started = perf_counter()
        answers = [answer for batch in batches for answer in self.work(batch)]
        engine = (perf_counter() - started) / len(sources)
        usable = [(item, answer) for item, answer in zip(prepared, answers, strict=True) if isinstance(answer, Answer)]
        _, writing = by_processor(lambda: [self.stages.write(item, answer, 0) for item, answer in usable])
        return engine, decoding, writing


def by_processor(run: Callable[[], list[Any]]) -> tuple[list[Any], float]:
    """What it gives, and processor seconds for each of its results."""
    started = process_time()
    results = run()
    return results, (process_time() - started) / len(results)


def command(options: argparse.Namespace, folder: Path, *, one: bool = False) -> float:
    """Wall seconds of `lrp explain` for one photo or for all."""
    source = folder / "in" / "00000.jpg" if one else folder / "in"
    with tempfile.TemporaryDirectory(dir=folder) as output:
        words = ["explain", "--model", options.model, "--config", options.config, "--quiet", str(source), output]
        if options.prototxt:
            words += ["--prototxt", options.prototxt]
        if options.preprocessing:
            words += ["--preprocessing", options.preprocessing]
        started = perf_counter()
        subprocess.run([sys.executable, "-m", "lrpcli", *words], check=True, stdout=subprocess.DEVNULL)
        return perf_counter() - started


def bare_start(options: argparse.Namespace) -> float:
    """Wall seconds of a process that imports torch and loads the model."""
    words = {"prototxt": options.prototxt, "preprocessing": options.preprocessing}
    given = {name: value for name, value in words.items() if value is not None}
    code = f"import torch, lrpcli; lrpcli.load_model({options.model!r}, **{given!r})"
    started = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return perf_counter() - started


if __name__ == "__main__":
    main()
