"""Masks of objects: which picture is whose, what is marked on the model's grid, mass and rank, and hostile files."""

import csv
import io
import json
import os
import subprocess
import sys
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import lrpcli
from lrpcli.errors import ImageError, UsageError
from lrpcli.evaluation.classes import ClassFolders
from lrpcli.evaluation.evaluator import Evaluator
from lrpcli.evaluation.localisation import inside_boxes, rank_inside, share_inside
from lrpcli.evaluation.masks import MaskPreparation, find_masks, inside_mask
from lrpcli.evaluation.measurement import Measurement
from lrpcli.evaluation.settings import EvaluationSettings, PerturbationSettings
from lrpcli.images.find import Discovery
from lrpcli.images.formats import DecodePolicy
from lrpcli.images.masks import FORMATS, decode_mask, mask_policy
from lrpcli.images.placement import Placement
from lrpcli.images.preprocess import Preprocessing
from lrpcli.records.json_values import Fields, json_line
from tests.evaluation.measuring import measure
from tests.evaluation.test_command import evaluate, results_of, rows_of
from tests.photos import TINY, folder_of_photos, photo

POLICY = mask_policy(DecodePolicy())


def mask(path, box=(0, 0, 24, 40), size=(48, 40), mode="L"):
    """A picture of a rectangle (left, top, right, bottom)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, size)
    image.paste(1 if mode == "1" else 255, box)
    image.save(path)
    return path


def marked(image, suffix="PNG", **options):
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return decode_mask(io.BytesIO(file.getvalue()), POLICY, "The mask 'm'")


def refused(image, suffix="PNG", **options):
    with pytest.raises(ImageError) as caught:
        marked(image, suffix, **options)
    assert str(caught.value).startswith("The mask 'm' ")
    return f"{caught.value.kind}: {caught.value}"


NUMBERS = np.array([[0, 1, 0], [2, 0, 255]], np.uint8)
EXPECTED = NUMBERS != 0


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_not_zero_is_marked_however_faint(suffix):
    assert np.array_equal(marked(Image.fromarray(NUMBERS), suffix), EXPECTED)
    assert np.array_equal(marked(Image.fromarray(EXPECTED), suffix), EXPECTED)


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_any_colour_marks(channel):
    colours = np.zeros((2, 3, 3), np.uint8)
    colours[..., channel] = NUMBERS
    assert np.array_equal(marked(Image.fromarray(colours)), EXPECTED)
    opaque = Image.fromarray(colours)
    opaque.putalpha(255)
    assert np.array_equal(marked(opaque), EXPECTED)


@pytest.mark.parametrize("suffix", ["PNG", "TIFF"])
def test_small_numbers_of_16_bits_mark(suffix):
    """As a photo they would all be black."""
    assert np.array_equal(marked(Image.fromarray(NUMBERS.astype(np.uint16)), suffix), EXPECTED)


def test_masks_are_turned_as_their_exif_data_say():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    assert np.array_equal(marked(Image.fromarray(NUMBERS), exif=exif), np.rot90(EXPECTED, -1))


def palette(colours):
    image = Image.new("P", (3, 2))
    image.putdata(NUMBERS.clip(max=2).flatten().tolist())
    image.putpalette([value for colour in colours for value in colour])
    return image


def test_numbers_of_a_palette_mark_where_black_is_0_alone():
    assert np.array_equal(marked(palette([(0, 0, 0), (128, 0, 0), (224, 224, 192)])), EXPECTED)
    for colours in ([(0, 0, 0), (0, 0, 0), (9, 9, 9)], [(9, 9, 9), (1, 1, 1), (9, 0, 9)]):
        assert "has a palette in which black is not the colour 0 alone" in refused(palette(colours))


def test_what_could_be_read_in_two_ways_is_refused_by_name():
    grey = Image.fromarray(NUMBERS)
    thin = Image.merge("RGBA", [grey, grey, grey, Image.fromarray(255 - NUMBERS)])
    assert "unsupported: The mask 'm' is transparent in places" in refused(thin)
    assert "is transparent in places" in refused(Image.merge("LA", [grey, Image.fromarray(255 - NUMBERS)]))
    assert "is transparent in places" in refused(grey, transparency=0)
    assert "holds pixels of the mode CMYK" in refused(Image.merge("CMYK", [grey] * 4), "TIFF")
    assert "holds pixels of the mode F" in refused(Image.fromarray(NUMBERS.astype(np.float32)), "TIFF")
    assert "compressed with loss" in refused(grey.convert("RGB"), "TIFF", compression="jpeg")
    assert "Save it as a PNG in grey: 0 around the object, 255 in it." in refused(thin)
    for suffix in ("JPEG", "WEBP"):
        assert f"is not a picture in one of the formats {', '.join(FORMATS)}" in refused(grey, suffix)


def test_masks_obey_what_is_allowed_for_photos():
    assert mask_policy(DecodePolicy(("JPEG", "PNG"), 1000, "accept")) == DecodePolicy(("PNG",), 1000, "refuse")
    with pytest.raises(UsageError, match="--allow-format allows none of these"):
        mask_policy(DecodePolicy(("JPEG",)))


def loop_inside(found, placement):
    """Each pixel of the grid by the pixel of the photo in which its centre lies."""
    (height, width), (left, top, right, bottom) = placement.size, placement.box
    inside = np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            y = int(np.floor(top + (2 * row + 1) * (bottom - top) / (2 * height)))
            x = int(np.floor(left + (2 * column + 1) * (right - left) / (2 * width)))
            inside[row, column] = 0 <= y < found.shape[0] and 0 <= x < found.shape[1] and found[y, x]
    return inside


PLACEMENTS = [
    Placement((40, 80), (0.0, 0.0, 80.0, 40.0), (20, 20)),
    Placement((40, 80), (20.0, 0.0, 60.0, 40.0), (20, 20)),  # the centre
    Placement((40, 80), (0.0, -20.0, 80.0, 60.0), (16, 16)),  # with borders
    Placement((7, 5), (0.0, 0.0, 5.0, 7.0), (20, 20)),  # enlarged
    Placement((48, 48), (0.0, 0.0, 48.0, 48.0), (48, 48)),
]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_pixel_of_the_grid_is_in_a_mask_if_its_centre_is(placement):
    found = np.random.default_rng(3).random(placement.image_size) < 0.4
    assert np.array_equal(inside_mask(found, placement), loop_inside(found, placement))
    height, width = placement.image_size
    box = np.zeros((height, width), bool)
    box[height // 4 : height // 2 + 1, width // 5 : width // 2] = True
    as_box = (width // 5, height // 4, width // 2, height // 2 + 1)
    assert np.array_equal(inside_mask(box, placement), inside_boxes([as_box], placement))  # as a box is
    assert np.array_equal(inside_mask(np.ones_like(box), placement), inside_boxes([(0, 0, width, height)], placement))


def loop_mass(scores, inside):
    total = sum(max(value, 0.0) for value in scores.flatten().tolist())
    there = sum(max(value, 0.0) for value, hit in zip(scores.flatten().tolist(), inside.flatten(), strict=True) if hit)
    return there / total


def loop_rank(scores, inside):
    """The K most relevant pixels one by one; the mean over all orders in which equal ones may come."""
    ordered = sorted(zip(scores.flatten().tolist(), inside.flatten().tolist(), strict=True), key=lambda one: -one[0])
    count, hits, place = sum(hit for _, hit in ordered), 0.0, 0
    while place < count:
        equal = [hit for value, hit in ordered if value == ordered[place][0]]
        hits += min(len(equal), count - place) * sum(equal) / len(equal)
        place += len(equal)
    return hits / count


@pytest.mark.parametrize("seed", range(4))
def test_mass_and_rank_equal_slow_loops(seed):
    generator = np.random.default_rng(seed)
    scores = generator.normal(0, 1, (9, 13)).astype(np.float32)
    scores = scores if seed % 2 else (2 * scores).round()  # with many pixels alike
    for share in (0.01, 0.3, 0.99):
        inside = generator.random((9, 13)) < share
        inside[4, 4] = True
        assert share_inside(scores, inside) == pytest.approx(loop_mass(scores, inside), abs=1e-12)
        assert rank_inside(scores, inside) == pytest.approx(loop_rank(scores, inside), abs=1e-12)


def test_known_maps():
    inside = np.zeros((10, 10), bool)
    inside[2:4, 2:7] = True
    right = np.where(inside, 2.0, -1.0).astype(np.float32)
    assert (share_inside(right, inside), rank_inside(right, inside)) == (1.0, 1.0)
    wrong = -right
    assert (share_inside(wrong, inside), rank_inside(wrong, inside)) == (0.0, 0.0)
    even = np.ones((10, 10), np.float32)  # by chance: the mask's share of the area
    assert (share_inside(even, inside), rank_inside(even, inside)) == pytest.approx((0.1, 0.1))
    single = np.zeros((10, 10), np.float32)
    single[2, 2] = 1  # the other nine of the ten are drawn among 99, nine of which are inside
    assert rank_inside(single, inside) == pytest.approx((1 + 9 * 9 / 99) / 10)
    nothing = np.full((10, 10), -1, np.float32)
    assert (share_inside(nothing, inside), rank_inside(nothing, inside)) == (None, 0.0)
    assert rank_inside(even, np.ones_like(inside)) == 1.0
    with pytest.raises(ValueError, match="there is no K"):
        rank_inside(even, ~np.ones_like(inside))


def sources_of(*inputs):
    return list(Discovery([str(one) for one in inputs]))


def test_a_mask_has_the_name_of_its_image_with_any_suffix(tmp_path):
    folder = folder_of_photos(tmp_path / "in", 3)  # 0.png, 2.png, cats/1.png
    one = mask(tmp_path / "masks" / "cats" / "1.TIFF")
    two = mask(tmp_path / "masks" / "0.bmp")
    (tmp_path / "masks" / "2.json").write_text("{}")
    found = find_masks(str(tmp_path / "masks"), sources_of(folder), DecodePolicy())
    assert found.by_image == {str(folder / "0.png"): str(two), str(folder / "cats" / "1.png"): str(one)}
    alone = find_masks(str(tmp_path / "masks"), sources_of(folder / "0.png"), DecodePolicy())  # 0.png below itself
    assert list(alone.by_image.values()) == [str(two)]
    assert find_masks(str(tmp_path / "masks"), [], DecodePolicy()).by_image == {}


def test_folders_of_masks_that_cannot_be_right(tmp_path):
    folder, masks = folder_of_photos(tmp_path / "in", 3), tmp_path / "masks"
    for place in (masks, tmp_path / "in" / "0.png"):
        with pytest.raises(UsageError, match=r"--masks '.*' is not a folder\. Name the one"):
            find_masks(str(place), sources_of(folder), DecodePolicy())
    mask(masks / "1.png")
    with pytest.raises(UsageError, match=r"None of the images has a mask in .*masks/cats/1\.png', or .*--base DIR"):
        find_masks(str(masks), sources_of(folder), DecodePolicy())
    mask(masks / "0.png")
    mask(masks / "0.gif")
    with pytest.raises(UsageError, match=r"0\.png' has two masks, '.*0\.gif' and '.*0\.png'\. Keep one\."):
        find_masks(str(masks), sources_of(folder), DecodePolicy())
    with pytest.raises(UsageError, match="is that image itself"):
        find_masks(str(folder), sources_of(folder), DecodePolicy())
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "0.png").symlink_to(folder / "0.png")
    with pytest.raises(UsageError, match="is that image itself"):
        find_masks(str(tmp_path / "linked"), sources_of(folder), DecodePolicy())
    (masks / "0.gif").unlink()
    photo(folder / "0.bmp")
    with pytest.raises(UsageError, match=r"The images '0\.bmp' and '0\.png' would both have the mask"):
        find_masks(str(masks), sources_of(folder), DecodePolicy())


def test_two_inputs_may_share_masks(tmp_path):
    for name in ("one", "two"):
        photo(tmp_path / name / "a.png")
    mask(tmp_path / "masks" / "a.png")
    found = find_masks(str(tmp_path / "masks"), sources_of(tmp_path / "one", tmp_path / "two"), DecodePolicy())
    assert len(found.by_image) == 2 and len(set(found.by_image.values())) == 1


def preparation(folder, masks, policy=None):
    found = find_masks(str(masks), sources_of(folder), policy or DecodePolicy())
    return MaskPreparation(
        policy or DecodePolicy(), Preprocessing((20, 24)), None, pictures=False, folders=ClassFolders({}, {}), seed=0,
        masks=found,
    )  # fmt: skip


def test_the_mask_comes_with_its_image(tmp_path):
    folder = folder_of_photos(tmp_path / "in", 2)
    mask(tmp_path / "masks" / "0.png", (0, 0, 24, 40))
    with_mask, without = (preparation(folder, tmp_path / "masks")(source) for source in sources_of(folder))
    assert with_mask.inside[:, :12].all() and not with_mask.inside[:, 12:].any() and with_mask.mask_area == 0.5
    assert without.inside is None and without.mask_area is None and without.mask_hash is None
    assert with_mask.mosaic is None


def bomb(path):
    """A PNG whose header claims 60,000 x 60,000 pixels."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    content = bytearray(file.getvalue())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-20])


