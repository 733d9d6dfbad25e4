"""Figures: the pictures' very pixels, any label as text, the same bytes each time, parts that go onto other axes."""

import contextlib
import hashlib
import io
import re
import subprocess
import sys
import threading
import unicodedata
import warnings
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import rcParams
from matplotlib.figure import Figure
from PIL import Image

from lrpcli.pictures.encode import FORMATS
from lrpcli.pictures.figure import explanation_figure, figure_bytes, own_style
from lrpcli.pictures.panels import ColourBar, colour_bar, fitted, map_panel, photo_panel, plain
from lrpcli.pictures.picture import bar_colours, draw
from lrpcli.pictures.sheet import MARGIN, Panel, sheet
from lrpcli.pictures.style import OUTSIDE, PictureStyle

STYLE = PictureStyle(style="figure")
RELEVANCE = np.random.default_rng(2).normal(size=(20, 20)).astype(np.float32)
LABELS = {
    "mathematics": r"$x^2$ and \$ \frac{1}{",
    "unfinished": "costs $5",
    "lines": "two\nlines\r\n\ttab",
    "control": "bell\x07 zero\x00",
    "long": "a rather long name, " * 15,
    "one word": "x" * 300,
    "wide": "W" * 300,
    "right to left": "שלום עולם",
    "arabic": "قطة منزلية",
    "absent glyphs": "猫と犬 🐱 \U0001d518\U0001d52b",
    "no text": "caf\udce9",
    "turned round": "a\u202egpj.exe\u200b",
    "markup": "<script>alert(1)</script> &amp; ]]>",
    "no characters": "\uffff\ufffe",
    "template": "%s {0} \\N{DASH}",
    "underscore": "_private",
    "nothing": "",
    "spaces": " \u3000 ",
}


def photo(width=256, height=192):
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


def figure(label="tabby cat", image=None, **changes):
    image = image or photo()
    box = (image.width / 8, 0, image.width * 7 / 8, image.height)
    values = {"label": label, "score": 0.931, "kept": 0.902, **changes}
    return explanation_figure(image, RELEVANCE, box, values.pop("style", STYLE), values.pop("scale", 1.5), **values)


def content(picture_format="png", **values):
    with own_style():
        return figure_bytes(figure(**values), picture_format)


def pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def place_of(part, whole):
    """Where a picture lies in another with its very pixels (row, column), looked for along its first row."""
    for row, column in np.argwhere((whole == part[0, 0]).all(-1)):
        window = whole[row : row + part.shape[0], column : column + part.shape[1]]
        if window.shape == part.shape and (window == part).all():
            return row, column
    return None


def svg_texts(data):
    return ["".join(item.itertext()) for item in ElementTree.fromstring(data).iter() if item.tag.endswith("}text")]


def pdf_texts(data):
    """The pieces of text that a PDF shows; Latin letters stand there as themselves, in one byte or two."""
    shown = []
    for part in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.S):
        with contextlib.suppress(zlib.error):
            for text in re.findall(rb"\[([^\]]*)\]\s*TJ|(\(.*?\)) Tj", zlib.decompress(part), re.S):
                shown.append(b"".join(re.findall(rb"\(((?:[^()\\]|\\.)*)\)", b"".join(text))).replace(b"\0", b""))
    return shown


@pytest.mark.parametrize("size", [(256, 192), (512, 300), (512, 512), (400, 30), (20, 400), (333, 257)])
def test_a_figure_holds_the_very_pixels_of_photo_and_overlay(size):
    image = photo(*size)
    overlay = draw(image, RELEVANCE, (size[0] / 8, 0, size[0] * 7 / 8, size[1]), STYLE, 1.5)
    whole = pixels(content(image=image))
    factor = next(n for n in (1, 2) if n * max(size) / 3.2 >= 100)
    square = np.ones((factor, factor, 1), np.uint8)
    first, second = (place_of(np.kron(np.asarray(part), square), whole) for part in (image, overlay))
    assert first is not None and second is not None
    beside, below = (first[0] == second[0], second[1] > first[1]), (first[1] == second[1], second[0] > first[0])
    assert all(below if size[0] > 2 * size[1] else beside)


def test_the_margins_are_white():
    whole = pixels(content())
    margin = round(MARGIN * 160) // 2
    assert whole.ndim == 3 and whole.shape[2] == 3
    for edge in (whole[:margin], whole[-margin:], whole[:, :margin]):
        assert (edge == 255).all()


