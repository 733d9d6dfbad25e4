"""How time and memory grow: python -m benchmarks.growth PHOTOS... --out docs/pictures/growth.png

Time and memory of an image over the batch (CaffeNet's layout, `composite`, a process of its own for each batch), and
time of an image over the number of images in one `lrp explain` (`caffenet-small`, JPEG photos of 640 x 480, start
included).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.cli import command, make_photos
from benchmarks.engine import HIGH, LOW, SIZES, explainer, random_net
from lrpcli.lrp.batch_limit import keep_freed_memory

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
COUNTS = (10, 30, 100, 300, 1000, 3000, 10000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one-batch", type=int, help="measure this batch alone")
    parser.add_argument("--images", type=int, default=COUNTS[-1], help="in the largest run")
    options = parser.parse_args()
    if options.one_batch:
        print(json.dumps(one_batch(options.one_batch)))
        return
    batches = []
    for batch in BATCHES:
        run = [sys.executable, "-m", "benchmarks.growth", "--one-batch", str(batch)]
        batches.append(json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout))
        print(f"batch {batch:4}: {batches[-1]['milliseconds']:7.2f} ms an image, {batches[-1]['MiB']:6.0f} MiB")
    counts = [count for count in COUNTS if count <= options.images]
    runs = list(images([Path(photo) for photo in options.photos], counts))
    if options.out:
        plot(batches, counts, runs, options.out)


def one_batch(batch: int) -> dict[str, float]:
    """Median milliseconds an image, and by how much the process grew for the batch."""
    torch.set_num_threads(2)
    keep_freed_memory()
    explain = explainer(random_net("caffenet"), "composite")
    explain(torch.zeros(1, 3, SIZES["caffenet"], SIZES["caffenet"]))
    before = _peak()
    x = torch.empty(batch, 3, SIZES["caffenet"], SIZES["caffenet"]).uniform_(LOW, HIGH)
    times = []
    for _ in range(4 if batch > 32 else 8):
        started = time.perf_counter()
        explain(x)
        times.append(time.perf_counter() - started)
    return {"milliseconds": 1000 * statistics.median(times[1:]) / batch, "MiB": _peak() - before}


def _peak() -> float:
    """MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def images(photos: list[Path], counts: list[int]) -> "list[float]":
    """Seconds of a whole run for each number of images."""
    options = argparse.Namespace(model="caffenet-small", prototxt=None, config="composite")
    found = []
    with tempfile.TemporaryDirectory() as name:
        for count in counts:
            folder = Path(name, str(count))
            folder.mkdir()
            make_photos(photos, folder / "in", count, 640)
            found.append(command(options, folder))
            print(f"{count:6} images: {found[-1]:8.2f} s, {1000 * found[-1] / count:8.2f} ms an image", flush=True)
    return found


def plot(batches: list[dict[str, float]], counts: list[int], runs: list[float], path: Path) -> None:
    """Three panels, logarithmic across."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (first, second, third) = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    first.plot(BATCHES, [item["milliseconds"] for item in batches], marker="o")
    first.set(title="CaffeNet's layout, composite", xlabel="batch", ylabel="ms an image")
    second.plot(BATCHES, [item["MiB"] for item in batches], marker="o")
    second.set(title="memory for the batch", xlabel="batch", ylabel="MiB", yscale="log")
    third.plot(counts, [1000 * seconds / count for seconds, count in zip(runs, counts, strict=True)], marker="o")
    third.set(title="lrp explain, start included", xlabel="images", ylabel="ms an image", yscale="log")
    for panel in (first, second, third):
        panel.set_xscale("log")
        panel.grid(alpha=0.3)
        if panel is not third:
            panel.set_ylim(bottom=0 if panel is first else None)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main()