def no_picture(path):
    path.write_text("<svg/>")


def empty(path):
    path.write_bytes(b"")


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def folder_in_its_place(path):
    path.unlink()
    path.mkdir()


def link_to_nothing(path):
    path.unlink()
    path.symlink_to("nowhere")


def other_size(path):
    mask(path, size=(48, 41))


def jpeg(path):
    Image.new("L", (48, 40)).save(path, "JPEG")


HOSTILE = {
    bomb: ("too_large", "has more than twice the 89478485 pixels that are allowed"),
    cut_off: ("decode", "0.png' is damaged"),
    no_picture: ("decode", "is not a picture in one of the formats"),
    empty: ("decode", "is empty (0 bytes)"),
    pipe: ("io", "is a named pipe; give a regular file"),
    folder_in_its_place: ("io", "cannot be read: Is a directory"),
    link_to_nothing: ("io", "cannot be read: No such file"),
    other_size: ("unsupported", "has 48 x 41 pixels, and the upright image"),
    jpeg: ("decode", "is not a picture in one of the formats PNG, GIF, BMP, TIFF, PPM"),
}


@pytest.mark.parametrize("spoil", HOSTILE, ids=lambda spoil: spoil.__name__)
def test_hostile_masks_fail_by_name(tmp_path, spoil):
    folder = folder_of_photos(tmp_path / "in", 1)
    path = mask(tmp_path / "masks" / "0.png")
    prepare, (source,) = preparation(folder, tmp_path / "masks"), sources_of(folder)
    spoil(path)
    with pytest.raises(ImageError) as caught:
        prepare(source)
    kind, text = HOSTILE[spoil]
    assert caught.value.kind == kind and text in str(caught.value) and str(caught.value).startswith(f"The mask '{path}")


