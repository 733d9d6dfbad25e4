"""Maps by name: python -m benchmarks.maps [--images 100000] [--lookups 1000]

Writes the journal of so many images, as files and in one tar, and prints what `lrpcli.open_maps` takes to open, and to
look up maps at random, each of 227 x 227.
"""

import argparse
import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import lrpcli
from lrpcli.records.packed import Packed, TarName, member_header, member_key
from lrpcli.records.store import npy_bytes
from tests.records.results import begin, describe, explained, start, write

CONTENT = npy_bytes(np.zeros((227, 227), np.float32))
TAR = TarName("1-of-1", 0).name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--lookups", type=int, default=1000)
    options = parser.parse_args()
    looked_up = random.Random(0).sample(range(options.images), options.lookups)
    for storage in (as_files, in_tar):
        with tempfile.TemporaryDirectory() as name:
            output = Path(name)
            describe(output)
            records = storage(output, options.images, set(looked_up))
            write(output, begin(options.images), *(line for one in records for line in (start(one.name), one)))
            measure(storage.__name__, output, looked_up)


def name_of(number: int) -> str:
    return f"n{number % 1000:08}/photo_{number:08}.jpg"


def as_files(output: Path, images: int, written: set[int]) -> list:
    for number in written:
        path = output / f"{name_of(number)}.281.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)
    return [explained(name_of(number)) for number in range(images)]


def in_tar(output: Path, images: int, written: set[int]) -> list:
    """One tar, with holes where nothing is looked up."""
    found = []
    room = -(-(len(CONTENT) + 1024) // 512) * 512
    with (output / TAR).open("wb") as file:
        for number in range(images):
            key = member_key(f"{name_of(number)}.281")
            header = member_header(f"{key}.npy", len(CONTENT))
            place = number * room + len(header)
            if number in written:
                file.seek(number * room)
                file.write(header + CONTENT)
            packed = Packed(TAR, key, {"map": (place, len(CONTENT)), "overlay": (place, 1)})
            record = explained(name_of(number))
            (one,) = record.classes
            found.append(
                replace(record, classes=(replace(one, outputs=replace(one.outputs, packed=packed)),))
            )  # fmt: skip
        file.truncate(images * room)
    return found


def measure(storage: str, output: Path, numbers: list[int]) -> None:
    journal = (output / ".lrp" / "journal-1-of-1.jsonl").stat().st_size
    started = time.process_time()
    maps = lrpcli.open_maps(output)
    opened = time.process_time() - started
    print(f"{storage:9} journal of {journal / 1e6:.0f} MB, opened in {opened:.2f} s of processor time", flush=True)
    for what, keys in (("name", [name_of(number) for number in numbers]),
                       ("path", [str(Path.cwd() / "in" / name_of(number)) for number in numbers])):  # fmt: skip
        times, used = [], time.process_time()
        for key in keys:
            started = time.perf_counter()
            maps[key]
            times.append(time.perf_counter() - started)
        used = (time.process_time() - used) / len(keys)
        middle, slow = np.median(times) * 1e3, np.quantile(times, 0.99) * 1e3
        print(f"  by {what}: median {middle:.3f} ms, 99 of 100 within {slow:.3f} ms; processor {used * 1e3:.3f} ms",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
