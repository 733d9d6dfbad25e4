"""Held-out photos as class folders, and the accuracy of what `lrp` itself says of them.

    python -m training.held_out photos held-out/ --data imagenette160.zip --data caltech101_160.zip
    lrp explain --model caffenet-small --save none --json held-out/ out/ | python -m training.held_out score

The photos are copied as they are; a folder bears the readable name of its class. `score` reads the lines of --json and
counts a photo as right if the first label is the name of its folder.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath

from training.data import split
from training.labels import readable


def write_photos(sources: Iterable[Path], folder: Path, skip: Iterable[str]) -> int:
    """Writes the held-out photos of the sources as folder/source/class/name; returns how many."""
    count = 0
    for source in sources:
        for entry, held_out in split(source, skip):
            if held_out:
                target = folder / source.stem / readable(entry.folder) / entry.path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(entry.read())
                count += 1
    return count


def score(lines: Iterable[str], classes: Iterable[str] = ()) -> dict[str, tuple[int, int]]:
    """Right and all photos of each source, each of `classes` and all, from the lines of `lrp explain --json`."""
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for row in map(json.loads, lines):
        if row["type"] != "image" or row["status"] == "failed":
            continue
        path = PurePath(row["input"])
        folder = path.parent.name
        for name in (path.parts[-3], "all", *(name for name in classes if name == folder)):
            total[name] += 1
            right[name] += row["label"] == folder
    return {name: (right[name], total[name]) for name in total}


def main(arguments: list[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    photos = commands.add_parser("photos", help="write the held-out photos as class folders")
    photos.add_argument("folder", type=Path)
    photos.add_argument("--data", type=Path, action="append", required=True, help="folder or zip file of photos")
    photos.add_argument("--skip", action="append", default=["BACKGROUND_Google"], help="class folder to leave out")
    scores = commands.add_parser("score", help="accuracy from the JSON lines on standard input")
    scores.add_argument("--class", dest="classes", action="append", default=[], help="a class to count by itself")
    options = parser.parse_args(arguments)
    if options.command == "photos":
        print(write_photos(options.data, options.folder, options.skip), "photos")
        return
    for name, (right, total) in score(sys.stdin, options.classes).items():
        print(f"{name}: {right} of {total} right, {100 * right / total:.2f} %")


if __name__ == "__main__":
    main(sys.argv[1:])
