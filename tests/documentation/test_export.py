"""The recipes of docs/export.md are short and run: with the real packages where they are there, else with doubles."""

import importlib.util
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import lrpcli
from tests.documentation.pages import DOCS, ROOT, blocks

RECIPES = {"fiftyone" if "fiftyone" in block.text else "wandb": block for block in blocks(DOCS / "export.md")}
PHOTOS = ["photos/a.jpg", "photos/cats/b.jpg"]


def run(package, folder, prelude="", **environment):
    """Runs a recipe with the real package, in a process of its own."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run([sys.executable, "-c", prelude + RECIPES[package].text], cwd=folder, capture_output=True,
                          text=True, check=False, env={**os.environ, **environment, "PYTHONPATH": path})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def results(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return lrpcli.explain(PHOTOS)


def double(monkeypatch, name, **attributes):
    """A module that stands for a package, with what a recipe asks of it."""
    module = ModuleType(name)
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, name, module)


def test_recipes_are_short():
    assert set(RECIPES) == {"fiftyone", "wandb"}
    assert all(len([line for line in block.text.splitlines() if line.strip()]) < 20 for block in RECIPES.values())


class Sample(dict):
    """What a recipe does with a sample."""

    def __init__(self, filepath):
        super().__init__(filepath=filepath)


def check_samples(samples, results):
    """Each sample has the class of its photo, and a map on all of the photo's pixels."""
    assert len(samples) == len(results)
    for sample, result in zip(samples, results, strict=True):
        assert Path(sample["filepath"]).name == Path(result.source).name
        assert (sample["prediction"]["label"], sample["kept"]) == (result.label, pytest.approx(result.kept))
        assert sample["prediction"]["confidence"] == pytest.approx(result.score)
        with Image.open(result.source) as photo:
            assert sample["relevance"]["map"].shape == photo.size[::-1]
        low, high = sample["relevance"]["range"]
        assert -low == high == pytest.approx(np.abs(sample["relevance"]["map"]).max())
        assert sample["relevance"]["map"].sum() == pytest.approx(result.map.sum(), rel=1e-3, abs=1e-4)


def test_fiftyone_as_far_as_the_recipe_goes(results, monkeypatch):
    samples = []
    double(
        monkeypatch, "fiftyone", Sample=Sample, Classification=dict, Heatmap=dict,
        Dataset=lambda name: SimpleNamespace(add_sample=samples.append),
        launch_app=lambda dataset: SimpleNamespace(wait=lambda: None),
    )  # fmt: skip
    exec(compile(RECIPES["fiftyone"].text, "export.md", "exec"), {})
    check_samples(samples, results)


# The recipe's data set needs FiftyOne's data base, and its app a browser; samples and labels are the real ones.
FIFTYONE = """
import pickle, sys
from types import SimpleNamespace
import fiftyone as fo
samples = []
def keep(sample):
    assert isinstance(sample, fo.Sample) and isinstance(sample["relevance"], fo.Heatmap)
    assert isinstance(sample["prediction"], fo.Classification)
    fo.Sample.from_dict(sample.to_dict())  # what a data base would get
    samples.append({
        "filepath": sample.filepath, "kept": sample["kept"],
        "prediction": {"label": sample["prediction"].label, "confidence": sample["prediction"].confidence},
        "relevance": {"map": sample["relevance"].map, "range": sample["relevance"].range},
    })
def wait():
    with open("samples.pickle", "wb") as file:
        pickle.dump(samples, file)
fo.Dataset = lambda name: SimpleNamespace(add_sample=keep)
fo.launch_app = lambda dataset: SimpleNamespace(wait=wait)
"""


@pytest.mark.slow
def test_fiftyone_itself(folder, results, tmp_path):
    run("fiftyone", folder, FIFTYONE, FIFTYONE_DATABASE_DIR=str(tmp_path), FIFTYONE_DO_NOT_TRACK="true")
    check_samples(pickle.loads((Path(folder) / "samples.pickle").read_bytes()), results)


def test_wandb_as_far_as_the_recipe_goes(results, monkeypatch):
    rows, logged = [], []

    class Run:
        def __enter__(self):
            return SimpleNamespace(log=logged.append)

        def __exit__(self, *error):
            return None

    double(
        monkeypatch, "wandb", init=lambda project: Run(), Image=lambda picture, caption: (picture.mode, caption),
        Table=lambda columns: SimpleNamespace(columns=columns, add_data=lambda *row: rows.append(row)),
    )  # fmt: skip
    exec(compile(RECIPES["wandb"].text, "export.md", "exec"), {})
    assert [row[0] for row in rows] == PHOTOS and len(logged) == 1
    assert all(len(row) == len(logged[0]["maps"].columns) for row in rows)
    assert [row[-1] for row in rows] == [("RGB", result.label) for result in results]


@pytest.mark.slow
def test_wandb_itself(folder, results, tmp_path):
    run("wandb", folder, WANDB_MODE="offline", WANDB_SILENT="true", WANDB_DIR=str(tmp_path),
        WANDB_DATA_DIR=str(tmp_path / "data"), WANDB_CACHE_DIR=str(tmp_path / "cache"))  # fmt: skip
    (written,) = tmp_path.glob("wandb/offline-run-*/files/media/table/*.table.json")
    table = json.loads(written.read_text())
    assert table["columns"] == ["image", "class", "score", "kept", "overlay"]
    for row, result in zip(table["data"], results, strict=True):
        assert row[:2] == [result.source, result.label] and row[2:4] == pytest.approx([result.score, result.kept])
    staged = [path.read_bytes() for path in (tmp_path / "data" / "artifacts").rglob("*") if path.is_file()]
    pictures = [Image.open(io.BytesIO(data)).tobytes() for data in staged if data.startswith(b"\x89PNG")]
    assert sorted(pictures) == sorted(result.overlay().tobytes() for result in results)
