"""lrp evaluate: what is read, written, printed, resumed and refused."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import lrpcli
from lrpcli.cli import main
from lrpcli.evaluation.metrics import METRICS
from lrpcli.evaluation.settings import MEASURES
from lrpcli.images.find import Source
from lrpcli.images.sources import choose_images
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from tests.photos import TINY, folder_of_photos, photo

TINY_OPTIONS = (
    "--model",
    TINY,
    "--input-shape",
    "3,32,32",
    "--preprocessing",
    "caffe",
    "--region",
    "8",
    "--steps",
    "12",
)


def evaluate(*arguments, stdin=None):
    return CliRunner().invoke(
        main, ["evaluate", *TINY_OPTIONS, *(str(argument) for argument in arguments)], input=stdin
    )


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def rows_of(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def picture(path):
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


@pytest.mark.slow
def test_table_and_files(tmp_path):
    folder = folder_of_photos(tmp_path / "in", 5)
    result = evaluate(folder, "-o", tmp_path / "out", "--config", "epsilon", "--config", "beta-1", "--lrn", "taylor",
                      "--lrn", "identity", "--control", "random", "--control", "gradient")  # fmt: skip
    assert result.exit_code == 0, result.output
    names = ["epsilon/taylor", "epsilon/identity", "beta-1/taylor", "beta-1/identity", "random", "gradient-norm"]
    assert all(name in result.stdout for name in names)
    assert "5 images, 12 steps, regions of 8 x 8 pixels, fill noise, softmax score." in result.stdout
    assert "5 images: 5 measured, 0 already done; 665 passes" in result.stderr  # 5 * (1 + (5 * 2 + 1) * 12)
    results = results_of(tmp_path / "out")
    assert [method["name"] for method in results["methods"]] == names
    assert results["settings"]["steps"] == 12 and results["settings"]["region"] == 8
    assert len(results["methods"][0]["curves"]["morf"]["mean"]) == 13
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5 * 6
    for method in results["methods"]:
        config = method["name"] if method["control"] else method["config"]
        mine = [row for row in rows if row["config"] == config and row["lrn"] == (method["lrn"] or "")]
        assert np.mean([float(row["auc"]) for row in mine]) == pytest.approx(method["metrics"]["auc"]["mean"])
        assert {row["input"] for row in mine} == {str(path) for path in folder.rglob("*.png")}
    assert picture(tmp_path / "out" / "curves.png").std() > 5
    strip = picture(tmp_path / "out" / "strip.png")
    assert strip.std() > 20 and strip.shape[0] > strip.shape[1]  # four images at steps 0 and 10
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == {"results.json", "results.csv", "profile.png", "curves.png", "strip.png", "evaluate.json",
                    "evaluate-1-of-1.jsonl"}  # fmt: skip


def test_json_and_a_broken_image(tmp_path):
    folder = folder_of_photos(tmp_path / "in", 2)
    (folder / "0a.png").write_bytes(b"not an image")
    result = evaluate(folder, "-o", tmp_path / "out", "--json", "--fill", "blur", "--score", "logit")
    assert result.exit_code == 1
    first, broken, second, summary = rows_of(result)  # 0.png, 0a.png, cats/1.png
    assert [first["status"], broken["status"], second["status"]] == ["ok", "failed", "ok"]
    assert broken["error"]["kind"] == "decode" and broken["input"].endswith("0a.png")
    measured = first["methods"][DEFAULT_CONFIG]
    assert first["score"] - measured["auc"] == pytest.approx(measured["aopc"], abs=1e-6)
    assert {key: summary[key] for key in ("type", "images", "ok", "skipped", "failed", "errors", "passes")} == {
        "type": "summary", "images": 3, "ok": 2, "skipped": 0, "failed": 1, "errors": {"decode": 1},
        "passes": 2 * 37}  # fmt: skip
    assert summary["results"] == results_of(tmp_path / "out")
    assert "decode: The image" in result.stderr


def test_nothing_but_broken_images(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"not an image")
    result = evaluate(tmp_path / "in", "-o", tmp_path / "out")
    assert result.exit_code == 1 and result.stdout == "" and "1 failed (1 decode)" in result.stderr
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.slow
def test_a_second_run_computes_only_what_is_new(tmp_path):
    folder, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    options = ("-o", out, "--config", "epsilon", "--json")
    first = rows_of(evaluate(folder, *options))
    again = rows_of(evaluate(folder, *options))
    assert [row["status"] for row in again[:3]] == ["skipped"] * 3 and again[-1]["passes"] == 0
    for one, two in zip(first[:3], again[:3], strict=True):
        assert two["methods"]["epsilon"] == pytest.approx(one["methods"]["epsilon"], abs=1e-7)
    photo(folder / "0.png", 77)  # changed
    photo(folder / "new.png", 78)
    third = rows_of(evaluate(folder, *options))
    assert {row["input"][-7:]: row["status"] for row in third[:-1]} == {
        "n/0.png": "ok", "n/2.png": "skipped", "s/1.png": "skipped", "new.png": "ok"}  # fmt: skip
    fresh = rows_of(evaluate(folder, "-o", tmp_path / "fresh", "--config", "epsilon", "--json"))
    for one, two in zip(third[-1]["results"]["methods"], fresh[-1]["results"]["methods"], strict=True):
        assert one["metrics"]["auc"]["mean"] == pytest.approx(two["metrics"]["auc"]["mean"], abs=1e-6)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on(tmp_path):
    folder, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    evaluate(folder, "-o", out)
    whole = results_of(out)
    journal = out / ".lrp" / "evaluate-1-of-1.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    first, second, _ = (place for place, line in enumerate(lines) if b'"type": "done"' in line)
    journal.write_bytes(b"".join(lines[: first + 1]) + lines[second][:200])  # killed in the middle of the second
    result = evaluate(folder, "-o", out)
    assert "3 images: 2 measured, 1 already done" in result.stderr
    assert journal.read_bytes().count(b'"type": "done"') == 4  # one of them is torn
    assert results_of(out)["methods"][0]["metrics"]["auc"]["mean"] == pytest.approx(
        whole["methods"][0]["metrics"]["auc"]["mean"], abs=1e-6
    )


def test_other_settings_are_refused_unless_forced(tmp_path):
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    assert evaluate(path, "-o", out, "--config", "epsilon").exit_code == 0
    for options, message in (
        (("--config", "epsilon", "--steps", "5"), "steps was 12 and is now 5"),
        (("--config", "epsilon", "--seed", "1"), "seed was 0 and is now 1"),
        (("--config", "beta-1"), "it measured epsilon, random, not beta-1, random"),
        (("--config", "epsilon", "--mean", "1,2,3"), "preprocessing"),
    ):
        result = evaluate(path, "-o", out, *options)
        assert result.exit_code == 2 and message in result.stderr and "--force" in result.stderr
    assert results_of(out)["settings"]["steps"] == 12
    forced = evaluate(path, "-o", out, "--config", "epsilon", "--steps", "5", "--force")
    assert forced.exit_code == 0 and "1 measured, 0 already done" in forced.stderr
    assert results_of(out)["settings"]["steps"] == 5


def test_a_description_that_cannot_be_read(tmp_path):
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    (out / ".lrp").mkdir(parents=True)
    (out / ".lrp" / "evaluate.json").write_text("{")
    result = evaluate(path, "-o", out)
    assert result.exit_code == 2 and "Start anew with --force" in result.stderr
    assert evaluate(path, "-o", out, "--force").exit_code == 0


def test_boxes(tmp_path):
    folder = folder_of_photos(tmp_path / "in", 3)
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("file,x1,y1,x2,y2\n0.png,0,0,24,40\ncats/1.png,0,0,48,20\n")
    result = evaluate(folder, "-o", tmp_path / "out", "--config", "epsilon", "--boxes", boxes)
    assert result.exit_code == 0, result.output
    assert "2 images with boxes, which cover 0.500 of what the net sees" in result.stdout
    metrics = results_of(tmp_path / "out")["methods"][0]["metrics"]
    assert 0 < metrics["share"]["mean"] < 1 and metrics["pointing"]["mean"] in (0, 0.5, 1)
    boxes.write_text("file,x1,y1,x2,y2\nother.png,0,0,24,40\n")
    result = evaluate(folder, "-o", tmp_path / "two", "--boxes", boxes)
    assert result.exit_code == 2 and "None of the images is named in" in result.stderr


def class_folders(folder):
    """Three photos of each of the tiny net's classes 2, 4 and 6."""
    for number in range(9):
        photo(folder / str(2 + number % 3 * 2) / f"{number}.png", number)
    return folder


