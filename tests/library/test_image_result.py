"""A result shows itself: reprs of one line, pictures, files, figures on any axes, and a plot of its layers."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

import lrpcli
from lrpcli.errors import ImageError, OutputError, UsageError
from lrpcli.library.looks import Look, output_settings
from lrpcli.pictures.style import PictureStyle
from lrpcli.setting import settings_of
from tests.library.nets import TINY_NET, small_net
from tests.photos import photo

HOSTILE = "a $x_1$ \\alpha\n<b> \x1b[2J\u202e{0} %s"


@pytest.fixture
def result(path):
    return lrpcli.explain(path, **TINY_NET)


def named(path, label, **options):
    net = {"model": small_net(), "input_shape": (3, 8, 8)}
    return lrpcli.explain(path, **net, labels=[label, "b", "c"], target=0, **options)


def test_what_is_public_says_itself_in_one_line(path, result):
    model = lrpcli.load_model("cifar10")
    explainer = lrpcli.Explainer(model, config="epsilon", start="one")
    batch = explainer(torch.zeros(2, 3, 32, 32), "top3", keep_layers=True)
    assert repr(model) == "<Model cifar10: input 3 x 32 x 32, 10 outputs, labels>"
    assert repr(explainer) == f"<Explainer: config 'epsilon', start one, 13 layers, float32 on {explainer.device}>"
    shown = "<Result: relevance 2 x 3 x 3 x 32 x 32, logits 2 x 10, 13 layers, float32 on "
    assert repr(batch).startswith(shown)
    kept = f"score {100 * result.score:.0f} %, kept {100 * result.kept:.0f} %"
    assert repr(result) == f"<ImageResult {path}: class {result.target} ({result.target}), {kept}>"
    several = lrpcli.explain(path, **TINY_NET, target="top3", start="contrastive")
    assert repr(several).endswith(" %, start contrastive, and 2 more>") and "kept" not in repr(several)
    hostile = named(path, HOSTILE)
    plain = lrpcli.load_model(small_net(), input_shape=(3, 8, 8))
    for one in (model, explainer, batch, result, several, hostile, plain):
        assert len(repr(one).splitlines()) == 1 and repr(one).isprintable()


def test_it_shows_itself_in_a_notebook_as_a_figure(tmp_path, result):
    result.save(tmp_path / "figure.png", style="figure")
    assert result._repr_png_() == (tmp_path / "figure.png").read_bytes()


def test_a_copy_can_be_drawn_but_not_asked_for_its_layers(tmp_path, result):
    rows = result.layer_table()
    for again in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        np.testing.assert_array_equal(again.map, result.map)
        assert again.overlay().tobytes() == result.overlay().tobytes()
        assert again.layer_table() == rows  # known already
    fresh = pickle.loads(pickle.dumps(lrpcli.explain(result.source, **TINY_NET)))
    with pytest.raises(ImageError, match="was copied without its model"):
        fresh.layer_table()


def test_a_pickle_is_small(path):
    assert len(pickle.dumps(lrpcli.explain(path, "caffenet-small"))) < 2e6


@pytest.mark.parametrize(
    ("look", "complaint"),
    [
        ({"stile": "heatmap"}, "no 'stile' among the options of a picture. Did you mean 'style'?"),
        ({"style": "heat"}, "The style 'heat' is not known"),
        ({"style": None}, "style is a text, not None"),
        ({"cmap": "viridis"}, "'viridis' is not known as a diverging one"),
        ({"outside": "blur"}, "outside"),
        ({"alpha": 1.5}, "alpha is a number from 0 to 1, not 1.5"),
        ({"alpha": float("nan")}, "alpha is a number from 0 to 1, not nan"),
        ({"alpha": "0.5"}, "alpha is a number, not '0.5'"),
        ({"alpha": None}, "alpha is a number, not None"),
        ({"smooth": -1}, "smooth is a number from 0 to 50"),
        ({"smooth": True}, "smooth is a number, not True"),
        ({"scale": 0}, "scale must be image, run, or a number larger than 0, not 0"),
        ({"scale": "run"}, "scale is a number, not 'run'"),
        ({"scale": float("inf")}, "larger than 0, not inf"),
        ({"size": 0}, "must be 1 to 16384 pixels"),
        ({"size": 3.5}, "size is a whole number, not 3.5"),
        ({"size": "model"}, "size is a whole number, not 'model'"),
    ],
)
def test_looks_that_do_not_exist_are_refused(tmp_path, result, look, complaint):
    for draw in (result.overlay, result.plot, lambda **look: result.save(tmp_path / "a.png", **look)):
        with pytest.raises(UsageError, match=complaint):
            draw(**look)
    assert not (tmp_path / "a.png").exists()


def test_every_option_of_a_picture_is_a_keyword():
    assert set(Look.__annotations__) == {"size", "scale", *(item.name for item, _ in settings_of(PictureStyle))}
    assert output_settings({}).picture == PictureStyle()


@pytest.mark.parametrize(
    ("name", "options", "error", "complaint"),
    [
        ("cat", {}, UsageError, "must end in .png, .webp, .jpg, .pdf, .svg, .jpeg for pictures, or .npy"),
        ("cat.gif", {}, UsageError, "'.*cat.gif' cannot be written"),
        ("cat.npy", {"style": "heatmap"}, UsageError, "no options of a picture go with it"),
        ("cat.pdf", {"style": "heatmap"}, UsageError, "pdf is for figures"),
        ("cat.png", {"quality": 80}, UsageError, "--quality is of WebP and JPEG"),
        ("cat.jpg", {"quality": 0}, UsageError, "--quality must be 1 to 100"),
        ("cat.jpg", {"quality": "good"}, UsageError, "quality is a whole number, not 'good'"),
        ("file/cat.png", {}, (ImageError, OutputError), "cannot be written"),
    ],
)
def test_files_that_cannot_be_written_are_refused(tmp_path, result, name, options, error, complaint):
    (tmp_path / "file").write_text("")
    with pytest.raises(error, match=complaint):
        result.save(tmp_path / name, **options)
    assert {one.name for one in tmp_path.iterdir()} == {"file", "cats"}


def test_files_are_made_with_their_folders_and_replaced(tmp_path, result):
    place = tmp_path / "new" / "deep" / "CAT.JPG"
    result.save(str(place))
    first = place.read_bytes()
    result.save(place, quality=30)
    assert len(place.read_bytes()) < len(first) and [one.name for one in place.parent.iterdir()] == ["CAT.JPG"]


def test_a_photo_that_has_changed_is_not_drawn_under_the_old_map(path):
    result = lrpcli.explain(path, **TINY_NET)
    usual = result.overlay().tobytes()
    photo(path, 8, size=(70, 50))
    assert result.overlay().tobytes() == usual  # the photo as it was explained
    for look in ({"size": 35}, {"outside": "crop"}):
        with pytest.raises(ImageError, match="has changed since it was explained"):
            result.overlay(**look)
    path.unlink()
    with pytest.raises(ImageError, match="does not exist"):
        result.overlay(size=35)


def test_pixels_that_change_afterwards_are_not_drawn():
    pixels = np.full((20, 30, 3), 200, np.uint8)
    result = lrpcli.explain(pixels, **TINY_NET)
    before = [result.overlay(size=size).tobytes() for size in (512, 15)]
    pixels[:] = 0
    assert [result.overlay(size=size).tobytes() for size in (512, 15)] == before


def test_one_scale_for_several_pictures(tmp_path):
    results = lrpcli.explain([photo(tmp_path / f"{n}.png", n) for n in range(2)], **TINY_NET)
    scale = max(result.scale for result in results)
    weaker = min(results, key=lambda result: result.scale)
    assert weaker.overlay(scale=weaker.scale).tobytes() == weaker.overlay().tobytes()
    assert weaker.overlay(scale=scale).tobytes() != weaker.overlay().tobytes()


def texts(ax):
    """All that is written on axes, by matplotlib's own account."""
    return [text.get_text() for text in ax.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_a_map_goes_onto_given_axes(result):
    axes = Figure().subplots(1, 2)
    assert result.plot(axes[0]) is axes[0]
    assert result.plot(axes[1], style="heatmap", cmap="PuOr") is axes[1]
    for ax, look in zip(axes, ({}, {"style": "heatmap", "cmap": "PuOr"}), strict=True):
        (image,) = ax.get_images()
        np.testing.assert_array_equal(image.get_array(), np.asarray(result.overlay(**look)))
    assert axes[0].get_title().splitlines()[0] == result.label and "kept" in axes[0].get_title()


def test_a_style_that_has_no_place_there_is_refused(result):
    with pytest.raises(UsageError, match="shows the photo and its overlay. Give axes to draw 'heatmap' on"):
        result.plot(style="heatmap")
    with pytest.raises(UsageError, match="'figure' takes a figure of its own: leave out the axes"):
        result.plot(Figure().subplots(), style="figure")


def test_what_are_no_axes_is_refused_by_name(result):
    for plot in (result.plot, result.plot_layers):
        for wrong in (Figure(), Figure().subplots(1, 2), "ax", 3):
            with pytest.raises(UsageError, match="onto one Axes of matplotlib, .* not onto an object of type"):
                plot(wrong)


def test_any_label_can_be_drawn(tmp_path, path):
    result = named(path, HOSTILE)
    for name in ("a.png", "a.pdf", "a.svg"):
        result.save(tmp_path / name, style="figure")
    for figure in (result.plot(), result.plot_layers()):
        figure.savefig(tmp_path / "b.png")
    ax = Figure().subplots()
    result.plot(ax)
    assert "a $x_1$ \\alpha <b>" in ax.get_title()
    ax.figure.savefig(tmp_path / "b.png")


SCRIPT = """
import sys
import lrpcli, numpy as np
result = lrpcli.explain(np.zeros((9, 9, 3), np.uint8), "cifar10")
figure = result.plot()
result.plot_layers()
result.save("a.pdf")
result._repr_png_()
assert "matplotlib.pyplot" not in sys.modules
assert figure._repr_png_().startswith(b"\\x89PNG")
import matplotlib
matplotlib.use("agg")
from matplotlib import pyplot
assert pyplot.get_fignums() == []
result.save("b.pdf")
result._repr_png_()
assert pyplot.get_fignums() == []
first, second = result.plot(), result.plot_layers()
assert [pyplot.figure(number) for number in pyplot.get_fignums()] == [first, second]
before = dict(matplotlib.rcParams)
ax = pyplot.subplot()
assert result.plot(ax) is pyplot.gca() is ax and len(pyplot.get_fignums()) == 2
assert dict(matplotlib.rcParams) == before
"""


def test_figures_are_pyplots_where_the_program_has_it_and_files_never(tmp_path):
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


DISPLAY = """
import sys, types
import lrpcli, numpy as np
shown = []
display = types.ModuleType("IPython.display")
display.display = lambda data, raw: shown.append(sorted(data))
ipython = types.ModuleType("IPython")
ipython.version_info, ipython.get_ipython = (9, 0), lambda: None  # which matplotlib asks for
sys.modules.update({"IPython": ipython, "IPython.display": display})
result = lrpcli.explain(np.zeros((9, 9, 3), np.uint8), "cifar10")
result.plot()._ipython_display_()
assert shown == [["image/png", "text/plain"]]
import matplotlib
matplotlib.use("agg")
from matplotlib import pyplot
figure = result.plot()
figure._ipython_display_()
assert len(shown) == 1 and pyplot.get_fignums()  # a window shows it
pyplot.get_backend = lambda: "module://matplotlib_inline.backend_inline"
figure._ipython_display_()
assert len(shown) == 2 and not pyplot.get_fignums()  # so that pyplot does not show it again
figure._ipython_display_()
assert len(shown) == 3
"""


def test_a_notebook_shows_a_figure_once(tmp_path):
    done = subprocess.run([sys.executable, "-c", DISPLAY], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_plot_of_layers_shows_what_is_left_and_what_was_taken(result):
    rows = {row.name: row for row in result.layer_table()}
    ax = result.plot_layers().axes[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names[0] == "fc4" and names[-1] == "input" and "norm1" in names
    left, taken = (container.patches for container in ax.containers[:2])
    for name, one, other in zip(names, left, taken, strict=True):
        row = rows[name]
        assert one.get_width() == pytest.approx(100 * row.kept)
        share = 100 * row.absorbed / result._explanation.start
        assert other.get_width() == pytest.approx(max(share, 0)) and other.get_x() == pytest.approx(100 * row.kept)
    assert any("bias and epsilon" in text for text in texts(ax))


def test_the_plot_of_a_start_without_shares_shows_both_signs(path):
    result = lrpcli.explain(path, **TINY_NET, start="contrastive")
    ax = result.plot_layers().axes[0]
    positive, negative = ax.containers
    rows = {row.name: row for row in result.layer_table()}
    for label, one, other in zip(ax.get_yticklabels(), positive, negative, strict=True):
        row = rows[label.get_text()]
        assert (one.get_width(), other.get_width()) == (pytest.approx(row.positive), pytest.approx(row.negative))
    assert "contrastive" in ax.get_xlabel()


def test_a_deep_net_shows_the_layers_that_took_most_and_counts_the_others(path):
    torch.manual_seed(0)
    deep = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(60)), nn.Flatten(), nn.Linear(192, 2)).eval()
    result = lrpcli.explain(path, deep, input_shape=(3, 8, 8), config="epsilon-1")
    ax = result.plot_layers().axes[0]
    shown = [label.get_text() for label in ax.get_yticklabels()]
    assert len(shown) == 40 and shown[-1] == "input"
    assert "(22 layers that took less are left out)" in ax.get_title("left")
    rows = result.layer_table()
    order = [row.name for row in rows if row.name in shown]
    assert order == shown
    hidden = [abs(row.absorbed) for row in rows if row.name not in shown and row.kind != "view"]
    assert max(hidden) <= min(abs(row.absorbed) for row in rows if row.name in shown and row.name != "input")


def test_layers_are_those_of_the_engine(path):
    model = lrpcli.load_model(small_net(), input_shape=(3, 8, 8))
    result = lrpcli.explain(path, model, target=1)
    with Image.open(path) as opened:
        x, _ = model.preprocess(opened.convert("RGB"))
    expected = lrpcli.Explainer(model)(x, 1, keep_layers=True).layers
    layers = result.layers()
    assert layers.keys() == expected.keys()
    for name, values in layers.items():
        np.testing.assert_allclose(values, expected[name][0].numpy(), atol=1e-6)
