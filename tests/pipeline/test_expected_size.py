"""What is said of the room that results take, against what they take."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lrpcli import load_model
from lrpcli.cli import expected_size as command
from lrpcli.cli.explain import LARGE
from lrpcli.pipeline.expected_size import KindSize, kind_sizes
from lrpcli.pipeline.settings import OutputSettings
from lrpcli.records.store import npz_bytes
from tests.photos import TINY, folder_of_photos
from tests.resilience.runs import TINY_OPTIONS, lrp


@pytest.mark.parametrize(
    "options",
    [{}, {"dtype": "float16"}, {"dtype": "int16"}, {"channels": "keep"}, {"dtype": "int16", "channels": "keep"}],
    ids=str,
)
def test_maps_and_layers_take_exactly_what_was_said(tmp_path, options):
    folder_of_photos(tmp_path / "in", 1)
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    done = lrp("explain", *TINY_OPTIONS, tmp_path / "in", tmp_path / "out", "--save", "map,layers", *words)
    assert done.exit_code == 0
    model = load_model(TINY, input_shape=(3, 32, 32), preprocessing="caffe")
    sizes = {size.kind: size for size in kind_sizes(OutputSettings(save="map,layers", **options), model)}
    assert sizes["map"] == KindSize("map", (tmp_path / "out" / "0.png.npy").stat().st_size)
    assert sizes["layers"] == KindSize("layers", (tmp_path / "out" / "0.png.layers.npz").stat().st_size)
    assert re.search(r"will take \S+ kB in .*: map .* kB, layers .* kB", done.stderr)


def test_names_of_layers_count_by_their_bytes(monkeypatch):
    """A .npz file holds each of them twice, in UTF-8."""
    rows = [SimpleNamespace(name="größe/猫", output=(2, 3)), SimpleNamespace(name="b", output=(4,))]
    monkeypatch.setattr("lrpcli.pipeline.expected_size.layer_table", lambda model: rows)
    (size,) = kind_sizes(OutputSettings(save="layers"), None)
    assert size.bytes == len(npz_bytes({row.name: np.zeros(row.output, np.float32) for row in rows}))


def test_estimates_say_what_they_go_by():
    model = load_model(TINY, input_shape=(3, 32, 32), preprocessing="caffe")
    overlay, on_photo = kind_sizes(OutputSettings(map_space="image"), model)
    assert overlay.estimated_by == "at 1.5 bytes a pixel of 512 x 384" and overlay.bytes == pytest.approx(
        1.5 * 512 * 384
    )
    assert on_photo.estimated_by == "for photos of 500 x 375" and on_photo.bytes == 128 + 4 * 500 * 375
    small, _ = kind_sizes(OutputSettings(overlay_size="model"), model)
    assert small.bytes == pytest.approx(1.5 * 32 * 24)


def test_the_pictures_of_real_photos_take_about_what_is_said(tmp_path):
    """Within a factor of two, on the ten that come with the package."""
    photos = Path(__file__).resolve().parents[2] / "sample_images"
    lrp("explain", *TINY_OPTIONS, photos, tmp_path / "out", "--save", "overlay")
    sizes = [path.stat().st_size for path in (tmp_path / "out").glob("*.png")]
    model = load_model(TINY, input_shape=(3, 32, 32), preprocessing="caffe")
    (said,) = kind_sizes(OutputSettings(save="overlay"), model)
    assert len(sizes) == 10 and said.bytes / 2 < sum(sizes) / 10 < said.bytes * 2


def test_a_large_run_says_what_it_takes_before_its_first_image_and_a_small_one_does_not(tmp_path, monkeypatch):
    folder_of_photos(tmp_path / "in", 4)
    out = tmp_path / "out"
    assert LARGE == 10_000
    assert "will take" not in lrp("explain", *TINY_OPTIONS, tmp_path / "in", out).stderr
    monkeypatch.setattr("lrpcli.cli.explain.LARGE", 3)
    (out / "0.png.npy").unlink()
    assert "will take" not in lrp("explain", *TINY_OPTIONS, tmp_path / "in", out).stderr, "one image is left to do"
    done = lrp("explain", *TINY_OPTIONS, tmp_path / "in", out, "--force", "--target", "top2")
    said = done.stderr.splitlines()[0]
    assert said.startswith("The results of 4 images will take about 2.4 MB in ")
    assert said.endswith(": overlay 2.4 MB at 1.5 bytes a pixel of 512 x 384, map 33.8 kB.")
    assert "will take" not in lrp("explain", *TINY_OPTIONS, tmp_path / "in", out, "--force", "-q").stderr


def test_a_disk_that_is_too_small_is_a_warning(tmp_path, monkeypatch):
    sizes = [KindSize("map", 1000.0)]
    monkeypatch.setattr(command.shutil, "disk_usage", lambda place: SimpleNamespace(free=10_000))
    assert command.expected_size(10, sizes, tmp_path / "not" / "there") == (
        f"The results of 10 images will take 10.0 kB in {tmp_path}/not/there: map 10.0 kB."
    )
    warned = command.expected_size(11, sizes, tmp_path).splitlines()
    assert len(warned) == 2 and warned[1].startswith("Warning: 10.0 kB are free there")


def test_free_space_that_nobody_knows_is_no_warning(tmp_path, monkeypatch):
    def fails(place):
        raise OSError

    monkeypatch.setattr(command.shutil, "disk_usage", fails)
    assert "Warning" not in command.expected_size(1, [KindSize("map", 1e30)], tmp_path)
    assert command.free_space(tmp_path) is None