def test_a_mask_is_never_taken_in_part(tmp_path):
    """Photos may be cut off with --truncated accept; what is missing of a mask would count as background."""
    folder = folder_of_photos(tmp_path / "in", 1)
    path = mask(tmp_path / "masks" / "0.png")
    cut_off(path)
    with pytest.raises(ImageError, match="is damaged"):
        preparation(folder, tmp_path / "masks", DecodePolicy(truncated="accept"))(sources_of(folder)[0])


@pytest.fixture(scope="module")
def model():
    return lrpcli.load_model(TINY, input_shape=(3, 32, 32), preprocessing={"mean": (104, 117, 123)})


def test_an_image_is_measured_as_by_hand(model, tmp_path):
    folder = folder_of_photos(tmp_path / "in", 3)
    boxes = {"0.png": (8, 5, 30, 30), "cats/1.png": (0, 0, 48, 10)}
    for name, box in boxes.items():
        mask(tmp_path / "masks" / name, box)
    sources = sources_of(folder)
    masks = find_masks(str(tmp_path / "masks"), sources, DecodePolicy())
    settings = EvaluationSettings(
        ("epsilon", "composite"), (), ("random", "gradient"), PerturbationSettings(region=8, steps=2),
        precision="float64", measures=("ground-truth",),
    )  # fmt: skip
    tested = Evaluator(model, settings, masks=masks)
    assert tested.measures == ("ground-truth",) and tested.passes_per_image == 1
    for source, measured in zip(sources, measure(tested, sources), strict=True):
        name = source.name
        x, placement = model.preprocess(Image.open(source.path).convert("RGB"))
        for config in ("epsilon", "composite"):
            found = measured.metrics(config)
            if name not in boxes:
                assert found["mass"] is None and found["rank"] is None and measured.mask is None
                continue
            explainer = lrpcli.Explainer(model, config, dtype=torch.float64)
            scores = explainer(x.double(), target=measured.target).relevance[0].sum(0).numpy()
            inside = inside_boxes([boxes[name]], placement)
            assert found["mass"] == pytest.approx(loop_mass(scores, inside), abs=1e-5)
            assert found["rank"] == pytest.approx(loop_rank(scores.astype(np.float32), inside), abs=1e-9)
            assert measured.mask_area == inside.mean()
        again = Measurement.from_json(Fields(json.loads(json_line(measured.as_json()))))
        assert again == replace(measured, curves={}) and tested.fits(again, source.path)