@pytest.mark.parametrize("outside", OUTSIDE)
def test_the_outside_of_a_figure_is_that_of_its_overlay(outside):
    style = PictureStyle(style="figure", outside=outside)
    image = photo()
    whole = pixels(content(style=style, image=image))
    part = image.crop((32, 0, 224, 192)) if outside == "crop" else image
    overlay = draw(image, RELEVANCE, (32, 0, 224, 192), style, 1.5)
    factor = next(n for n in (1, 2) if n * max(part.size) / 3.2 >= 100)
    square = np.ones((factor, factor, 1), np.uint8)
    assert place_of(np.kron(np.asarray(part), square), whole) and place_of(np.kron(np.asarray(overlay), square), whole)


def test_class_score_kept_share_and_unit_stand_in_a_figure():
    assert {"tabby cat", "score 93 %, kept 90 %", "(logits)", "0"} <= set(svg_texts(content("svg")))
    texts = svg_texts(content("svg", kept=None, start="probability"))
    assert "score 93 %" in texts and "(parts of the probability)" in texts
    assert "(of my own)" in svg_texts(content("svg", start="of my own"))


def test_the_scale_is_stated():
    texts = svg_texts(content("svg", scale=0.00123))
    assert "\N{GREATER-THAN OR EQUAL TO} 0.0012" in texts
    assert "\N{LESS-THAN OR EQUAL TO} \N{MINUS SIGN}0.0012" in texts


@pytest.mark.parametrize("scale", [0.0, 1e-45, 1e-38, 1e38, float("inf"), float("nan")])
def test_any_scale_makes_a_figure(scale):
    content(scale=scale, score=float("nan"), kept=-1e300)


@pytest.mark.parametrize("picture_format", ["png", "pdf", "svg"])
@pytest.mark.parametrize("label", LABELS)
def test_any_label_comes_out_as_text_without_a_word(label, picture_format):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = content(picture_format, label=LABELS[label])
    if picture_format == "svg":
        told = " ".join(svg_texts(data))
        seen = "".join(letter for letter in plain(LABELS[label]) if unicodedata.category(letter) != "Cf")
        assert re.sub(r"\s", "", seen)[:150] in re.sub(r"\s", "", told)


def test_plain_text_is_one_line_of_characters_that_xml_and_fonts_can_hold():
    for number in [*range(0x3000), *range(0xD7F0, 0xE100), *range(0xFFF0, 0x10010), 0xE0001, 0x10FFFF]:
        text = plain(f"a{chr(number)}b")
        assert text[0] == "a" and text[-1] == "b" and "\n" not in text
        ElementTree.fromstring("<a>" + text.replace("&", "").replace("<", "") + "</a>")


def test_text_of_a_pdf_is_text():
    shown = pdf_texts(content("pdf", label="tabby cat"))
    assert {b"tabby cat", b"score 93 %, kept 90 %", b"relevance per input pixel"} <= set(shown)


