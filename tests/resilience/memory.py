"""Resident memory of a run over 10,000 small images, after 1,000 and at the end.

By hand: python -m tests.resilience.memory
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tests.resilience.runs import TINY_OPTIONS, command, environment


def resident(pid):
    """Bytes of a process and of all its children, in MB: (its own, theirs)."""
    own = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    theirs = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            theirs += int(Path(f"/proc/{child}/statm").read_text().split()[1]) * resource.getpagesize()
    return own / 2**20, theirs / 2**20


def main(images):
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary, "in")
        generator = np.random.default_rng(0)
        for number in range(images):
            path = source / f"{number // 100:03}" / f"{number:05}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
        line = command("explain", *TINY_OPTIONS, source, temporary + "/out", "--json", "-q")
        began, seen, last = time.monotonic(), {}, None
        with subprocess.Popen(line, stdout=subprocess.PIPE, env=environment()) as running:
            for number, text in enumerate(running.stdout, start=1):
                last = json.loads(text)
                if number in (100, images // 10, images // 2, images):
                    seen[number] = resident(running.pid)
                    print("{} images: {:.1f} MB, its decoders {:.1f} MB".format(number, *seen[number]), flush=True)
        before, after = sum(seen[images // 10]), sum(seen[images])
        print(f"{last['ok']} of {images} explained in {time.monotonic() - began:.0f} s; resident memory grew by "
              f"{100 * (after / before - 1):+.1f} % from image {images // 10} to the end")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