@pytest.mark.slow
def test_all_measures(tmp_path):
    folder, out = class_folders(tmp_path / "in"), tmp_path / "out"
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("file,x1,y1,x2,y2\n0.png,0,0,24,40\n")
    masks = tmp_path / "masks"
    (masks / "2").mkdir(parents=True)
    Image.new("L", (48, 40), 1).save(masks / "2" / "0.png")
    options = ("-o", out, "--all", "--boxes", boxes, "--masks", masks, "--config", "epsilon", "--control", "random",
               "--control", "edges")  # fmt: skip
    result = evaluate(folder, *options)
    assert result.exit_code == 0, result.output
    tables = [line.partition(":")[0] for line in result.stdout.splitlines()]
    measures = ("perturbation", "localisation", "ground-truth", "focus", "class", "kept", "randomise", "complexity")
    assert [line for line in tables if line in measures] == list(measures)
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    results = results_of(out)
    assert results["settings"]["measures"] == list(MEASURES)
    epsilon, random, edges = results["methods"]
    assert [method["name"] for method in results["methods"]] == ["epsilon", "random", "edges"]
    assert all(epsilon["metrics"][name] is not None for name in METRICS)
    assert edges["metrics"]["class_second"]["mean"] == pytest.approx(1)
    assert random["metrics"]["gini"] is None and random["metrics"]["auc"] is not None
    assert epsilon["quantiles"]["kept"]["low"] <= epsilon["quantiles"]["kept"]["median"]
    with (out / "results.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["config"] == "epsilon"]
    assert np.mean([float(row["focus"]) for row in rows]) == pytest.approx(epsilon["metrics"]["focus"]["mean"])
    assert picture(out / "profile.png").std() > 5
    before = (out / "results.json").read_text()
    again = evaluate(folder, *options)
    assert "0 measured, 9 already done; 0 passes" in again.stderr and (out / "results.json").read_text() == before


@pytest.mark.slow
def test_shards_measure_what_one_run_measures(tmp_path):
    folder = class_folders(tmp_path / "in")
    for options in (("-o", tmp_path / "one"), *(("-o", tmp_path / "two", "--shard", f"{n}/2") for n in (1, 2))):
        assert evaluate(folder, *options, "--all", "--config", "epsilon").exit_code == 0
    one, two = (results_of(tmp_path / name)["methods"][0]["metrics"] for name in ("one", "two"))
    for name, found in one.items():
        assert (found is None) == (two[name] is None)
        assert found is None or found["mean"] == pytest.approx(two[name]["mean"], abs=1e-5), name


def test_one_measure_and_nothing_else(tmp_path):
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    assert evaluate(path, "-o", out).exit_code == 0
    assert (out / "curves.png").exists() and (out / "strip.png").exists()
    result = evaluate(path, "-o", out, "--measure", "complexity")
    assert result.exit_code == 2 and "--force" in result.stderr
    assert "it took the measures perturbation, kept, complexity, not complexity" in result.stderr
    result = evaluate(path, "-o", out, "--measure", "complexity", "--force")
    assert result.exit_code == 0 and "complexity: Gini" in result.stdout and "perturbation" not in result.stdout
    assert result.stdout.startswith("1 image.\n") and "1 measured, 0 already done; 1 passes" in result.stderr
    left = {path.name for path in out.iterdir() if path.is_file()}
    assert left == {"results.json", "results.csv", "profile.png"}
    row = rows_of(evaluate(path, "-o", tmp_path / "two", "--measure", "complexity", "--json"))[0]
    assert 0 < row["score"] <= 1 and row["methods"][DEFAULT_CONFIG]["gini"] > 0
    assert row["methods"][DEFAULT_CONFIG]["auc"] is None


def test_results_of_a_version_without_measures_are_refused_in_words(tmp_path):
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    assert evaluate(path, "-o", out).exit_code == 0
    description = out / ".lrp" / "evaluate.json"
    values = json.loads(description.read_text())
    del values["measures"]
    description.write_text(json.dumps(values))
    result = evaluate(path, "-o", out)
    assert result.exit_code == 2 and "measures was absent and is now" in result.stderr and "--force" in result.stderr


def test_maps_that_do_not_depend_on_the_class_are_said(tmp_path):
    config = tmp_path / "flat.toml"
    config.write_text('[kind]\nlinear = "flat"\n')
    result = evaluate(photo(tmp_path / "a.png"), "-o", tmp_path / "out", "--measure", "class", "--config", config,
                      "--config", "epsilon")  # fmt: skip
    said = " ".join(result.stdout.split())
    assert result.exit_code == 0, result.output
    assert "flat.toml hardly depend on the class: their mean cosine with those of the second class is 1.000" in said
    assert said.count("hardly depend on the class") == 1 and "See --start of lrp explain" in said


def test_what_all_leaves_out_is_said(tmp_path):
    result = evaluate(photo(tmp_path / "a.png"), "-o", tmp_path / "out", "--all", "--steps", "1")
    said = " ".join(result.stdout.split())
    assert "The measure localisation needs the boxes of objects, --boxes FILE: it is left out." in said
    assert "The measure ground-truth needs pictures that mark the objects, --masks DIR: it is left out." in said
    assert "The measure focus needs images in folders named after classes" in said
    assert len(results_of(tmp_path / "out")["warnings"]) == 4  # and too few images


def test_standard_input_and_lists(tmp_path):
    path = photo(tmp_path / "a.png")
    result = evaluate("-", "-o", tmp_path / "one", stdin=path.read_bytes())
    assert result.exit_code == 0 and "1 image: 1 measured" in result.stderr
    listed = tmp_path / "list.txt"
    listed.write_text(f"{path}\n{path}\n")
    result = evaluate("--files-from", listed, path, "-o", tmp_path / "two")
    assert result.exit_code == 0 and "1 image: 1 measured" in result.stderr
    listed.write_text("")
    result = evaluate("--files-from", listed, "-o", tmp_path / "three")
    assert result.exit_code == 0 and "0 images" in result.stderr


def test_two_files_of_one_name_are_two_images(tmp_path):
    paths = [photo(tmp_path / name / "a.png", seed) for seed, name in enumerate(("one", "two"))]
    result = evaluate(*paths, "-o", tmp_path / "out")
    assert result.exit_code == 0 and "2 images: 2 measured" in result.stderr


def test_some_of_the_images():
    sources = [Source(f"{n}", f"{n}") for n in range(100)]
    chosen = choose_images(sources, 10, seed=1)
    numbers = [int(source.name) for source in chosen]
    assert len(numbers) == 10 and numbers == sorted(set(numbers)) and numbers != list(range(10))
    assert choose_images(sources, 10, seed=1) == chosen != choose_images(sources, 10, seed=2)
    assert set(chosen) < set(choose_images(sources, 11, seed=1))
    assert choose_images(sources, 200, seed=1) == choose_images(sources, None, seed=1) == sources


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "out"], "No input is given"),
        (["absent", "-o", "out"], "absent"),
        (["in", "-o", "out", "--config", "epsilom"], "Did you mean 'epsilon'?"),
        (["in", "-o", "out", "--config", "epsilon", "--config", "epsilon"], "--config epsilon is given twice"),
        (["in", "-o", "out", "--lrn", "tailor"], "Did you mean 'taylor'?"),
        (["in", "-o", "out", "--control", "randon"], "Did you mean 'random'?"),
        (["in", "-o", "out", "--control", "none", "--control", "random"], "--control none stands alone"),
        (["in", "-o", "out", "--order", "best"], "--order 'best' is not known"),
        (["in", "-o", "out", "--measure", "focuss"], "Did you mean 'focus'?"),
        (["in", "-o", "out", "--measure", "focus"], "The measure focus needs images in folders named after classes"),
        (["in", "-o", "out", "--measure", "localisation"], "needs the boxes of objects, --boxes FILE"),
        (["in", "-o", "out", "--all", "--measure", "class"], "--all takes every measure"),
        (["in", "-o", "out", "--fill", "black"], "--fill 'black' is not known"),
        (["in", "-o", "out", "--score", "loss"], "--score 'loss' is not known"),
        (["in", "-o", "out", "--precision", "half"], "--precision 'half' is not known"),
        (["in", "-o", "out", "--boxes", "none.csv"], "The boxes 'none.csv' cannot be read"),
        (["in", "-o", "out", "--device", "cuda:99"], "cannot be used here"),
        (["in", "-o", "out", "--steps", "0"], "--steps"),
        (["in"], "-o"),
    ],
)
def test_mistakes_are_exit_2_and_write_nothing(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "in" / "a.png")
    result = evaluate(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_exit_3(tmp_path, monkeypatch):
    def refuse(*names, **folders):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    result = evaluate(photo(tmp_path / "a.png"), "-o", tmp_path / "out")
    assert result.exit_code == 3 and "Name an output folder that can be made and written to" in result.stderr


def test_labels_and_paths_of_any_characters(tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(["$5 bill, 猫", "x$y$z", *(f"thing_{n} $ {{" for n in range(8))]))
    folder = folder_of_photos(tmp_path / "in", 2)
    photo(tmp_path / "c.png").rename(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))
    result = evaluate(folder, "-o", tmp_path / "out", "--labels", labels, "--json")
    assert result.exit_code == 0, result.output
    assert "bytes" in rows_of(result)[2]["input"] or "bytes" in rows_of(result)[1]["input"]
    assert b"caf\xe9.png" in (tmp_path / "out" / "results.csv").read_bytes()
    assert picture(tmp_path / "out" / "strip.png").std() > 5


