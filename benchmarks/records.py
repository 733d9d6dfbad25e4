"""Reading results: python -m benchmarks.records [--images 100000] [--failed 1000]

Writes the journal of so many images, as a run would leave it, and prints processor time and largest memory of
`lrp table` and `lrp status` as processes of their own; beside them those of `lrp --help`, which reads nothing.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.records.results import begin, describe, explained, failed, start, write

STARTER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
"""
COMMANDS = (("--help",), ("table",), ("table", "--failed"), ("status",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--failed", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        output = Path(name)
        describe(output)
        write(output, begin(options.images), *lines(options.images, options.failed))
        journal = (output / ".lrp" / "journal-1-of-1.jsonl").stat().st_size
        print(f"{options.images:,} images, {options.failed:,} of them failed; a journal of {journal / 1e6:.0f} MB")
        for command in COMMANDS:
            words = command if command == ("--help",) else (command[0], name, *command[1:])
            seconds, memory, written = measure(words)
            used = f"{seconds:8.2f} s{memory / 1e6:8.0f} MB of memory{written / 1e6:8.1f} MB printed"
            print(f"lrp {' '.join(command):18}{used}")


def lines(images: int, broken: int) -> list[object]:
    """A start and an end for each image; every so often one that failed."""
    found: list[object] = []
    for number in range(images):
        image = f"n{number % 1000:08}/photo_{number:08}.jpg"
        found += [start(image), failed(image) if number * broken % images < broken else explained(image)]
    return found


def measure(words: tuple[str, ...]) -> tuple[float, int, int]:
    """Processor seconds, the largest resident memory in bytes, and bytes on standard output.

    A small process starts the command, as the memory of the one that starts it counts too.
    """
    line = [sys.executable, "-S", "-c", STARTER, sys.executable, "-m", "lrpcli", *words]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None and running.stderr is not None
        written = 0
        while piece := running.stdout.read(1 << 20):
            written += len(piece)
        seconds, kilobytes = running.stderr.read().split()[-2:]
    return float(seconds), int(kilobytes) * 1024, written


if __name__ == "__main__":
    main()
