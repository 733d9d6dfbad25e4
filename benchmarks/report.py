"""What a report of many images costs: python -m benchmarks.report [--images N] [--side PIXELS] [--folder DIR]

Records of N images (10,000) are written without a net; of their pictures and photos, which have 512 x 384 pixels unless
--side says otherwise (0: there are none), a few are linked again and again. Printed are time and memory of the first
and of the second report, the weight of the page, and, where there is a Chromium and playwright, its nodes, the time to
the first picture and that of a search.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.report.browser import Viewer, chromium
from tests.report.results import Results

KINDS = 8
CLASSES = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--folder", type=Path, help="where to write, and to find again what was written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.folder or Path(temporary)
        if not (place / "out").exists():
            write(place, options.images, options.side)
        for which in ("first", "second"):
            seconds, peak = report(place / "out")
            print(f"{which} report: {seconds:.1f} s, {peak:.0f} MiB", flush=True)
        page = place / "out" / "index.html"
        print(f"page: {page.stat().st_size / 1e6:.2f} MB")
        look(page)


def write(place: Path, images: int, side: int) -> None:
    """Names, labels, scores and kept shares are as different as those of photos from the web."""
    random = np.random.default_rng(0)
    place.mkdir(parents=True, exist_ok=True)
    sources = [place / f"source-{number}.jpg" for number in range(KINDS)]
    for source in sources if side else []:
        small = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        small.resize((side, side * 3 // 4), Image.Resampling.BICUBIC).save(source)
        Image.open(source).save(source.with_suffix(".png"))
    labels = ["".join(map(chr, random.integers(97, 123, 9))) for _ in range(CLASSES)]
    photos = place / "photos" if side else None
    results = Results(place / "out", photos, save=["overlay"] if side else [])
    results.begin(images)

    def link(paths: dict[str, str], number: int) -> None:
        linked(results.output / paths["overlay"], sources[number % KINDS].with_suffix(".png"))

    with results.held():
        for number in range(images):
            name = f"n{number % CLASSES:08}/{random.integers(2**40):012x}.jpg"
            if photos:
                linked(photos / name, sources[number % KINDS])
            score, kept = round(float(random.random()), 6), round(float(random.random()), 6)
            results.add(
                name,
                label=labels[number % CLASSES],
                target=number % CLASSES,
                score=score,
                kept=kept,
                files=link if side else False,
            )


def linked(path: Path, source: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.hardlink_to(source)


def report(output: Path) -> tuple[float, float]:
    """Seconds, and MiB of the largest process."""
    started = time.perf_counter()
    code = (
        f"import resource, sys; from lrpcli.cli import main\ntry: main(['report', '-q', {str(output)!r}])\n"
        "except SystemExit: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return time.perf_counter() - started, int(done.stdout.split()[-1]) / 1024


def look(page: Path) -> None:
    with chromium() as browser:
        for attempt in range(3):
            viewer = Viewer(browser, page)
            ready = viewer.value("performance.now()")
            viewer.wait("window.firstPicture || !document.querySelector('#list img')")
            first = viewer.value("window.firstPicture ?? NaN")
            searched = timed(lambda: viewer.page.fill("#q", f"{attempt}a"))  # noqa: B023
            ordered = timed(lambda: viewer.page.select_option("#sort", "score"))  # noqa: B023
            print(
                f"first picture after {first:.0f} ms, ready within {ready:.0f} ms, {viewer.nodes} nodes, "
                f"search {1000 * searched:.0f} ms, sorting {1000 * ordered:.0f} ms", flush=True,
            )  # fmt: skip
            viewer.context.close()


def timed(act: Callable[[], object]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