def test_the_same_figure_has_the_same_bytes_and_names_no_program_or_date():
    code = (
        "import hashlib\nfrom tests.pictures.test_figure import FORMATS, content\n"
        "print(*(hashlib.sha256(content(name)).hexdigest() for name in FORMATS))"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    for name, digest in zip(FORMATS, elsewhere, strict=True):
        here = content(name)
        assert hashlib.sha256(here).hexdigest() == digest, name
        for leak in (b"Date", b"matplotlib.org", b"Matplotlib", b"Software", b"Creator", b"Producer"):
            assert leak not in here


def test_pictures_in_a_pdf_keep_their_pixels():
    image = photo(40, 30)
    sizes = set(re.findall(rb"/Width (\d+)", content("pdf", image=image)))
    assert b"40" in sizes


@pytest.mark.parametrize("picture_format", ["webp", "jpeg"])
def test_figures_in_other_formats_of_pixels(picture_format):
    with Image.open(io.BytesIO(content(picture_format))) as image:
        assert image.format == picture_format.upper() and image.size == pixels(content()).shape[1::-1]


def test_what_the_users_matplotlib_is_set_to_changes_nothing_and_stays(monkeypatch):
    before = content("svg")
    monkeypatch.setitem(rcParams, "text.usetex", True)
    monkeypatch.setitem(rcParams, "font.size", 31.0)
    monkeypatch.setitem(rcParams, "svg.fonttype", "path")
    assert content("svg") == before
    assert rcParams["font.size"] == 31.0 and rcParams["svg.fonttype"] == "path"


def test_figures_of_many_threads_are_those_of_one():
    expected = {label: content("svg", label=label) for label in "abcd"}
    found = {}

    def work(label):
        found[label] = [content("svg", label=label) for _ in range(2)]

    threads = [threading.Thread(target=work, args=(label,)) for label in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert found == {label: [data] * 2 for label, data in expected.items()}


def test_a_figure_does_without_pyplot():
    code = (
        "import sys\nimport lrpcli.pictures.figure\nassert 'matplotlib' not in sys.modules\n"
        "from tests.pictures.test_figure import content\n[content(name) for name in ('png', 'pdf', 'svg')]\n"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_parts_go_onto_axes_of_a_subfigure():
    upper, lower = Figure(figsize=(4, 6)).subfigures(2, 1)
    left, middle, right = upper.subplots(1, 3, width_ratios=(8, 8, 1))
    photo_panel(left, photo())
    map_panel(middle, photo(), RELEVANCE, (0, 0, 256, 192), PictureStyle(style="heatmap"), 1.5)
    colour_bar(right, ColourBar(PictureStyle(style="heatmap"), 1.5, "logits"))
    photo_panel(lower.subplots(), photo())
    np.testing.assert_array_equal(left.images[0].get_array(), np.asarray(photo()))
    drawn = draw(photo(), RELEVANCE, (0, 0, 256, 192), PictureStyle(style="heatmap"), 1.5)
    np.testing.assert_array_equal(middle.images[0].get_array(), np.asarray(drawn))
    assert right.get_ylabel() == "relevance per input pixel\n(logits)"
    assert figure_bytes(upper.get_figure(root=True))[:4] == b"\x89PNG"


@pytest.mark.parametrize("style", ["overlay", "heatmap", "figure"])
def test_a_colour_bar_has_the_colours_of_the_pictures(style):
    """A ramp of relevance on grounds of one grey each is a column of the bar."""
    look = PictureStyle(style=style, smooth=0.0, cmap="PiYG")
    ramp = np.linspace(1, -1, 511, dtype=np.float32)[:, None]
    bar = bar_colours(look)
    for column, grey in enumerate(np.linspace(0, 255, bar.shape[1]).round() if bar.shape[1] > 1 else [77]):
        ground = Image.new("RGB", (1, 511), (int(grey),) * 3)
        drawn = np.asarray(draw(ground, ramp, (0, 0, 1, 511), look, 1.0))[:, 0].astype(int)
        assert np.abs(drawn - bar[:, column].astype(int)).max() <= 2


def test_a_sheet_has_rows_and_captions_and_one_bar():
    wide, tall = photo(400, 100), photo(90, 400)
    rows = [[Panel(wide, "photo"), Panel(wide, "config $a$", "kept 90 %")], [Panel(tall), Panel(tall), Panel(tall)]]
    with own_style():
        page = sheet(rows, title="cats/a.jpg", note="one scale", bar=ColourBar(STYLE, 0.5), side=1.6)
        texts = svg_texts(figure_bytes(page, "svg"))
        whole = pixels(figure_bytes(page))
    assert len(page.axes) == 6
    assert {"photo", "config $a$", "kept 90 %", "cats/a.jpg", "one scale"} <= set(texts)
    assert place_of(np.asarray(wide), whole) and place_of(np.asarray(tall), whole)


def test_nothing_of_a_sheet_overlaps():
    rows = [[Panel(photo(400, 20), "above " * 20, "below " * 20), Panel(photo(20, 400), "a")], [Panel(photo(30, 30))]]
    with own_style():
        page = sheet(rows, title="title " * 60, note="note " * 60, bar=ColourBar(STYLE, 0.5))
        page.draw_without_rendering()
        boxes = [axes.get_window_extent() for axes in page.axes] + [text.get_window_extent() for text in page.texts]
    boxes = [box for box in boxes if box.width > 0]
    for number, one in enumerate(boxes):
        assert one.x0 > 0 and one.y0 > 0 and one.x1 < page.bbox.width and one.y1 < page.bbox.height
        for other in boxes[number + 1 :]:
            across = min(one.x1, other.x1) - max(one.x0, other.x0)
            down = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert across <= 1 or down <= 1


@pytest.mark.parametrize("text", ["W" * 300, "a b " * 100, "猫" * 200, "iiii " * 90, "x"])
def test_lines_fit_their_width(text):
    with own_style():
        lines = fitted(text, 2.0, 10, 3)
        page = Figure(figsize=(8, 4))
        shown = page.text(0, 0, lines.text, fontsize=lines.size, parse_math=False)
        page.draw_without_rendering()
        assert shown.get_window_extent().width <= 2.0 * page.dpi * 1.05
    assert lines.text.count("\n") <= 2
