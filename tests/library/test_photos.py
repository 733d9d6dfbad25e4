"""What counts as an image in Python: each kind gives the map of the same file, and what cannot be known is refused."""

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lrpcli
from lrpcli.errors import ImageError, LrpError, UsageError
from tests.library.nets import TINY_NET
from tests.photos import photo


def map_of(image, **options):
    return lrpcli.explain(image, **TINY_NET, **options).map


def pixels(path):
    with Image.open(path) as picture:
        return np.array(picture.convert("RGB"))


def test_path_picture_array_and_tensor_of_one_photo_have_one_map(path):
    expected = map_of(path)
    assert np.abs(expected).max() > 0
    array = pixels(path)
    for image in (str(path), Image.open(path), Image.fromarray(array), array, array[::-1][::-1],
                  torch.from_numpy(array).permute(2, 0, 1)):  # fmt: skip
        np.testing.assert_array_equal(map_of(image), expected)


def test_a_list_gives_a_list_in_order_and_sizes_may_differ(tmp_path):
    paths = [photo(tmp_path / f"{number}.png", number, size=(40 + 9 * number, 50)) for number in range(4)]
    mixed = [paths[0], Image.open(paths[1]), pixels(paths[2]), torch.from_numpy(pixels(paths[3])).permute(2, 0, 1)]
    results = lrpcli.explain(mixed, **TINY_NET)
    assert [result.source for result in results] == [str(paths[0]), "image 2", "image 3", "image 4"]
    for one, result in zip(paths, results, strict=True):
        alone = map_of(one)
        np.testing.assert_allclose(result.map, alone, rtol=0, atol=1e-5 * np.abs(alone).max())


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_iterables_are_lists_too_in_batches_of_any_size(tmp_path, batch):
    paths = [photo(tmp_path / f"{number}.png", number) for number in range(5)]
    expected = [map_of(path) for path in paths]
    for images in (tuple(paths), iter(paths), (pixels(path) for path in paths)):
        results = lrpcli.explain(images, **TINY_NET, batch_size=batch)
        assert len(results) == 5
        for result, alone in zip(results, expected, strict=True):
            assert result.relevance.base is None  # not a part of the batch, which would stay in memory
            np.testing.assert_allclose(result.map, alone, rtol=0, atol=1e-5 * np.abs(alone).max())


def test_no_images_give_no_results():
    assert lrpcli.explain([], **TINY_NET) == []
    with pytest.raises(LrpError, match="There is no model named"):
        lrpcli.explain([], "cifar11")


def test_a_grey_array_is_a_grey_photo(path):
    grey = np.asarray(Image.open(path).convert("L"))
    np.testing.assert_array_equal(map_of(grey), map_of(np.stack([grey] * 3, 2)))


def saved(tmp_path, picture, name="x.png", **options):
    picture.save(tmp_path / name, **options)
    return tmp_path / name


def test_alpha_is_laid_on_white_as_in_a_file(tmp_path, path):
    picture = Image.open(path).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    np.testing.assert_array_equal(map_of(picture), map_of(saved(tmp_path, picture)))
    assert not np.array_equal(map_of(picture), map_of(picture.convert("RGB")))


def test_16_bits_are_scaled_as_in_a_file(tmp_path):
    deep = Image.fromarray((np.arange(40 * 50).reshape(40, 50) * 32).astype(np.uint16))
    np.testing.assert_array_equal(map_of(deep), map_of(saved(tmp_path, deep)))
    clipped = deep.convert("I").convert("L")  # what Pillow itself would make of it
    assert not np.array_equal(map_of(deep), map_of(clipped))


def test_a_picture_is_turned_upright_as_in_a_file(tmp_path, path):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = saved(tmp_path, Image.open(path), exif=exif)
    assert lrpcli.explain(Image.open(file), **TINY_NET).placement.image_size == (70, 50)
    np.testing.assert_array_equal(map_of(Image.open(file)), map_of(file))


