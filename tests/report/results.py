"""Output folders of any size, written through the project's own records: no net is run."""

import os
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image

from lrpcli.records.description import EXPLAIN_FILES, RunDescription
from lrpcli.records.explained import Explained, ExplainedClass, RelevanceRange, TopClass
from lrpcli.records.identity import FileState, read_content
from lrpcli.records.journal import Journal, RunLine
from lrpcli.records.json_values import json_path
from lrpcli.records.record import FAILED, Failure, Outputs, Record
from lrpcli.records.store import npy_bytes

CLASSES = ("cat", "dog", "bird", "ship")
SIZE = (48, 64)
"""Height and width of the photos."""
GRID = (16, 16)
BOX = (8.0, 0.0, 56.0, 48.0)
"""The square in their middle."""
JOURNAL = "journal-1-of-1.jsonl"


def description(**changes):
    """What `lrp explain` writes down of a run; `changes` are settings of its files."""
    picture = {"style": "overlay", "cmap": "bwr", "alpha": 0.9, "smooth": 1.0}
    output = {"save": ["overlay", "map"], "map_space": "model", "channels": "sum", "dtype": "float32",
              "overlay_size": 512, "picture": picture, "scale": "image"}  # fmt: skip
    settings = {
        "explain": {"config": changes.pop("config", "epsilon"), "lrn": None, "targets": changes.pop("targets", []),
                    "start": None, "precision": "float32"},
        "rules": {"conv1": "alpha-beta beta=0.0", "fc2": "epsilon epsilon=0.01"},
        "labels_sha256": changes.pop("labels_sha256", None),
        "output": {**output, **changes},
    }  # fmt: skip
    return RunDescription("toy", "ab" * 32, {"size": list(GRID)}, settings, "0.1.0")


def index_of(label):
    """The output of the net that a label stands for."""
    return CLASSES.index(label) if label in CLASSES else 10 + sum(label.encode()) % 80


def photo_colour(number):
    return (40 + 37 * number % 200, 60 + 53 * number % 180, 90 + 71 * number % 150)


def photo(path, number):
    """A photo of one colour, so that it is known again when it is small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE[::-1], photo_colour(number)).save(path)


def relevance(number):
    """A map that is no other image's."""
    values = np.zeros(GRID, np.float32)
    values[number % GRID[0], number // GRID[0] % GRID[1]] = 1 + number % 3
    values[0, 0] -= 0.5
    return values


class Results:
    """An output folder in the making; photos lie in `photos`, files of images in `output`."""

    def __init__(self, output, photos=None, **settings):
        self.output, self.photos = Path(output), photos and Path(photos)
        self.description = description(**settings)
        self.fingerprint = self.description.fingerprint
        self.save = tuple(self.description.settings["output"]["save"])
        self.output.mkdir(parents=True, exist_ok=True)
        self.description.write(self.output, EXPLAIN_FILES)
        self.number = 0
        self.journal = None
        Journal(self.output, JOURNAL).close()

    def begin(self, images):
        self.append(RunLine(1, 1, images, images).as_json())

    @contextmanager
    def held(self):
        """While it lasts the journal stays open, which is quicker for many lines."""
        with Journal(self.output, JOURNAL) as self.journal:
            yield
        self.journal = None

    def append(self, values):
        with nullcontext(self.journal) if self.journal else Journal(self.output, JOURNAL) as journal:
            journal.append({"run": self.fingerprint, "time": 1000.0 + self.number, **values})

    def add(
        self, name, *, label=None, score=None, kept=None, targets=1, files=True, predicted=None, target=None, **changes
    ):
        """A finished image; its files are written unless `files` is a function that writes them, or False."""
        number, self.number = self.number, self.number + 1
        label = CLASSES[number % len(CLASSES)] if label is None else label
        score = round(1 - number % 97 / 100, 4) if score is None else score
        kept = round(number % 89 / 80, 4) if kept is None else kept
        target = index_of(label) if target is None else target
        best = index_of(predicted) if predicted else target
        classes = []
        for place in range(targets):
            suffix = "" if targets == 1 else f".top{place + 1}"
            paths = {kind: name + suffix + {"overlay": ".png", "map": ".npy"}[kind] for kind in self.save}
            classes.append(ExplainedClass(
                Outputs(paths), target + place, label if place == 0 else f"{label}-{place}", score / (place + 1),
                RelevanceRange(2 * kept, 2.0, -0.5, 1.5, kept=kept), 1.5,
            ))  # fmt: skip
            if files:
                (files if callable(files) else self.write_files)(paths, number)
        record = Explained(
            input=self.path_of(name), name=name, seconds=0.25, classes=tuple(classes),
            top=(TopClass(best, predicted or label, score), TopClass(99, "other", 0.01)),
            placement={"image_size": SIZE, "box": BOX, "size": GRID},
            content=self.content_of(name), **changes,
        )  # fmt: skip
        self.done(record)
        return record

    def path_of(self, name):
        return os.path.join(self.photos or "/nowhere", name)  # noqa: PTH118

    def content_of(self, name):
        content = read_content(self.path_of(name)) if self.photos else None
        return content and content.hash

    def fail(self, name, kind="decode", message="It is damaged."):
        self.number += 1
        self.done(Record(input=self.path_of(name), name=name, status=FAILED, failure=Failure(kind, message)))

    def start(self, name):
        self.append({"type": "start", "name": json_path(name)})

    def done(self, record):
        state = FileState.of(record.input)
        self.append({**record.as_json(), "type": "done", **(state.as_json() if state else {})})

    def write_files(self, paths, number):
        for kind, path in paths.items():
            place = self.output / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind == "map":
                place.write_bytes(npy_bytes(relevance(number)))
            else:
                Image.new("RGB", SIZE[::-1], photo_colour(number)[::-1]).save(place)

    def add_many(self, count, *, folders=None, failed=0, **each):
        """Images with photos, in folders by turns; `failed` more that failed."""
        with self.held():
            self._add_many(count, folders, failed, each)
        return self

    def _add_many(self, count, folders, failed, each):
        self.begin(count + failed)
        for number in range(count):
            name = f"{folders[number % len(folders)]}/{number:06}.png" if folders else f"{number:06}.png"
            if self.photos:
                photo(self.photos / name, number)
            self.add(name, **each)
        for number in range(failed):
            self.fail(f"failed/{number:03}.jpg", ("decode", "timeout")[number % 2], f"Image {number} is damaged.")
