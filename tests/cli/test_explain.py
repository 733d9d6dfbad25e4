"""lrp explain: what is read, written, printed and returned."""

import contextlib
import json
import os
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import lrpcli
from lrpcli.cli import main
from lrpcli.cli.explain_console import ExplainConsole
from lrpcli.cli.options import ConsoleSettings
from lrpcli.records.explained import Explained, ExplainedClass, RelevanceRange, TopClass
from lrpcli.records.record import Outputs
from tests.photos import TINY, folder_of_photos, photo

TINY_OPTIONS = ("--model", TINY, "--input-shape", "3,32,32", "--preprocessing", "caffe")


def lrp(*arguments, stdin=None):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def explain(*arguments, stdin=None):
    return lrp("explain", *TINY_OPTIONS, "-j", 2, *arguments, stdin=stdin)


def process(*arguments, **keywords):
    command = [sys.executable, "-m", "lrpcli", *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=300, **keywords)


def picture(path):
    with Image.open(path) as opened:
        return np.asarray(opened)


def rows_of(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def journal(output):
    lines = (output / ".lrp" / "journal-1-of-1.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["type"] == "done"]


def test_a_folder_is_mirrored_and_each_overlay_printed_in_order(tmp_path):
    folder_of_photos(tmp_path / "in")
    result = explain(tmp_path / "in", tmp_path / "out", "-b", 2)
    assert result.exit_code == 0, result.output
    names = ["0.png", "2.png", "4.png", "cats/1.png", "cats/3.png"]
    assert result.stdout.splitlines() == [str(tmp_path / "out" / f"{name}.png") for name in names]
    assert "5 images: 5 explained" in result.stderr
    for name in names:
        assert picture(tmp_path / "out" / f"{name}.png").shape == (400, 480, 3)  # enlarged ten times
        relevance = np.load(tmp_path / "out" / f"{name}.npy", allow_pickle=False)
        assert relevance.shape == (32, 32) and relevance.dtype == np.float32
    assert [row["input"] for row in journal(tmp_path / "out")] == [str(tmp_path / "in" / name) for name in names]
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert left == {f"{name[-5:]}{end}" for name in names for end in (".png", ".npy")} | {
        "journal-1-of-1.jsonl", "run.json"}  # fmt: skip


def test_the_map_is_what_the_library_gives(tmp_path):
    path = photo(tmp_path / "a.png")
    assert explain(path, tmp_path / "out", "--config", "beta-1", "--lrn", "identity", "--target", "3").exit_code == 0
    model = lrpcli.load_model(TINY, input_shape=(3, 32, 32), preprocessing="caffe")
    x, _ = model.preprocess(Image.fromarray(picture(path)))
    expected = lrpcli.Explainer(model, "beta-1", lrn="identity")(x, target=3).relevance[0].sum(0)
    got = np.load(tmp_path / "out" / "a.png.npy")
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def test_json_rows_say_what_the_contract_says(tmp_path):
    folder = folder_of_photos(tmp_path / "in", 2)
    (folder / "zz.png").write_bytes(b"not an image")
    result = explain(folder, tmp_path / "out", "--json")
    assert result.exit_code == 1
    row, second, failed, summary = rows_of(result)  # 0.png, cats/1.png, zz.png
    assert row["type"] == "image" and row["status"] == "ok" and row["input"] == str(folder / "0.png")
    assert row["outputs"] == {"overlay": f"{tmp_path}/out/0.png.png", "map": f"{tmp_path}/out/0.png.npy"}
    assert row["top"][0] == [row["target"], row["label"], pytest.approx(row["score"], abs=1e-5)]
    assert sum(score for _, _, score in row["top"]) <= 1.0 + 1e-9
    relevance = np.load(row["outputs"]["map"])
    assert row["relevance"]["total"] == pytest.approx(float(relevance.sum(dtype=np.float64)), rel=1e-5)
    assert row["relevance"]["max"] == float(relevance.max())
    assert row["seconds"] > 0
    assert second["status"] == "ok" and failed["status"] == "failed"
    assert failed["error"]["kind"] == "decode" and "zz.png" in failed["error"]["message"]
    assert {key: summary[key] for key in ("type", "images", "ok", "skipped", "failed", "errors")} == {
        "type": "summary", "images": 3, "ok": 2, "skipped": 0, "failed": 1, "errors": {"decode": 1}}  # fmt: skip


def test_batch_size_and_jobs_change_nothing(tmp_path):
    folder_of_photos(tmp_path / "in", 7)
    for out, options in {"one": ("-b", 1, "-j", 1), "many": ("-b", 5, "-j", 3)}.items():
        assert explain(tmp_path / "in", tmp_path / out, *options).exit_code == 0
    for path in (tmp_path / "one").rglob("*.npy"):
        one, many = np.load(path), np.load(tmp_path / "many" / path.relative_to(tmp_path / "one"))
        np.testing.assert_allclose(many, one, rtol=0, atol=1e-5 * np.abs(one).max())


def test_kinds_of_output(tmp_path):
    path = photo(tmp_path / "a.png", size=(70, 50))
    result = explain(path, tmp_path / "out", "--save", "overlay,heatmap,map,layers", "--map-space", "image",
                     "--channels", "keep", "--dtype", "float16", "--overlay-size", "35", "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    outputs = rows_of(result)[0]["outputs"]
    assert list(outputs) == ["overlay", "heatmap", "map", "layers"]
    assert picture(outputs["overlay"]).shape == picture(outputs["heatmap"]).shape == (25, 35, 3)
    relevance = np.load(outputs["map"])
    assert relevance.shape == (3, 50, 70) and relevance.dtype == np.float16
    with np.load(outputs["layers"]) as layers:
        assert {"conv1", "norm1", "pool2", "fc4"} <= set(layers)
        assert layers["norm1"].shape == (8, 16, 16)


def test_a_map_on_the_photo_keeps_the_total(tmp_path):
    path = photo(tmp_path / "a.png", size=(70, 50))
    for space in ("model", "image"):
        assert explain(path, tmp_path / space, "--map-space", space, "--save", "map").exit_code == 0
    model, image = (np.load(tmp_path / space / "a.png.npy") for space in ("model", "image"))
    assert image.shape == (50, 70)
    assert image.sum(dtype=np.float64) == pytest.approx(model.sum(dtype=np.float64), rel=1e-5)


@pytest.mark.parametrize("style", ["heatmap", "side-by-side", "contour"])
def test_styles(tmp_path, style):
    assert explain(photo(tmp_path / "a.png"), tmp_path / "out", "--style", style).exit_code == 0
    width = 960 if style == "side-by-side" else 480
    assert picture(tmp_path / "out" / "a.png.png").shape == (400, width, 3)


def test_several_classes_have_a_map_each(tmp_path):
    path = photo(tmp_path / "a.png")
    result = explain(path, tmp_path / "out", "--target", "top2", "--json")
    row = rows_of(result)[0]
    assert [part["target"] for part in row["explanations"]] == [entry[0] for entry in row["top"][:2]]
    assert [part["outputs"]["map"] for part in row["explanations"]] == [
        f"{tmp_path}/out/a.png.top{rank}.npy" for rank in (1, 2)
    ]
    alone = explain(path, tmp_path / "alone", "--target", row["top"][1][0], "--json")
    second = np.load(row["explanations"][1]["outputs"]["map"])
    np.testing.assert_allclose(np.load(rows_of(alone)[0]["outputs"]["map"]), second, atol=1e-6 * np.abs(second).max())
    both = explain(path, tmp_path / "both", "--target", 7, "--target", 2)
    assert both.stdout.splitlines() == [f"{tmp_path}/both/a.png.7.png", f"{tmp_path}/both/a.png.2.png"]


def test_the_class_from_the_folder(tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(["dog", "tabby, tabby cat", *(f"thing {n}" for n in range(8))]))
    photo(tmp_path / "in" / "tabby cat" / "a.png")
    photo(tmp_path / "in" / "unheard of" / "b.png")
    result = explain(tmp_path / "in", tmp_path / "out", "--target", "from-folder", "--labels", labels, "--json")
    assert result.exit_code == 1
    good, bad, _ = rows_of(result)
    assert (good["target"], good["label"]) == (1, "tabby")
    assert bad["error"]["kind"] == "unsupported" and "no class 'unheard of'" in bad["error"]["message"]


def test_one_scale_for_the_whole_run(tmp_path):
    folder_of_photos(tmp_path / "in", 3)
    explain(tmp_path / "in", tmp_path / "own")
    explain(tmp_path / "in", tmp_path / "run", "--scale", "run")
    explain(tmp_path / "in", tmp_path / "fixed", "--scale", "0.5")

    def scales(out):
        return [row["scale"] for row in journal(tmp_path / out)]

    assert len(set(scales("own"))) == 3
    assert scales("run") == pytest.approx([max(scales("own"))] * 3, rel=1e-4)
    assert scales("fixed") == [0.5] * 3


def test_a_zero_map_makes_a_picture(tmp_path):
    path = tmp_path / "mean.png"
    Image.new("RGB", (32, 32), (0, 0, 0)).save(path)
    result = explain(path, tmp_path / "out", "--mean", "0,0,0", "--config", "epsilon", "--json")
    assert result.exit_code == 0, result.output
    assert not np.load(tmp_path / "out" / "mean.png.npy").any()
    assert not picture(tmp_path / "out" / "mean.png.png").any()


def test_standard_input_and_lists(tmp_path):
    path = photo(tmp_path / "a.png")
    result = explain("-", tmp_path / "one", stdin=path.read_bytes())
    assert result.stdout == f"{tmp_path}/one/stdin.png\n"
    listed = tmp_path / "list.txt"
    listed.write_bytes(os.fsencode(path) + b"\r\n\r\n")
    assert explain("--files-from", listed, tmp_path / "two").exit_code == 0
    listed.write_bytes(os.fsencode(path) + b"\0")
    result = explain("-0", "--files-from", listed, "-o", tmp_path / "three", "--print0")
    overlay = f"{tmp_path}/three/{str(path).lstrip('/')}.png"
    assert result.stdout == overlay + "\0" and Path(overlay).exists()
    listed.write_bytes(b"")
    result = explain("--files-from", listed, tmp_path / "four")
    assert result.exit_code == 0 and "0 images" in result.stderr
    summary = rows_of(explain("--files-from", listed, tmp_path / "four", "--json"))
    assert [row["images"] for row in summary] == [0]


def test_what_a_folder_holds_beside_images_is_counted(tmp_path):
    folder = folder_of_photos(tmp_path / "in", 1)
    for name in ("notes.txt", ".hidden.png"):
        (folder / name).write_bytes(b"")
    result = explain(folder, tmp_path / "out")
    assert "Skipped: 1 file with another suffix, 1 hidden entry." in result.stderr
    assert explain(folder, tmp_path / "all", "--all-files").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "Only one path is given, 'absent', and it does not exist"),
        ([], "No input is given"),
        (["absent", "out"], "absent"),
        (["empty", "out"], "empty"),
        (["in", "out", "--save", "overlays"], "Did you mean 'overlay'?"),
        (["in", "out", "--save", "none,map"], "--save none stands alone"),
        (["in", "out", "--scale", "biggest"], "Choose one of image, run, a number larger than 0."),
        (["in", "out", "--style", "contuor"], "Did you mean 'contour'?"),
        (["in", "out", "--cmap", "jet"], "not known as a diverging one"),
        (["in", "out", "--scale", "-3"], "--scale must be"),
        (["in", "out", "--overlay-size", "big"], "--overlay-size must be"),
        (["in", "out", "--config", "epsilom"], "Did you mean 'epsilon'?"),
        (["in", "out", "--lrn", "tailor"], "Did you mean 'taylor'?"),
        (["in", "out", "--start", "logits"], "The start 'logits' is not known"),
        (["in", "out", "--target", "tabby"], "has no class labels"),
        (["in", "out", "--target", "12"], "12"),
        (["in", "out", "--target", "top99"], "top99"),
        (["in", "out", "--target", "top2", "--target", "3"], "stands alone"),
        (["in", "out", "--device", "cuda:99"], "cannot be used here"),
        (["in", "out", "--mean", "1,2"], "mean"),
        (["in", "in/a.png", "-o", "out"], "a.png"),
        (["in", "out", "--precision", "float128"], "--precision 'float128' is not known"),
    ],
)
def test_mistakes_are_exit_2_and_write_nothing(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "empty").mkdir()
    result = explain(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_weights_that_are_missing_are_exit_3(tmp_path, monkeypatch):
    monkeypatch.setenv("LRP_OFFLINE", "1")
    monkeypatch.setenv("LRP_CACHE_DIR", str(tmp_path / "cache"))
    result = lrp("explain", "--model", "caffenet", photo(tmp_path / "a.png"), tmp_path / "out")
    assert result.exit_code == 3 and "--weights" in result.stderr


def test_an_output_that_cannot_be_written_is_exit_3(tmp_path, monkeypatch):
    def refuse(*names, **folders):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    result = explain(photo(tmp_path / "a.png"), tmp_path / "out")
    assert result.exit_code == 3 and "Name an output folder that can be made and written to" in result.stderr


def test_batches_are_of_one_size_and_the_last_is_filled_up(tmp_path, monkeypatch):
    source = folder_of_photos(tmp_path / "in", 10)
    original, sizes = lrpcli.Explainer.__call__, []

    def counted(self, x, *arguments, **keywords):
        sizes.append(len(x))
        return original(self, x, *arguments, **keywords)

    monkeypatch.setattr(lrpcli.Explainer, "__call__", counted)
    assert explain(source, tmp_path / "out", "-b", 4).exit_code == 0
    assert sizes == [4, 4, 4]
    photo(source / "more.png", 11)
    sizes.clear()
    assert len(rows_of(explain(source, tmp_path / "out", "-b", 5, "--json"))) == 12
    assert sizes == [4], "one image is new, in a folder of 11, which are batches of 4, 4 and 3"


def test_a_filled_batch_that_is_too_large_is_tried_without_filling(tmp_path, monkeypatch):
    source = folder_of_photos(tmp_path / "in", 3)
    explain(source, tmp_path / "out", "-b", 3)
    photo(source / "more.png", 11)
    original, sizes = lrpcli.Explainer.__call__, []

    def greedy(self, x, *arguments, **keywords):
        sizes.append(len(x))
        if len(x) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return original(self, x, *arguments, **keywords)

    monkeypatch.setattr(lrpcli.Explainer, "__call__", greedy)
    assert explain(source, tmp_path / "out", "-b", 4).exit_code == 0
    assert sizes == [4, 2, 1]


def test_a_batch_that_was_too_large_for_the_memory_is_not_tried_again(tmp_path, monkeypatch):
    folder_of_photos(tmp_path / "in", 7)
    original, sizes = lrpcli.Explainer.__call__, []

    def greedy(self, x, *arguments, **keywords):
        sizes.append(len(x))
        if len(x) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        return original(self, x, *arguments, **keywords)

    monkeypatch.setattr(lrpcli.Explainer, "__call__", greedy)
    result = explain(tmp_path / "in", tmp_path / "out", "-b", 4)
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 7
    assert sizes == [4, 2, 2, 2, 2], "batches of 4 and 3; the last part is filled up"


def test_one_image_too_large_for_the_memory_is_exit_3(tmp_path, monkeypatch):
    def greedy(self, x, *arguments, **keywords):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(lrpcli.Explainer, "__call__", greedy)
    result = explain(photo(tmp_path / "a.png"), tmp_path / "out")
    assert result.exit_code == 3 and "too little memory" in result.stderr


def test_a_lost_device_is_exit_3(tmp_path, monkeypatch):
    def lost(self, x, *arguments, **keywords):
        kind = torch.AcceleratorError if hasattr(torch, "AcceleratorError") else RuntimeError  # from torch 2.8 on
        raise kind("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(lrpcli.Explainer, "__call__", lost)
    result = explain(folder_of_photos(tmp_path / "in", 3), tmp_path / "out")
    assert result.exit_code == 3 and "The device was lost (CUDA error" in result.stderr


def test_quiet_still_tells_of_failures_and_nothing_else(tmp_path):
    folder_of_photos(tmp_path / "in", 2)
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    result = explain(tmp_path / "in", tmp_path / "out", "-q")
    assert result.exit_code == 1
    (told,) = result.stderr.splitlines()
    assert told.startswith("decode: ") and "broken.png" in told


def test_a_refused_run_prints_its_error_and_no_summary(tmp_path):
    folder_of_photos(tmp_path / "in", 2)
    explain(tmp_path / "in", tmp_path / "out")
    result = explain(tmp_path / "in", tmp_path / "out", "--cmap", "seismic")
    assert result.exit_code == 2
    (told,) = result.stderr.splitlines()
    assert told.startswith("Error: ") and "images:" not in told


def test_a_map_that_is_not_finite_fails_alone(tmp_path, monkeypatch):
    folder_of_photos(tmp_path / "in", 2)
    original = lrpcli.Explainer.__call__

    def odd(self, x, *arguments, **keywords):
        result = original(self, x, *arguments, **keywords)
        result.relevance[0, 0, 0, 0] = float("nan")
        return result

    monkeypatch.setattr(lrpcli.Explainer, "__call__", odd)
    result = explain(tmp_path / "in", tmp_path / "out", "--json")
    assert result.exit_code == 1
    assert [row["status"] for row in rows_of(result)[:2]] == ["failed", "ok"]
    assert rows_of(result)[0]["error"]["kind"] == "compute"


def test_an_image_that_the_engine_gave_up_fails_alone_and_says_where(tmp_path, monkeypatch):
    """A map may be finite where a layer or a logit is not."""
    folder_of_photos(tmp_path / "in", 2)
    original = lrpcli.Explainer.__call__

    def odd(self, x, *arguments, **keywords):
        result = original(self, x, *arguments, **keywords)
        result.failures[1] = "Its relevance is not finite from 'conv2' down."
        return result

    monkeypatch.setattr(lrpcli.Explainer, "__call__", odd)
    result = explain(tmp_path / "in", tmp_path / "out", "--json", "--save", "map,layers")
    assert result.exit_code == 1
    first, second, _ = rows_of(result)
    assert first["status"] == "ok"
    assert second["error"]["kind"] == "compute"
    assert second["error"]["message"].endswith("is not finite; nothing was written for it. Its relevance is not finite "
                                               "from 'conv2' down.")  # fmt: skip


def test_relevance_that_exploded_is_said_once_in_the_summary_and_in_each_record(tmp_path, monkeypatch):
    """Also by a run that finds the images done."""
    folder_of_photos(tmp_path / "in", 3)
    said = "Warning: in 3 of 3 images single relevances are over a million times the start"
    monkeypatch.setattr("lrpcli.lrp.soundness.EXPLODED", 1e-9)
    first = explain(tmp_path / "in", tmp_path / "out", "--json")
    monkeypatch.undo()
    again = explain(tmp_path / "in", tmp_path / "out", "--json")
    for result in (first, again):
        assert result.exit_code == 0
        assert result.stderr.count(said) == 1
        assert [row["relevance"]["exploded"] for row in rows_of(result)[:3]] == [True] * 3
    usual = explain(tmp_path / "in", tmp_path / "usual", "--json")
    assert "Warning" not in usual.stderr
    assert all("exploded" not in row["relevance"] for row in rows_of(usual)[:3])


def test_the_kept_share_is_in_each_record_and_in_the_summary(tmp_path):
    folder_of_photos(tmp_path / "in", 4)
    result = explain(tmp_path / "in", tmp_path / "out", "--target", "top2", "--config", "epsilon-1", "--json")
    *rows, summary = rows_of(result)
    shares = [part["relevance"]["kept"] for row in rows for part in row["explanations"]]
    for row in rows:
        for part in row["explanations"]:
            expected = part["relevance"]["total"] / part["relevance"]["start"]
            assert part["relevance"]["kept"] == pytest.approx(expected, abs=1e-6)
    wrong = sum(share < 0 for share in shares)
    assert summary["kept"] == {"median": pytest.approx(np.median(shares)), "wrong_sign": wrong}
    again = rows_of(explain(tmp_path / "in", tmp_path / "out", "--target", "top2", "--config", "epsilon-1", "--json"))
    assert again[-1]["kept"] == summary["kept"]
    contrast = explain(tmp_path / "in", tmp_path / "c", "--start", "contrastive", "--json")
    assert all("kept" not in row["relevance"] for row in rows_of(contrast)[:-1])
    assert "kept" not in rows_of(contrast)[-1]


@pytest.mark.parametrize("kept, warned", [([0.31, 0.9], False), ([0.1, 0.2, 0.9], True), ([-0.1, 0.9, 0.9], True)])
def test_the_summary_warns_of_small_and_negative_shares(kept, warned, tmp_path):
    console = ExplainConsole(1, tmp_path, "", ConsoleSettings())
    console.clear.extend(kept)
    (said,) = console.doubts() or [""]
    assert ("of the score reached the pixels" in said) == warned
    assert ("1 of 3 have a total of the wrong sign" in said) == (kept[0] < 0)


@pytest.mark.parametrize(
    "starts, said",
    [
        ([-0.01, 5.0], "in 1 of 2 maps what speaks for the class and against it cancels (cat in 0.jpg): the score is"),
        ([0.03, 0.03], None),  # over a hundredth of what is shared out
        ([0.01] * 5, "in 5 of 5 maps what speaks for the class and against it cancels (cat in 0.jpg, cat in 1.jpg, "),
    ],
)
def test_the_summary_says_where_a_kept_share_is_one_of_nothing(starts, said, tmp_path):
    console = ExplainConsole(1, tmp_path, "", ConsoleSettings(quiet=True))
    with console:
        for number, start in enumerate(starts):
            relevance = RelevanceRange(0.9 * start, start, -0.1, 0.1, kept=0.9, positive=1.0, negative=-0.99)
            one = ExplainedClass(Outputs({}), 0, "cat", 0.5, relevance, 0.1)
            top, name = (TopClass(0, "cat", 0.5),), f"{number}.jpg"
            console.show(Explained(input=name, name=name, classes=(one,), top=top, placement={}))
    assert [doubt[: len(said or "")] for doubt in console.doubts()] == ([said] if said else [])
    assert console.totals()["kept"]["median"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "scores, said",
    [
        ([0.1, 0.1, 0.9], ["in 2 of 3 images the best class has a probability under 20%: the net may not know"]),
        (
            [0.9, 0.1],
            ["in 1 of 2 images the best class has a probability under 20% (1.jpg): the net may not know what it shows"],
        ),
        ([0.1] * 4 + [0.5] * 4, ["(0.jpg, 1.jpg, 2.jpg, ...)"]),
        ([0.2, 0.5], []),
    ],
)
def test_the_summary_warns_of_low_scores(scores, said, tmp_path):
    console = ExplainConsole(1, tmp_path, "", ConsoleSettings(quiet=True))
    with console:
        for number, score in enumerate(scores):
            top = (TopClass(0, "cat", score),)
            name = f"{number}.jpg"
            console.show(Explained(input=name, name=name, classes=(), top=top, placement={}))
    doubts = console.doubts()
    assert len(doubts) == len(said)
    assert all(part in doubt for part, doubt in zip(said, doubts, strict=True))


def test_check_class_compares_the_maps_of_two_classes_and_goes_on_where_it_was_not_asked_for(tmp_path):
    folder_of_photos(tmp_path / "in", 3)
    plain = explain(tmp_path / "in", tmp_path / "out", "--json")
    assert "class_cosine" not in rows_of(plain)[0] and "Class check" not in plain.stderr
    checked = explain(tmp_path / "in", tmp_path / "out", "--json", "--check-class")
    rows = rows_of(checked)
    assert [row["status"] for row in rows[:-1]] == ["ok"] * 3  # done again, as their lines have no cosine
    cosines = [row["class_cosine"] for row in rows[:-1]]
    assert rows[-1]["class_cosine"] == pytest.approx(np.mean(cosines))
    assert "mean cosine of" in checked.stderr and "over 3 images" in checked.stderr
    again = explain(tmp_path / "in", tmp_path / "out", "--json", "--check-class")
    assert [row["status"] for row in rows_of(again)[:-1]] == ["skipped"] * 3
    assert rows_of(again)[-1]["class_cosine"] == rows[-1]["class_cosine"]


def test_the_summary_warns_of_maps_that_do_not_depend_on_the_class(tmp_path):
    console = ExplainConsole(1, tmp_path, "", ConsoleSettings())
    console.cosines.extend([0.97, 0.99])
    assert console.doubts() == ["these maps hardly depend on the class; see --start."]


def test_an_unexpected_error_is_a_sentence_and_a_traceback_only_with_vv(tmp_path, monkeypatch):
    monkeypatch.setattr("lrpcli.pipeline.agenda.run_stages", lambda *arguments: 1 / 0)
    path = photo(tmp_path / "a.png")
    quiet, loud = explain(path, tmp_path / "out"), explain(path, tmp_path / "out", "-vv")
    assert quiet.exit_code == loud.exit_code == 3
    assert "This is a bug" in quiet.stderr and "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr


@pytest.mark.slow
def test_names_of_any_bytes_as_a_real_process(tmp_path):
    names = [b"caf\xe9.png", b"-dash.png", b"new\nline.png", "ü".encode() + b".png"]
    (tmp_path / "in").mkdir()
    for number, name in enumerate(names):
        photo(tmp_path / "plain.png", number).rename(tmp_path / "in" / os.fsdecode(name))
    result = process("explain", *TINY_OPTIONS, tmp_path / "in", tmp_path / "out", "--print0")
    assert result.returncode == 0, result.stderr
    written = [path.rpartition(b"/")[2] for path in result.stdout.split(b"\0")[:-1]]
    assert written == sorted(name + b".png" for name in names)
    assert b"Traceback" not in result.stderr


@pytest.mark.slow
def test_a_reader_of_stdout_that_goes_away_ends_the_command_by_sigpipe(tmp_path):
    folder_of_photos(tmp_path / "in", 4)
    command = [sys.executable, "-m", "lrpcli", "explain", *TINY_OPTIONS, "-b", "1", tmp_path / "in", tmp_path / "out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdout.close()
        errors = running.stderr.read()
        assert running.wait(timeout=300) == -13, errors
    assert b"Traceback" not in errors and b"Error" not in errors


@pytest.mark.slow
def test_on_a_terminal_the_bar_makes_room_for_the_paths(tmp_path):
    folder_of_photos(tmp_path / "in", 3)
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    command = [sys.executable, "-m", "lrpcli", "explain", *TINY_OPTIONS, "-b", "1", tmp_path / "in", tmp_path / "out"]
    with subprocess.Popen(command, stdout=follower, stderr=follower) as running:
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):  # the far end closes
            while chunk := os.read(leader, 4096):
                shown += chunk
    os.close(leader)
    assert running.returncode == 0 and b"3/3" in shown
    for name in (b"0.png.png", b"2.png.png", b"1.png.png"):
        before = shown[: shown.index(name)].rpartition(os.fsencode(tmp_path))[0]
        assert before == b"" or before.endswith((b"\r", b"\n")), before[-40:]
