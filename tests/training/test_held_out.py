"""Held-out photos as class folders, and the accuracy of what lrp says of them."""

import io
import json
import sys

import pytest

from tests.photos import photo
from training import held_out
from training.data import load_photos

CLASSES = {"n01440764": "tench", "wild_cat": "wildcat"}


@pytest.fixture
def source(tmp_path):
    for seed, name in enumerate((*CLASSES, "BACKGROUND_Google")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(11):
            photo(tmp_path / "photos" / name / f"{number:02}.png", 20 * seed + number)
    return tmp_path / "photos"


def test_photos_are_those_that_training_holds_out(source, tmp_path, capsys):
    held_out.main(["photos", str(tmp_path / "held"), "--data", str(source)])
    assert capsys.readouterr().out == "4 photos\n"
    written = sorted(path.relative_to(tmp_path / "held").as_posix() for path in (tmp_path / "held").rglob("*.png"))
    assert written == [f"photos/{label}/{name}.png" for label in CLASSES.values() for name in ("04", "09")]
    assert (tmp_path / "held" / written[0]).read_bytes() == (source / "n01440764" / "04.png").read_bytes()
    photos = load_photos([source], 16, tmp_path / "work", skip=["BACKGROUND_Google"])
    assert photos.held_out.nonzero().flatten().tolist() == [4, 9, 15, 20]


def line(source, folder, label, status="ok"):
    return json.dumps(
        {"type": "image", "input": f"held/{source}/{folder}/1.png", "status": status, "label": label, "error": {}}
    )


def test_score_counts_each_source_and_all(capsys, monkeypatch):
    lines = [
        line("a", "wildcat", "wildcat"),
        line("a", "wildcat", "tench"),
        line("b", "tench", "tench", "skipped"),
        line("b", "tench", None, "failed"),
        json.dumps({"type": "summary", "images": 4}),
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    held_out.main(["score"])
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["a: 1 of 2 right, 50.00 %", "all: 2 of 3 right, 66.67 %", "b: 1 of 1 right, 100.00 %"]


def test_score_counts_a_class_by_itself(capsys, monkeypatch):
    lines = [line("a", "cat", "cat"), line("b", "cat", "dog"), line("b", "dog", "dog")]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    held_out.main(["score", "--class", "cat"])
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "a: 1 of 1 right, 100.00 %",
        "all: 2 of 3 right, 66.67 %",
        "cat: 1 of 2 right, 50.00 %",
        "b: 1 of 2 right, 50.00 %",
    ]
