"""Pictures: what lies where, neutral zero, and the scale that is stated."""

import numpy as np
import pytest
from PIL import Image

from lrpcli.errors import UsageError
from lrpcli.pictures.colours import end_colours
from lrpcli.pictures.picture import DRAWERS, draw, picture_scale, smoothed
from lrpcli.pictures.style import STYLES, PictureStyle

SHARP = PictureStyle(smooth=0.0)


def photo(width=60, height=40):
    return Image.new("RGB", (width, height), (200, 100, 50))


def one_spot(row, column, value=1.0, size=(20, 20)):
    relevance = np.zeros(size, np.float32)
    relevance[row, column] = value
    return relevance


def test_every_style_has_a_drawer():
    assert tuple(DRAWERS) == STYLES


@pytest.mark.parametrize("style", STYLES)
def test_a_map_of_zeros_makes_a_neutral_picture(style):
    zeros = np.zeros((20, 20), np.float32)
    assert picture_scale(zeros, PictureStyle(style=style)) == 0
    picture = np.asarray(draw(photo(), zeros, (0, 0, 60, 40), PictureStyle(style=style), 0.0)).astype(int)
    assert picture.shape == (40, 120 if style == "side-by-side" else 60, 3)
    # Neutral: the map adds no colour of its own. What is left is the photo, grey, and beside it as it was.
    drawn = picture[:, 60:] if style == "side-by-side" else picture
    assert np.ptp(drawn, axis=2).max() == 0


def test_positive_is_red_negative_is_blue_and_each_lies_in_its_place():
    relevance = one_spot(4, 5) + one_spot(14, 15, -1.0)
    picture = np.asarray(draw(photo(), relevance, (10, 0, 50, 40), SHARP, 1.0)).astype(int)
    redness = picture[..., 0] - picture[..., 2]
    assert np.unravel_index(redness.argmax(), redness.shape) in [(y, x) for y in (8, 9) for x in (20, 21)]
    assert np.unravel_index(redness.argmin(), redness.shape) in [(y, x) for y in (28, 29) for x in (40, 41)]
    assert redness.max() > 120 and redness.min() < -100


def test_what_the_model_did_not_see_is_dimmed_and_holds_no_relevance():
    picture = np.asarray(draw(photo(), np.ones((20, 20), np.float32), (10, 0, 50, 40), SHARP, 1.0)).astype(int)
    outside = np.concatenate([picture[:, :10], picture[:, 50:]], axis=1)
    assert np.ptp(outside, axis=2).max() == 0
    assert outside.max() < 0.5 * np.asarray(photo().convert("L")).max()
    assert (picture[:, 10:50, 0] - picture[:, 10:50, 2] > 150).all()


BOX = (10, 0, 50, 40)
"""What the model sees of the photo of 60 x 40 pixels."""


def drawn(style="overlay", outside="dim", value=1.0):
    relevance = np.full((20, 20), value, np.float32)
    return draw(photo(), relevance, BOX, PictureStyle(style=style, outside=outside, smooth=0.0), 1.0)


@pytest.mark.parametrize("style", ["overlay", "heatmap", "contour", "figure"])
def test_the_outside_is_dimmed_cropped_or_plain_and_the_inside_the_same(style):
    dim, crop, plain = (drawn(style, outside) for outside in ("dim", "crop", "plain"))
    inside = np.asarray(dim)[:, 10:50]
    assert crop.size == (40, 40) and dim.size == plain.size == (60, 40)
    whole = slice(1, -1) if style == "contour" else slice(None)  # a line runs where the outside begins
    np.testing.assert_array_equal(np.asarray(crop)[whole, whole], inside[whole, whole])
    np.testing.assert_array_equal(np.asarray(plain)[:, 10:50], inside)
    for side in (slice(0, 10), slice(50, 60)):
        np.testing.assert_array_equal(np.asarray(plain)[:, side], np.asarray(photo())[:, side])
        assert (np.asarray(dim)[:, side] != np.asarray(photo())[:, side]).any()


@pytest.mark.parametrize("outside", ["dim", "crop", "plain"])
def test_side_by_side_is_the_photo_and_the_overlay(outside):
    overlay, both = drawn("overlay", outside), drawn("side-by-side", outside)
    assert both.size == (2 * overlay.width, overlay.height)
    np.testing.assert_array_equal(np.asarray(both)[:, overlay.width :], np.asarray(overlay))
    left = BOX[0] if outside == "crop" else 0
    np.testing.assert_array_equal(
        np.asarray(both)[:, : overlay.width], np.asarray(photo())[:, left : left + overlay.width]
    )


@pytest.mark.parametrize("cmap", ["bwr", "coolwarm", "RdBu_r", "PiYG"])
def test_the_ground_of_a_heatmap_is_light_and_what_was_not_seen_differs_from_zero(cmap):
    style = PictureStyle(style="heatmap", cmap=cmap, smooth=0.0)
    picture = np.asarray(draw(photo(), np.zeros((20, 20), np.float32), BOX, style, 1.0)).astype(int)
    assert picture.min() > 170
    assert (picture[:, 10:50].min((0, 1)) - picture[:, :10].max((0, 1))).min() > 30