def test_the_command_measures_counts_and_says_what_it_leaves_out(tmp_path):
    folder, masks, out = folder_of_photos(tmp_path / "in", 4), tmp_path / "masks", tmp_path / "out"
    mask(masks / "0.png", (0, 0, 24, 40))
    mask(masks / "cats" / "1.png", (0, 0, 48, 20))
    mask(masks / "2.png", (0, 0, 0, 0))
    options = ("-o", out, "--config", "epsilon", "--masks", masks, "--measure", "ground-truth")
    result = evaluate(folder, *options)
    assert result.exit_code == 0, result.output
    said = " ".join(result.stdout.split())
    assert "ground-truth: 2 images with masks, which cover 0.500 of what the net sees: chance for both." in said
    assert "leaves out images: 1 without a mask, and 1 whose mask is empty in what the net sees." in said
    results = results_of(out)
    metrics = results["methods"][0]["metrics"]
    assert results["images_with_masks"] == 2 and results["mask_area"] == 0.5
    assert 0 < metrics["mass"]["mean"] < 1 and 0 < metrics["rank"]["mean"] < 1 and metrics["share"] is None
    assert (out / "profile.png").exists()
    with (out / "results.csv").open(newline="") as file:
        rows = {row["input"].rpartition("in/")[2]: row for row in csv.DictReader(file) if row["config"] == "epsilon"}
    assert [rows[name]["mask_area"] for name in ("0.png", "2.png", "cats/3.png")] == ["0.5", "", ""]
    assert np.mean([float(rows[name]["mass"]) for name in ("0.png", "cats/1.png")]) == pytest.approx(
        metrics["mass"]["mean"]
    )
    shown = rows_of(evaluate(folder, *options, "--json"))
    assert [row["status"] for row in shown[:4]] == ["skipped"] * 4 and shown[-1]["results"] == results
    assert shown[0]["mask_area"] == 0.5 and shown[1]["mask_area"] is None