@pytest.mark.slow
def test_as_a_real_process_and_without_a_terminal(tmp_path):
    path = photo(tmp_path / "a.png")
    command = [sys.executable, "-W", "error", "-m", "lrpcli", "evaluate", *TINY_OPTIONS, path, "-o", tmp_path / "out"]
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    assert DEFAULT_CONFIG in result.stdout and "|" not in result.stderr


def test_the_measure_is_that_of_the_library(tmp_path):
    """The command's curve at step 1: the most relevant region replaced by the mean."""
    path = photo(tmp_path / "a.png")
    evaluate(path, "-o", tmp_path / "out", "--config", "epsilon", "--fill", "mean", "--steps", "1")
    model = lrpcli.load_model(TINY, input_shape=(3, 32, 32), preprocessing="caffe")
    explainer = lrpcli.Explainer(model, "epsilon")
    x, _ = model.preprocess(Image.fromarray(picture(path)))
    result = explainer(x)
    sums = result.relevance[0].sum(0).view(4, 8, 4, 8).sum((1, 3))
    row, column = divmod(int(sums.argmax()), 4)
    changed = x.clone()
    changed[..., row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = x.mean((2, 3), keepdim=True)
    scores = [float(explainer.predict(image).softmax(1)[0, result.target]) for image in (x, changed)]
    curve = results_of(tmp_path / "out")["methods"][0]["curves"]["morf"]["mean"]
    assert curve == pytest.approx(scores, abs=1e-5)
