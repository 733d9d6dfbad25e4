"""lrp explain: formats and styles of pictures as files, how they are named, refused and resumed."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.photos import folder_of_photos, photo
from tests.resilience.runs import TINY_OPTIONS, command, environment, explain, lrp, require_whole, rows

SUFFIXES = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}
STARTS = {"png": b"\x89PNG", "webp": b"RIFF", "jpeg": b"\xff\xd8\xff", "pdf": b"%PDF-", "svg": b"<?xml"}


@pytest.mark.parametrize("name", SUFFIXES)
def test_the_suffix_follows_the_format(tmp_path, name):
    path, out = photo(tmp_path / "a.jpg"), tmp_path / "out"
    result = explain(path, out, "--picture-format", name, "--save", "overlay,heatmap,map", "--json")
    assert result.returncode == 0, result.stderr
    outputs = rows(result)[0]["outputs"]
    assert outputs == {"overlay": f"{out}/a.jpg{SUFFIXES[name]}", "heatmap": f"{out}/a.jpg.heatmap{SUFFIXES[name]}",
                       "map": f"{out}/a.jpg.npy"}  # fmt: skip
    for kind in ("overlay", "heatmap"):
        assert Path(outputs[kind]).read_bytes().startswith(STARTS[name])
        with Image.open(outputs[kind]) as picture:
            assert picture.format == name.upper() and picture.size == (480, 400)
    again = explain(path, out, "--picture-format", name, "--save", "overlay,heatmap,map", "--json")
    assert rows(again)[0]["status"] == "skipped"


def test_another_format_in_the_same_folder_is_another_run(tmp_path):
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    assert explain(path, out).returncode == 0
    refused = explain(path, out, "--picture-format", "webp")
    assert refused.returncode == 2
    assert b'output.picture_format was "png" and is now "webp"' in refused.stderr
    assert explain(path, out, "--picture-format", "webp", "--force").returncode == 0
    assert (out / "a.png.webp").exists()
    for options in (["--quality", "50"], ["--outside", "crop"]):
        refused = explain(path, out, "--picture-format", "webp", *options)
        assert refused.returncode == 2 and b"output." in refused.stderr


def test_a_picture_that_is_gone_is_made_again(tmp_path):
    path, out = photo(tmp_path / "a.png"), tmp_path / "out"
    options = ("--style", "figure", "--picture-format", "svg", "--json")
    assert rows(explain(path, out, *options))[0]["status"] == "ok"
    assert rows(explain(path, out, *options))[0]["status"] == "skipped"
    (out / "a.png.svg").unlink()
    assert rows(explain(path, out, *options))[0]["status"] == "ok"


def test_quality_makes_files_smaller(tmp_path):
    path = photo(tmp_path / "a.png", size=(400, 300))
    sizes = []
    for quality in ("30", "95"):
        out = tmp_path / quality
        assert explain(path, out, "--picture-format", "jpeg", "--quality", quality).returncode == 0
        sizes.append((out / "a.png.jpg").stat().st_size)
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--picture-format", "pdf"], "--picture-format pdf is for figures, and --style overlay draws pixels alone."),
        (["--picture-format", "svg", "--style", "contour"], "png, webp or jpeg, or --style figure."),
        (["--picture-format", "pdf", "--style", "figure", "--save", "overlay,heatmap"], "--save heatmap writes pixels"),
        (["--picture-format", "gif"], "--picture-format 'gif' is not known."),
        (["--picture-format", "jpg"], "Did you mean 'jpeg'?"),
        (["--quality", "50"], "--quality is of WebP and JPEG pictures, and --picture-format is png."),
        (["--quality", "0", "--picture-format", "webp"], "0 is not in the range 1<=x<=100."),
        (["--outside", "dimm"], "--outside 'dimm' is not known. Did you mean 'dim'?"),
        (["--style", "figur"], "Did you mean 'figure'?"),
        (["--style", "figure", "--overlay-size", "4096"], "has room for pictures of 2048 pixels a side"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_read(tmp_path, options, sentence):
    result = explain(photo(tmp_path / "a.png"), tmp_path / "out", *options)
    assert result.returncode == 2
    assert sentence in re.sub(r"\s+", " ", result.stderr.decode())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", STARTS)
def test_figures_of_many_images_at_once(tmp_path, name):
    folder, out = folder_of_photos(tmp_path / "in", 4), tmp_path / "out"
    options = ("--style", "figure", "--picture-format", name, "-j", "3", "--target", "top2", "--json")
    result = explain(folder, out, *options)
    assert result.returncode == 0, result.stderr
    found = [part["outputs"]["overlay"] for row in rows(result)[:-1] for part in row["explanations"]]
    assert len(found) == 8
    for path in found:
        assert Path(path).read_bytes().startswith(STARTS[name])


def test_a_figure_names_class_score_kept_share_and_unit(tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"$x^{number}$ <b>thing</b>" for number in range(10)))
    options = ("--style", "figure", "--picture-format", "svg", "--labels", labels, "--target", "3", "--json")
    row = rows(explain(photo(tmp_path / "a.png"), tmp_path / "out", *options))[0]
    text = Path(row["outputs"]["overlay"]).read_text(encoding="utf-8")
    assert "$x^3$ &lt;b&gt;thing&lt;/b&gt;" in text and "(logits)" in text
    assert f"score {100 * row['score']:.0f} %, kept {100 * row['relevance']['kept']:.0f} %" in text
    assert str(tmp_path) not in text and "a.png" not in text
    row = rows(explain(tmp_path / "a.png", tmp_path / "one", *options, "--start", "one"))[0]
    assert "(parts of 1)" in Path(row["outputs"]["overlay"]).read_text(encoding="utf-8")


def test_cropping_to_what_the_model_saw(tmp_path):
    path = photo(tmp_path / "a.png", size=(90, 30))
    sizes = {}
    for outside in ("dim", "crop", "plain"):
        out = tmp_path / outside
        result = explain(path, out, "--outside", outside, "--resize", "32", "--json")
        assert result.returncode == 0, result.stderr
        with Image.open(out / "a.png.png") as picture:
            sizes[outside] = picture.size
        assert rows(result)[0]["status"] == "ok"
    assert sizes == {"dim": (450, 150), "crop": (510, 510), "plain": (450, 150)}
    maps = [np.load(tmp_path / outside / "a.png.npy") for outside in sizes]
    assert all(np.array_equal(one, maps[0]) for one in maps)


def test_only_figures_load_matplotlib(tmp_path):
    path = photo(tmp_path / "a.png")
    cases = {(): False, ("--style", "figure", "--save", "map"): False, ("--style", "figure"): True}
    for options, loaded in cases.items():
        code = (
            "import sys, atexit\n"
            "atexit.register(lambda: sys.stderr.write(f\"loaded {'matplotlib' in sys.modules}, \"\n"
            "    f\"pyplot {'matplotlib.pyplot' in sys.modules}\"))\n"
            "from lrpcli.cli import main\nmain(sys.argv[1:])\n"
        )
        line = [*command()[:1], "-c", code, "explain", *TINY_OPTIONS, *options, str(path), str(tmp_path / f"{options}")]
        result = subprocess.run(line, capture_output=True, text=True, env=environment(), check=True, timeout=300)
        assert result.stderr.endswith(f"loaded {loaded}, pyplot False")


def test_settings_files_may_choose_the_format(tmp_path):
    file = tmp_path / "lrp.toml"
    file.write_text('picture-format = "webp"\nquality = 70\noutside = "crop"\n')
    shown = json.loads(lrp("explain", "--settings", file, "--show-settings", "--json").stdout)
    values = {row["option"]: row["value"] for row in shown}
    assert (values["picture-format"], values["quality"], values["outside"]) == ("webp", 70, "crop")
    assert lrp("explain", "--show-settings", env={"LRP_QUALITY": "x"}).exit_code == 2


@pytest.mark.slow
def test_a_figure_without_any_folder_to_write_into(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("matplotlibrc")
    photo(tmp_path / "in" / "a.png")
    (tmp_path / "nowhere").write_text("no folder")
    places = dict.fromkeys(("HOME", "TMPDIR", "MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), "/proc/nowhere")
    line = command("explain", *TINY_OPTIONS, "--style", "figure", "in", "out")
    result = subprocess.run(line, capture_output=True, env=environment(**places), check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count(b"\n") == 1 and b"1 image: 1 explained" in result.stderr
    require_whole("out")
    assert {path.name for path in Path("out").iterdir()} == {".lrp", "a.png.png", "a.png.npy"}
