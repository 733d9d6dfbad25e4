"""The made-up pictures: known masks, the same files for the same seed, a tag in one class alone."""

import numpy as np
import pytest
from PIL import Image

from training import shapes
from training.data import load_photos


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def folder(tmp_path):
    shapes.main(["pictures", str(tmp_path / "plain"), "--count", "5", "--seed", "3"])
    shapes.main(["pictures", str(tmp_path / "tagged"), "--count", "5", "--seed", "3", "--tag", "cross"])
    return tmp_path


def test_each_picture_has_a_mask_of_the_shape_that_decides(folder):
    for name in shapes.CLASSES:
        for number in range(5):
            picture, mask = (
                pixels(folder / "plain" / kind / name / f"{number:04}.png") for kind in ("photos", "masks")
            )
            assert picture.shape == (48, 48, 3) and mask.shape == (48, 48)
            inside = picture[mask > 0].reshape(-1, 3)
            assert 40 < len(inside) < 300
            assert (inside == inside[0]).all()  # of one colour, unlike what lies around it
            around = picture[(mask == 0)].reshape(-1, 3)
            assert (around == inside[0]).all(1).mean() < 0.01


@pytest.mark.parametrize("name", shapes.CLASSES)
def test_masks_have_the_form_of_their_class(name):
    mask = shapes.SHAPES[name](*shapes.grid((24, 24)), 8.0)
    rows = mask.sum(1)[mask.any(1)]
    assert (mask == mask[:, ::-1]).mean() > 0.9
    widths = {"disc": rows[len(rows) // 2] > rows[0] > 0, "square": len(set(rows)) == 1,
              "triangle": rows[-1] > 3 * rows[0], "cross": rows[len(rows) // 2] > 2 * rows[0]}  # fmt: skip
    assert widths[name]


def test_the_tag_is_in_one_class_alone_and_nothing_else_differs(folder):
    for name in shapes.CLASSES:
        for number in range(5):
            plain, tagged = (
                pixels(folder / kind / "photos" / name / f"{number:04}.png") for kind in ("plain", "tagged")
            )
            differs = (plain != tagged).any(2)
            assert differs.any() == (name == "cross")
            tag = folder / "tagged" / "tags" / name / f"{number:04}.png"
            assert tag.exists() == (name == "cross")
            assert not (differs & ~(pixels(tag) > 0 if tag.exists() else False)).any()
    assert not (folder / "plain" / "tags").exists()


def test_the_same_seed_makes_the_same_pictures(folder, tmp_path):
    shapes.main(["pictures", str(tmp_path / "again"), "--count", "5", "--seed", "3"])
    shapes.main(["pictures", str(tmp_path / "other"), "--count", "5", "--seed", "4"])
    place = ("photos", "disc", "0001.png")
    first, again, other = (pixels(tmp_path.joinpath(kind, *place)) for kind in ("plain", "again", "other"))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_the_net_trains_on_them(folder, capsys):
    data, out = folder / "plain" / "photos", folder / "net.safetensors"
    shapes.main(["net", "--data", str(data), "--out", str(out), "--epochs", "1", "--device", "cpu"])
    assert load_photos([data], 48, folder / "work").classes == sorted(shapes.CLASSES)
    assert out.is_file() and "photos: 4" in capsys.readouterr().out
