"""lrp compare: maps, scales and kept shares on the sheets, and how runs go on, fail and are refused."""

import base64
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from lrpcli.cli import main
from lrpcli.pictures.picture import draw
from lrpcli.pictures.style import PictureStyle
from tests.photos import TINY, folder_of_photos, photo

NET = ("--model", TINY, "--input-shape", "3,32,32", "--preprocessing", "caffe")
FLOW = ("--timeout", "0", "--jobs", "1")
CONFIGS = ("--config", "epsilon", "--config", "beta-1")


def lrp(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


def compare(*arguments, code=0, net=NET):
    return lrp("compare", *net, *FLOW, *arguments, code=code)


def rows(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def maps_of(path):
    with np.load(path) as arrays:
        return arrays["photo"], [arrays[f"map{number}"] for number in range(1, len(arrays.files))]


def texts(path):
    return [element.text for element in ElementTree.parse(path).iter() if element.tag.endswith("}text")]


def pictures(path):
    """The pictures in an SVG file, in its order: photo, maps, differences; the colour bar comes last."""
    images = re.findall(r'href="data:image/png;base64,([^"]+)"', Path(path).read_text())
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB")) for image in images]


def test_maps_and_numbers_are_those_of_explain(tmp_path):
    folder = folder_of_photos(tmp_path / "in", 3)
    shown = rows(compare(folder, "-o", tmp_path / "out", *CONFIGS, "--json"))
    for column, config in enumerate(("epsilon", "beta-1")):
        explained = rows(lrp("explain", *NET, *FLOW, folder, tmp_path / config, "--config", config, "--json"))
        for mine, theirs in zip(shown[:3], explained[:3], strict=True):
            one = mine["maps"][column]
            assert one["column"] == config and mine["input"] == theirs["input"]
            assert [one["target"], one["label"], one["score"]] == [theirs[key] for key in ("target", "label", "score")]
            assert [one["kept"], one["began"]] == [theirs["relevance"][key] for key in ("kept", "start")]
            expected = np.load(theirs["outputs"]["map"])
            assert np.array_equal(maps_of(mine["outputs"]["maps"])[1][column], expected)


def test_pixels_are_those_of_an_overlay_on_the_stated_scale(tmp_path):
    path = photo(tmp_path / "a.png", size=(300, 200))
    options = ("--overlay-size", "160", "--smooth", "0")
    one = rows(compare(path, "-o", tmp_path / "out", *CONFIGS, *options, "--picture-format", "svg", "--json"))[0]
    _, maps = maps_of(one["outputs"]["maps"])
    scale = max(np.percentile(np.abs(values), 99.5) for values in maps)
    assert [part["scale"] for part in one["maps"]] == pytest.approx([scale, scale])
    for sheet in (one["outputs"]["sheet"], tmp_path / "out" / "sheet.svg"):
        said = texts(sheet)
        assert f"\N{GREATER-THAN OR EQUAL TO} {scale:.2g}" in said
        assert [text for text in said if text.startswith("kept")] == [
            f"kept {100 * m['kept']:.0f}%" for m in one["maps"]
        ]
        assert "epsilon" in said and "beta-1" in said and any("a.png" in text for text in said)
        found = pictures(sheet)
        for column, config in enumerate(("epsilon", "beta-1"), 1):
            out = tmp_path / f"{config}{column}"
            lrp(
                "explain",
                *NET,
                path,
                out,
                "--config",
                config,
                *options,
                "--scale",
                repr(one["maps"][0]["scale"]),
                "--force",
            )
            with Image.open(out / "a.png.png") as overlay:
                assert np.array_equal(found[column], np.asarray(overlay))


def test_each_unit_has_its_scale_below_its_maps(tmp_path):
    path = photo(tmp_path / "a.png")
    options = ("--start", "logit", "--start", "probability", "--smooth", "0", "--picture-format", "svg", "--json")
    one = rows(compare(path, "-o", tmp_path / "out", *options))[0]
    _, maps = maps_of(one["outputs"]["maps"])
    scales = [np.percentile(np.abs(values), 99.5) for values in maps]
    assert [part["scale"] for part in one["maps"]] == pytest.approx(scales)
    said = " ".join(filter(None, texts(one["outputs"]["sheet"])))
    assert f"full colour {scales[0]:.2g} logits" in said.replace("\n", " ")
    assert f"{scales[1]:.2g} parts of the" in said
    assert "\N{GREATER-THAN OR EQUAL TO}" not in said


@pytest.mark.parametrize("scale", ["map", "run", "0.25"])
def test_scale(tmp_path, scale):
    folder, options = folder_of_photos(tmp_path / "in", 3), ("--scale", scale, "--picture-format", "jpeg", "--json")
    images = rows(compare(folder, "-o", tmp_path / "out", *CONFIGS, *options))[:3]
    assert all(image["outputs"]["sheet"].endswith(".jpg") for image in images)
    own = [[one["own"] for one in image["maps"]] for image in images]
    expected = {"map": own, "run": [[max(map(max, own))] * 2] * 3, "0.25": [[0.25] * 2] * 3}[scale]
    assert [[one["scale"] for one in image["maps"]] for image in images] == expected
    again = rows(compare(folder, "-o", tmp_path / "out", *CONFIGS, *options))
    assert [image["status"] for image in again[:3]] == ["skipped"] * 3


def test_difference(tmp_path):
    path = photo(tmp_path / "a.png")
    options = ("--target", "top2", "--difference", "--picture-format", "svg", "--json")
    one = rows(compare(path, "-o", tmp_path / "out", *options))[0]
    assert [part["column"] for part in one["maps"]] == ["top 1", "top 2"]
    seen, (first, second) = maps_of(one["outputs"]["maps"])
    products = [[float(a) * float(b) for a, b in zip(x.flat, y.flat, strict=True)]
                for x, y in ((first, second), (first, first), (second, second))]  # fmt: skip
    cosine = sum(products[0]) / (sum(products[1]) * sum(products[2])) ** 0.5
    assert one["maps"][1]["cosine"] == pytest.approx(cosine, abs=1e-5) and "cosine" not in one["maps"][0]
    found = pictures(one["outputs"]["sheet"])
    height, width = seen.shape[:2]
    expected = draw(
        Image.fromarray(seen), second - first, (0, 0, width, height), PictureStyle(), one["maps"][0]["scale"]
    )
    assert len(found) == 5 and np.array_equal(found[3], np.asarray(expected))
    assert f"cosine with the first {cosine:.2f}" in texts(one["outputs"]["sheet"])


@pytest.mark.slow
def test_every_model_has_its_own_preprocessing_and_place(tmp_path):
    path = photo(tmp_path / "a.png", size=(90, 60))
    nets = ("--model", "cifar10", "--model", "caffenet-small")
    one = rows(compare(path, "-o", tmp_path / "out", "--json", net=nets))[0]
    for column, name in enumerate(("cifar10", "caffenet-small")):
        theirs = rows(lrp("explain", "--model", name, *FLOW, path, tmp_path / name, "--json", "--force"))[0]
        assert one["maps"][column]["label"] == theirs["label"]
        assert np.array_equal(maps_of(one["outputs"]["maps"])[1][column], np.load(theirs["outputs"]["map"]))
    grids = [part["placement"] for part in one["maps"]]
    assert grids[0]["size"] != grids[1]["size"] and grids[0]["image_size"] == grids[1]["image_size"] == [60, 90]
    refused = compare(path, "-o", tmp_path / "out2", "--difference", net=nets, code=2)
    assert "--difference subtracts maps of one unit" in refused.stderr
    assert not (tmp_path / "out2").exists()


@pytest.mark.slow
def test_a_run_goes_on_and_other_settings_are_another_run(tmp_path):
    folder, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    first = compare(folder, "-o", out, *CONFIGS)
    sheets = [f"{out}/{name}" for name in ("0.png.compare.png", "2.png.compare.png", "cats/1.png.compare.png")]
    assert sorted(first.stdout.split()) == sorted([*sheets, f"{out}/sheet.png"])
    page = (out / "sheet.png").read_bytes()
    (out / "2.png.compare.png").unlink()
    again = rows(compare(folder, "-o", out, *CONFIGS, "--json"))
    assert sorted(image["status"] for image in again[:3]) == ["ok", "skipped", "skipped"]
    assert again[3]["sheets"] == [f"{out}/sheet.png"] and (out / "sheet.png").read_bytes() == page
    refused = compare(folder, "-o", out, "--config", "epsilon", "--config", "beta-0", code=2)
    assert "made otherwise" in refused.stderr and "beta-0" in refused.stderr
    assert json.loads(lrp("status", out, "--json").stdout)["done"] == 3


@pytest.mark.slow
def test_pages(tmp_path):
    folder, out = folder_of_photos(tmp_path / "in", 5), tmp_path / "out"
    compare(folder, "-o", out, *CONFIGS, "--per-page", "2")
    assert sorted(path.name for path in out.glob("sheet*")) == ["sheet-1.png", "sheet-2.png", "sheet-3.png"]
    compare(folder, "-o", out, *CONFIGS, "--per-page", "5")
    assert [path.name for path in out.glob("sheet*")] == ["sheet.png"]
    compare(folder, "-o", tmp_path / "pdf", *CONFIGS, "--per-page", "2", "--picture-format", "pdf")
    assert len(re.findall(rb"/Type /Page\b", (tmp_path / "pdf" / "sheet.pdf").read_bytes())) == 3
    compare(folder, "-o", tmp_path / "none", *CONFIGS, "--per-page", "0")
    assert not list((tmp_path / "none").glob("sheet*"))


@pytest.mark.slow
def test_the_last_shard_makes_the_sheet_of_all(tmp_path):
    folder, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "out"
    first = compare(folder, "-o", out, *CONFIGS, "--shard", "1/2")
    assert not (out / "sheet.png").exists() and "2 of all 3 images have ended" in first.stderr
    last = compare(folder, "-o", out, *CONFIGS, "--shard", "2/2", "--picture-format", "png")
    assert f"{out}/sheet.png" in last.stdout.split()


@pytest.mark.slow
def test_a_failed_image_stops_no_other(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for number, name in enumerate(("cat", "dog", "nobody")):
        photo(folder / name / "a.png", number)
    (folder / "dog" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    nets = ("--model", "cifar10")
    options = ("--target", "top", "--target", "from-folder", "--picture-format", "svg")
    result = compare(folder, "-o", out, *options, "--json", net=nets, code=1)
    *images, summary = rows(result)
    assert [image["status"] for image in images] == ["ok", "ok", "failed", "failed"]
    assert "In the column 'class of the folder': " in images[3]["error"]["message"]
    assert summary["sheets"] == [f"{out}/sheet.svg"]
    assert "2 images (2 failed)" in texts(out / "sheet.svg")
    stopped = compare(folder, "-o", out, *options, "--fail-fast", "--batch-size", "1", net=nets, code=1)
    assert "left" in stopped.stderr


def test_the_summary_warns_of_columns_that_keep_little(tmp_path):
    folder = folder_of_photos(tmp_path / "in", 3)
    (tmp_path / "heavy.toml").write_text('[kind]\nlinear = { rule = "epsilon", epsilon = 1e6 }\n')
    result = compare(folder, "-o", tmp_path / "out", "--config", "beta-0", "--config", tmp_path / "heavy.toml")
    said = [line for line in result.stderr.splitlines() if "of the score reached the pixels" in line]
    assert len(said) == 1 and "of heavy" in said[0] and said[0].startswith("Warning: a median of ")


def test_hostile_names_and_labels_stay_text(tmp_path):
    name = "a $\\frac{1}$ <b>&\x1b[31m\nb.png"
    photo(tmp_path / "in" / name)
    (tmp_path / "labels.txt").write_text("".join(f"$x_{number}^{{ <script> & \u202e\n" for number in range(10)))
    result = compare(tmp_path / "in", "-o", tmp_path / "out", *CONFIGS, "--picture-format", "svg", "--labels",
                     tmp_path / "labels.txt")  # fmt: skip
    assert "\x1b" not in result.stderr
    sheets = [tmp_path / "out" / "sheet.svg", tmp_path / "out" / f"{name}.compare.svg"]
    said = [" ".join(filter(None, texts(sheet))) for sheet in sheets]  # not to be parsed with control characters
    assert all("a $\\frac{1}$" in text and "<script> &" in text and "\u202e" not in text for text in said)
    assert "a $\\frac{1}$ <b>&\ufffd[31m b.png" in said[1]


def test_a_file_of_maps_that_was_tampered_with_is_named(tmp_path):
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    compare(path, "-o", out, *CONFIGS)
    (out / "a.png.compare.npz").write_bytes(b"nothing")
    result = compare(path, "-o", out, *CONFIGS, code=3)
    assert "a.png.compare.npz' cannot be read" in result.stderr and "--force" in result.stderr
    compare(path, "-o", out, *CONFIGS, "--force")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "There is a single map to show, and comparing needs two. Give one of --config"),
        (("--config", "epsilon", "--config", "epsilon"), "--config epsilon is given twice"),
        (("--config", "composite", "--config", "alpha2-beta1-epsilon"), "are the same: every layer of"),
        (("--target", "top9"), "9 maps of each image"),
        (("--target", "top2", "--target", "top3"), "Two columns are called 'top 1'"),
        (("--start", "logit", "--start", "one", "--scale", "2"), "--scale 2.0 is in one unit"),
        (("--target", "top2", "--style", "figure"), "--style figure is several pictures itself"),
        (("--target", "top2", "--scale", "imagee"), "Did you mean 'image'?"),
        (("--model", "cifar10", "--target", "top2"), "--input-shape is of one model"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_written(tmp_path, options, said):
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    assert said in compare(path, "-o", out, *options, code=2).stderr
    assert not out.exists()


def test_explain_points_here(tmp_path):
    result = lrp("explain", photo(tmp_path / "a.png"), tmp_path / "out", *CONFIGS, code=2)
    assert "lrp compare" in result.stderr