def test_masks_add_their_measure_and_all_says_that_it_needs_them(tmp_path):
    path = photo(tmp_path / "in" / "a.png")
    result = evaluate(path, "-o", tmp_path / "out", "--all", "--steps", "1")
    assert "The measure ground-truth needs pictures that mark the objects, --masks DIR: it is left out." in " ".join(
        result.stdout.split()
    )
    mask(tmp_path / "masks" / "a.png")
    result = evaluate(path, "-o", tmp_path / "two", "--measure", "complexity", "--masks", tmp_path / "masks")
    assert result.exit_code == 0 and results_of(tmp_path / "two")["settings"]["measures"] == [
        "ground-truth", "complexity"]  # fmt: skip
    assert "ground-truth: 1 image with masks, which cover 0.500" in result.stdout


def test_another_mask_is_measured_anew_and_nothing_else(tmp_path):
    folder, masks, out = folder_of_photos(tmp_path / "in", 3), tmp_path / "masks", tmp_path / "out"
    mask(masks / "0.png", (0, 0, 24, 40))
    mask(masks / "2.png", (0, 0, 24, 40))
    options = ("-o", out, "--config", "epsilon", "--masks", masks, "--measure", "ground-truth")
    evaluate(folder, *options)
    before = results_of(out)["methods"][0]["metrics"]["mass"]["mean"]
    assert "0 measured, 3 already done" in evaluate(folder, *options).stderr
    mask(masks / "0.png", (24, 0, 48, 40))  # changed
    mask(masks / "cats" / "1.png", (0, 0, 48, 20))  # new
    assert "2 measured, 1 already done" in evaluate(folder, *options).stderr
    assert results_of(out)["images_with_masks"] == 3
    assert results_of(out)["methods"][0]["metrics"]["mass"]["mean"] != before
    (masks / "2.png").unlink()  # gone
    assert "1 measured, 2 already done" in evaluate(folder, *options).stderr
    assert results_of(out)["images_with_masks"] == 2