@pytest.mark.parametrize("cmap", ["berlin", "vanimo"])
def test_beside_a_dark_zero_what_was_not_seen_is_lighter(cmap):
    style = PictureStyle(style="heatmap", cmap=cmap, smooth=0.0)
    picture = np.asarray(draw(photo(), np.zeros((20, 20), np.float32), BOX, style, 1.0)).astype(int)
    assert (picture[:, :10].min((0, 1)) - picture[:, 10:50].max((0, 1))).min() > 30


def test_a_box_beyond_the_photo_is_cropped_to_the_photo():
    style = PictureStyle(outside="crop", smooth=0.0)
    assert draw(photo(), np.ones((8, 8), np.float32), (-20, -5, 50.4, 45), style, 1.0).size == (50, 40)


def test_the_scale_is_a_high_percentile_of_the_smoothed_sizes():
    relevance = np.random.default_rng(0).standard_normal((50, 50)).astype(np.float32)
    assert picture_scale(relevance, SHARP) == pytest.approx(np.percentile(np.abs(relevance), 99.5))
    assert picture_scale(one_spot(3, 3, -2.0, (50, 50)), SHARP) == 2.0


def test_smoothing_is_the_gaussian_and_keeps_the_total_up_to_the_borders():
    corner = one_spot(0, 0, 5.0, (30, 40))
    assert smoothed(corner, 5.0).sum() == pytest.approx(5.0, rel=1e-6)
    spot = smoothed(one_spot(15, 20, 1.0, (30, 40)), 2.5)  # sigma is one pixel
    assert spot[15, 21] / spot[15, 20] == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert spot[16, 21] / spot[15, 20] == pytest.approx(np.exp(-1.0), rel=1e-5)


def test_contours_surround_the_strong_parts_alone():
    relevance = np.zeros((40, 60), np.float32)
    relevance[10:30, 20:40] = 1.0
    picture = np.asarray(draw(photo(), relevance, (0, 0, 60, 40), PictureStyle(style="contour", smooth=0), 1.0))
    red = (picture == [255, 0, 0]).all(2)
    assert red[10, 20:40].all() and red[29, 20:40].all() and red[10:30, 20].all() and red[10:30, 39].all()
    assert red.sum() == 2 * 20 + 2 * 18


def test_a_box_smaller_than_a_pixel_still_draws():
    draw(photo(2, 2), np.ones((5, 5), np.float32), (0.2, 0.2, 0.4, 0.4), SHARP, 1.0)


def test_unknown_styles_and_colour_maps_are_refused():
    with pytest.raises(UsageError, match="The style 'overlap' is not known. Did you mean 'overlay'"):
        PictureStyle(style="overlap")
    with pytest.raises(UsageError, match="--outside 'crob' is not known. Did you mean 'crop'"):
        PictureStyle(outside="crob")
    with pytest.raises(UsageError, match="colour map 'jet'"):
        PictureStyle(cmap="jet")


@pytest.mark.parametrize("cmap", ["bwr", "PiYG_r"])
def test_the_overlay_is_the_formula_within_a_level(cmap):
    """Grey photo, darkened, under an end colour whose opacity is alpha (|R| / scale)^0.75; tables only round it."""
    generator = np.random.default_rng(5)
    relevance = generator.normal(size=(40, 60)).astype(np.float32)
    style, scale = PictureStyle(cmap=cmap, alpha=0.7, smooth=0.0), 1.5
    got = np.asarray(draw(photo(), relevance, (0, 0, 60, 40), style, scale)).astype(float)
    grey = np.asarray(photo().convert("L")).astype(float)[..., None] * 0.8
    opacity = 0.7 * np.clip(np.abs(relevance) / scale, 0, 1)[..., None] ** 0.75
    negative, positive = end_colours(cmap).astype(float)
    expected = (1 - opacity) * grey + opacity * np.where(relevance[..., None] > 0, positive, negative)
    # Near zero the opacity is steep: half a step of the table is up to 1 % of opacity.
    assert np.abs(got - expected).max() < 4 and np.abs(got - expected).mean() < 0.5


def test_relevance_around_the_photo_is_left_out_of_the_picture():
    """A grid of 8 x 8 that reaches two cells beyond the photo above and below."""
    relevance = np.zeros((8, 8), np.float32)
    relevance[0] = -1
    relevance[3, 2] = 1
    style = PictureStyle(style="heatmap", smooth=0)
    whole = draw(Image.new("RGB", (80, 80)), relevance, (0, 0, 80, 80), style, 1.0)
    part = draw(Image.new("RGB", (80, 40)), relevance, (0, -20, 80, 60), style, 1.0)
    np.testing.assert_array_equal(np.asarray(part), np.asarray(whole)[20:60])
