"""Class folders, and mosaics of images of several classes."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lrpcli.evaluation.classes import MOST, ClassFolders, MosaicPreparation, mosaic_of
from lrpcli.images.find import Discovery, Source
from lrpcli.images.formats import DecodePolicy
from lrpcli.images.preprocess import Preprocessing

FOLDERS = {"cat": 3, "dog": 5, "frog": 7}
PREPROCESSING = Preprocessing((9, 12), mean=(10.0, 20.0, 30.0))


def plain(folder, value, name="0"):
    """A photo of one colour."""
    from PIL import Image

    path = folder / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 18), (value,) * 3).save(path)
    return path


@pytest.fixture
def photos(tmp_path):
    """Every class has its own grey."""
    for number, folder in enumerate(("cat", "dog", "frog", "misc")):
        for name in range(3):
            plain(tmp_path / folder, 40 * number + name, str(name))
    return list(Discovery([str(tmp_path)]))


def preparation(sources, seed=0, folders=FOLDERS):
    found = ClassFolders.of(sources, folders, seed)
    return MosaicPreparation(DecodePolicy(), PREPROCESSING, None, pictures=False, folders=found, seed=seed)


def test_images_by_the_class_of_their_folder(photos):
    found = ClassFolders.of(photos, FOLDERS, 0)
    assert {number: len(paths) for number, paths in found.images.items()} == {3: 3, 5: 3, 7: 3} and found.usable
    assert found.of_path("/x/dog/a.png") == 5 and found.of_path("/x/misc/a.png") is found.of_path("a.png") is None
    assert not ClassFolders.of(photos, {"cat": 3}, 0).usable
    assert not ClassFolders.of([source for source in photos if source.path.endswith("0.png")], FOLDERS, 0).usable
    many = [Source(f"/{folder}/{n}.png", f"{n}") for folder in FOLDERS for n in range(2 * MOST)]
    drawn = ClassFolders.of(many, FOLDERS, 0).images
    assert {len(set(paths)) for paths in drawn.values()} == {MOST}
    assert drawn == ClassFolders.of(many, FOLDERS, 0).images != ClassFolders.of(many, FOLDERS, 1).images
    assert ClassFolders.of([Source("-", "cat/stdin")], FOLDERS, 0).images == {}


def quarters(pixels):
    """The grey of each quarter, as 0..255."""
    photo = pixels[0] + 10
    return [float(part.mean()) for half in (photo[:4], photo[4:]) for part in (half[:, :6], half[:, 6:])]


def test_a_mosaic_shows_two_images_of_the_class_and_two_of_others(photos):
    prepare, seen = preparation(photos), set()
    for source in photos:
        mosaic = prepare(source).mosaic
        if "misc" in source.path:
            assert mosaic is None
            continue
        greys = quarters(mosaic.pixels)
        numbers = [round(grey) // 40 for grey in greys]
        target = {3: 0, 5: 1, 7: 2}[mosaic.target]
        assert mosaic.target == FOLDERS[source.path.split("/")[-2]]
        assert [number == target for number in numbers] == list(mosaic.cells) and sum(mosaic.cells) == 2
        assert sorted(set(numbers)) == [0, 1, 2] and len(set(map(round, greys))) == 4
        seen.add(mosaic.cells)
    assert len(seen) > 1


def test_a_mosaic_follows_from_the_seed_and_the_image(photos):
    one, two, other = (preparation(photos, seed)(photos[0]).mosaic for seed in (0, 0, 1))
    assert np.array_equal(one.pixels, two.pixels) and one.cells == two.cells
    assert not np.array_equal(one.pixels, other.pixels)


def test_a_broken_partner_is_passed_over(tmp_path):
    sources = [Source(str(plain(tmp_path / folder, 50, name)), name) for folder in ("cat", "dog") for name in "abc"]
    for name in "bc":
        (tmp_path / "dog" / f"{name}.png").write_bytes(b"no image")
    mosaic = preparation(sources)(sources[0]).mosaic
    assert mosaic is None  # two of another class are needed, and one is left
    plain(tmp_path / "dog", 50, "c")
    assert preparation(sources)(sources[0]).mosaic.cells.count(True) == 2


def test_shrunk_images_are_means_of_what_they_cover():
    generator = np.random.default_rng(0)
    black, white = PREPROCESSING.pixel_range()
    images = [black + (white - black) * generator.random((3, 9, 12)) for _ in range(4)]
    found = mosaic_of(images, PREPROCESSING)
    assert found.shape == (3, 9, 12) and found.dtype == np.float32
    # Columns: 12 to 6, so pairs. Rows: 9 to 4 above, so 2.25 rows each, and 9 to 5 below, so 1.8 each.
    pairs = images[0].reshape(3, 9, 6, 2).mean(3)
    np.testing.assert_allclose(found[:, 0, :6], (pairs[:, 0] + pairs[:, 1] + pairs[:, 2] / 4) / 2.25, rtol=1e-4)
    pairs = images[3].reshape(3, 9, 6, 2).mean(3)
    np.testing.assert_allclose(found[:, 8, 6:], (0.8 * pairs[:, 7] + pairs[:, 8]) / 1.8, rtol=1e-4)


def test_a_mean_image_is_not_shrunk_with_the_photo():
    generator = np.random.default_rng(0)
    mean = generator.random((3, 8, 8)).astype(np.float32) * 200
    preprocessing = Preprocessing((8, 8), mean=mean)
    found = mosaic_of([np.full((3, 8, 8), 77, np.float32) - mean] * 4, preprocessing)
    np.testing.assert_allclose(found, 77 - mean, atol=1e-3)


def test_decoding_processes_need_no_torch_for_mosaics():
    code = "import json, sys, lrpcli.evaluation.classes; print(json.dumps('torch' in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert json.loads(result.stdout) is False


def test_pixels_of_the_image_itself_are_as_without_mosaics(photos):
    prepare = preparation(photos)
    plain_one = super(MosaicPreparation, prepare).__call__(photos[0])
    assert np.array_equal(prepare(photos[0]).pixels, plain_one.pixels)