def test_a_hostile_mask_is_one_line_and_the_rest_goes_on(tmp_path):
    folder, masks = folder_of_photos(tmp_path / "in", 2), tmp_path / "masks"
    other_size(masks / "0.png")
    mask(masks / "cats" / "1.png")
    result = evaluate(folder, "-o", tmp_path / "out", "--masks", masks, "--measure", "ground-truth")
    assert result.exit_code == 1 and "Traceback" not in result.output
    said = " ".join(result.stderr.split())
    assert "0.png' has 48 x 41 pixels" in said and "has 48 x 40. Make them of one size." in said
    assert "1 failed (1 unsupported)" in said
    other_size(masks / "cats" / "1.png")
    mask(masks / "0.png")
    again = evaluate(folder, "-o", tmp_path / "out", "--masks", masks, "--measure", "ground-truth")
    assert "1 measured" in again.stderr and again.exit_code == 1  # mended, and spoilt


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in", "-o", "out", "--measure", "ground-truth"], "The measure ground-truth needs pictures that mark"),
        (["in", "-o", "out", "--masks", "absent"], "--masks 'absent' is not a folder"),
        (["in", "-o", "out", "--masks", "other"], "None of the images has a mask in 'other'"),
        (["in", "-o", "out", "--masks", "in"], "is that image itself"),
        (["in/a.png", "-o", "out", "--masks", "masks", "--allow-format", "JPEG"], "--allow-format allows none"),
    ],
)
def test_mistakes_are_exit_2_and_write_nothing(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "in" / "a.png")
    mask(tmp_path / "masks" / "a.png")
    mask(tmp_path / "other" / "b.png")
    result = evaluate(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr and "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_decoding_processes_need_no_torch_for_masks():
    code = "import json, sys, lrpcli.evaluation.masks; print(json.dumps('torch' in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert json.loads(result.stdout) is False


def test_the_name_below_base_counts(tmp_path):
    path = photo(tmp_path / "in" / "cats" / "a.png")
    mask(tmp_path / "masks" / "cats" / "a.png")
    options = ("--masks", tmp_path / "masks", "--measure", "ground-truth")
    assert "--base DIR" in evaluate(path, "-o", tmp_path / "one", *options).stderr
    assert evaluate(path, "-o", tmp_path / "two", *options, "--base", tmp_path / "in").exit_code == 0
