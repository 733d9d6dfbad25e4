"""Rounds of SIGKILL at random moments, then a rerun. By hand: python -m tests.resilience.kill_rounds 20"""

import collections
import io
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.photos import folder_of_photos
from tests.resilience.runs import explain, journal, killed, require_whole, started, tree


def rounds(folder, count, images, batch="1", seed=0):
    """Kills `count` runs, each at a random moment, runs once more, and compares with a run that was left alone."""
    source, out = folder_of_photos(folder / "in", images), folder / "out"
    generator, killings = random.Random(seed), 0
    undisturbed = explain(source, folder / "calm", "-b", batch)
    assert undisturbed.returncode == 0, undisturbed.stderr
    for _ in range(count):
        process = started(source, out, "-b", batch)
        if generator.random() < 0.15:
            time.sleep(generator.uniform(0, 2))  # while it still loads, perhaps
        else:
            # So many lines later, so that something is left for the rounds that follow.
            lines = len(lines_so_far(out)) + generator.uniform(1, 1.6 * images / count)
            while len(lines_so_far(out)) < lines and process.poll() is None:
                time.sleep(0.002)
            time.sleep(generator.uniform(0, 0.02))
        killings += process.poll() is None
        killed(process)
    reruns, result = 0, None
    while result is None or (result.returncode == 1 and reruns < 3):  # one that died alone twice is passed over once
        result, reruns = explain(source, out, "-b", batch), reruns + 1
    require_whole(out)
    done = collections.Counter(row["name"] for row in journal(out) if row["type"] == "done" and row["status"] == "ok")
    ours, theirs = tree(out), tree(folder / "calm")
    differing = [name for name in theirs if ours.get(name) != theirs[name]]

    def largest(suffix):
        names = (name for name in differing if name.endswith(suffix))
        return max((difference(ours[name], theirs[name]) for name in names), default=0.0)

    return {
        "killed": killings,
        "reruns": reruns,
        "exit": result.returncode,
        "complete": result.returncode == 0 and ours.keys() == theirs.keys() and len(done) == images,
        "twice": sum(times > 1 for times in done.values()),
        "equal": not differing,
        "differing": len(differing),
        "largest difference of a map": largest(".npy"),
        "of a picture": largest(".png"),
        "files": len(ours),
    }


def lines_so_far(out):
    try:
        return journal(out)
    except FileNotFoundError:
        return []


def difference(one, other):
    """The largest difference of two maps or pictures, as a share of the largest value (255 for pictures)."""
    if one.startswith(b"\x93NUMPY"):
        first, second = (np.load(io.BytesIO(content)).astype(float) for content in (one, other))
        return float(np.abs(first - second).max() / np.abs(second).max())
    first, second = (np.asarray(Image.open(io.BytesIO(content)), float) for content in (one, other))
    return float(np.abs(first - second).max() / 255)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for size in ("1", "16"):
            print("batch", size, rounds(Path(temporary, size), int(sys.argv[1]), 200, size, seed=1), flush=True)