def test_a_transparent_colour_is_white_and_the_picture_stays_as_it_is(tmp_path, path):
    picture = Image.open(path).convert("RGB")
    picture.info["transparency"] = picture.getpixel((0, 0))
    first = map_of(picture)
    assert picture.info["transparency"] == picture.getpixel((0, 0))
    np.testing.assert_array_equal(map_of(picture), first)
    assert not np.array_equal(first, map_of(path))


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        (np.zeros((8, 8, 3)), "array of float64. Whether its numbers are 0 to 1"),
        (np.zeros((8, 8, 3), np.float32), "array of float32"),
        (np.zeros((8, 8), np.uint16), "array of uint16"),
        (np.zeros((8, 8, 3), bool), "array of bool"),
        (np.zeros((8, 8, 3), np.int64), "array of int64"),
        (np.array(["a.png"]), "array of <U5"),
        (np.zeros((3, 8, 9), np.uint8), r"shape \(3, 8, 9\).*array.transpose\(1, 2, 0\)"),
        (np.zeros((8, 9, 4), np.uint8), r"Image.fromarray\(array, 'RGBA'\) if it is alpha"),
        (np.zeros((2, 8, 9, 3), np.uint8), r"is a batch: an array .* Give list\(array\)"),
        (np.zeros((0, 9, 3), np.uint8), r"shape \(0, 9, 3\)"),
        (np.zeros(9, np.uint8), r"shape \(9,\)"),
        (np.ma.masked_less(np.full((8, 9, 3), 7, np.uint8), 3), "is a masked array"),
        (torch.zeros(3, 8, 9, dtype=torch.uint8).to_sparse(), "whose pixels cannot be read"),
        (torch.zeros(3, 8, 9, dtype=torch.uint8, device="meta"), "whose pixels cannot be read"),
        (np.uint8(3), "not an object of type uint8"),
        (torch.zeros(3, 8, 9), "tensor of float32. .* already preprocessed cannot be known"),
        (torch.zeros(8, 9, 3, dtype=torch.uint8), r"tensor.permute\(2, 0, 1\)"),
        (torch.zeros(1, 3, 8, 9, dtype=torch.uint8), r"is a batch: a tensor .* Give list\(tensor\)"),
        (torch.zeros(1, 8, 9, dtype=torch.uint8), r"shape \(1, 8, 9\)"),
        (b"\x89PNG", r"type bytes. Open what a file holds with PIL.Image.open, which takes"),
        (io.BytesIO(b"a line\n"), "type BytesIO. Open what a file holds"),
        (None, "type NoneType"),
        (7, "type int"),
        ({"a.png": 1}, "a dict does not say"),
        ({"a.png"}, "a set does not say"),
        ([["a.png"]], "type list"),
        ([None], "The image 'image 1' is a path, a PIL image"),
    ],
)
def test_what_cannot_be_known_is_refused_by_name(image, complaint):
    with pytest.raises(UsageError, match=complaint):
        lrpcli.explain(image, **TINY_NET)


@pytest.mark.parametrize(
    ("make", "kind", "complaint"),
    [
        (lambda folder: folder / "no.png", "io", "'.*no.png' does not exist"),
        (lambda folder: folder, "io", "is a folder"),
        (lambda folder: (folder / "b.png").write_bytes(b"no") and folder / "b.png", "decode", "is not a picture"),
        (lambda folder: Image.new("F", (8, 8)), "unsupported", "'image 1' holds floating-point pixels"),
        (lambda folder: Image.fromarray(np.full((8, 8), 70000, np.int32)), "unsupported", "beyond 16 bits"),
    ],
)
def test_images_that_cannot_be_decoded_are_named(tmp_path, make, kind, complaint):
    with pytest.raises(ImageError, match=complaint) as caught:
        lrpcli.explain(make(tmp_path), **TINY_NET)
    assert caught.value.kind == kind


def test_a_cut_off_picture_fails_as_its_file_does_and_can_be_accepted(tmp_path):
    whole = photo(tmp_path / "a.jpg", size=(300, 200))
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:-900])
    accept = lrpcli.DecodePolicy(truncated="accept")
    for opened in (lambda: contextlib.nullcontext(cut), lambda: Image.open(cut)):
        with opened() as image, pytest.raises(ImageError, match="truncated|damaged"):
            lrpcli.explain(image, **TINY_NET)
        with opened() as image:
            assert np.abs(lrpcli.explain(image, **TINY_NET, decoding=accept).map).max() > 0


def test_the_limit_of_pixels_holds_for_pictures_too(path):
    small = lrpcli.DecodePolicy(max_pixels=2000)
    for image in (path, Image.fromarray(pixels(path)), pixels(path)):
        with pytest.raises(ImageError, match="70 x 50 pixels, more than the 2000"):
            lrpcli.explain(image, **TINY_NET, decoding=small)


def test_paths_may_be_path_objects_and_relative(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    result = lrpcli.explain(Path("a.png"), **TINY_NET)
    assert result.source == "a.png"
    monkeypatch.chdir("/")
    assert result.overlay(size=35).size == (35, 25)  # reads the file again, wherever the program is now
