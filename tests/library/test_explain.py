"""lrpcli.explain gives what the command writes, byte for byte, and speaks of options as the command does."""

import inspect
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

import lrpcli
from lrpcli.cli import main
from lrpcli.errors import ConfigError, ImageError, ModelError, UsageError
from lrpcli.library.explain import Options
from tests.library.nets import TINY_NET, small_net
from tests.photos import TINY, folder_of_photos, photo

COMMAND = ("explain", "--model", TINY, "--input-shape", "3,32,32", "--preprocessing", "caffe", "--json")


def command(*arguments):
    """The objects that the command prints."""
    result = CliRunner().invoke(main, [*COMMAND, *(str(argument) for argument in arguments)])
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({}, ()),
        ({"target": 4}, ("--target", 4)),
        ({"start": "probability", "lrn": "identity"}, ("--start", "probability", "--lrn", "identity")),
        ({"config": "epsilon-1", "start": "contrastive"}, ("--config", "epsilon-1", "--start", "contrastive")),
        ({"dtype": torch.float64}, ("--precision", "float64")),
    ],
)
def test_a_result_says_what_the_record_says(tmp_path, path, options, flags):
    row = command(path, tmp_path / "out", *flags)[0]
    result = lrpcli.explain(path, **TINY_NET, **options)
    assert (result.source, result.target, result.label) == (row["input"], row["target"], row["label"])
    assert result.score == pytest.approx(row["score"], abs=1e-6)
    assert (result.kept is None) == ("kept" not in row["relevance"])
    assert result.kept is None or result.kept == pytest.approx(row["relevance"]["kept"], abs=1e-6)
    assert [list(one) for one in result.top] == [[*one[:2], pytest.approx(one[2], abs=1e-6)] for one in row["top"]]
    np.testing.assert_array_equal(result.map, np.load(row["outputs"]["map"]))
    assert result.map.dtype == result.relevance.dtype == np.float32
    np.testing.assert_allclose(result.relevance.sum(0), result.map, atol=1e-6 * np.abs(result.map).max())


@pytest.mark.parametrize(
    ("look", "flags"),
    [
        ({}, ()),
        ({"style": "heatmap"}, ("--style", "heatmap")),
        ({"style": "contour", "alpha": 0.5, "smooth": 3}, ("--style", "contour", "--alpha", 0.5, "--smooth", 3)),
        ({"style": "side-by-side", "cmap": "PiYG"}, ("--style", "side-by-side", "--cmap", "PiYG")),
        ({"size": 30}, ("--overlay-size", 30)),
        ({"size": None}, ("--overlay-size", "model")),
        ({"size": 700, "scale": 0.25}, ("--overlay-size", 700, "--scale", 0.25)),
        ({"outside": "crop"}, ("--outside", "crop")),
        ({"style": "figure"}, ("--style", "figure")),
    ],
)
def test_pictures_are_those_of_the_command(tmp_path, path, look, flags):
    written = command(path, tmp_path / "out", *flags)[0]["outputs"]["overlay"]
    with Image.open(path) as opened:
        images = (path, opened.copy())
    for image in images:
        result = lrpcli.explain(image, **TINY_NET)
        with Image.open(written) as expected:
            np.testing.assert_array_equal(np.asarray(result.overlay(**look)), np.asarray(expected.convert("RGB")))
        result.save(tmp_path / "again.png", **look)
        assert (tmp_path / "again.png").read_bytes() == Path(written).read_bytes()


@pytest.mark.parametrize("suffix", ["webp", "jpg", "pdf", "svg", "npy"])
def test_files_are_those_of_the_command(tmp_path, path, suffix):
    style = ("--style", "figure") if suffix in ("pdf", "svg") else ()
    flags = () if suffix == "npy" else (*style, "--picture-format", {"jpg": "jpeg"}.get(suffix, suffix))
    row = command(path, tmp_path / "out", *flags)[0]
    lrpcli.explain(path, **TINY_NET).save(tmp_path / f"again.{suffix}")
    written = row["outputs"]["map" if suffix == "npy" else "overlay"]
    assert (tmp_path / f"again.{suffix}").read_bytes() == Path(written).read_bytes()


def test_many_images_have_the_maps_of_a_run(tmp_path):
    folder_of_photos(tmp_path / "in", 7)
    rows = command(tmp_path / "in", tmp_path / "out", "-b", 3)[:-1]
    results = lrpcli.explain([row["input"] for row in rows], **TINY_NET, batch_size=3)
    for row, result in zip(rows, results, strict=True):
        np.testing.assert_array_equal(result.map, np.load(row["outputs"]["map"]))


def test_several_classes_are_one_result_with_the_others_behind_it(tmp_path, path):
    row = command(path, tmp_path / "out", "--target", "top3")[0]
    result = lrpcli.explain(path, **TINY_NET, target="top3")
    assert [one.target for one in result.classes] == [one["target"] for one in row["explanations"]]
    for one, written in zip(result.classes, row["explanations"], strict=True):
        np.testing.assert_array_equal(one.map, np.load(written["outputs"]["map"]))
    alone = lrpcli.explain(path, **TINY_NET, target=result.others[1].target)
    np.testing.assert_allclose(result.others[1].map, alone.map, rtol=0, atol=1e-6 * np.abs(alone.map).max())
    for classes in ([2, "5"], (2, 5), np.array([2, 5]), torch.tensor([2, 5])):
        assert [one.target for one in lrpcli.explain([path], **TINY_NET, target=classes)[0].classes] == [2, 5]


def test_labels_are_targets(path):
    names = ["tabby, tabby cat", "tiger", "lynx, bobcat"]
    model = lrpcli.load_model(small_net(), input_shape=(3, 8, 8), labels=names)
    assert lrpcli.explain(path, model, target="tabby cat").label == "tabby"
    assert lrpcli.explain(path, model, target="Lynx").target == 2
    with pytest.raises(ModelError, match="has no class 'tigre'. Did you mean 'tiger'?"):
        lrpcli.explain(path, model, target="tigre")


def test_a_net_without_labels_says_so(path):
    net = {"model": small_net(), "input_shape": (3, 8, 8)}
    assert lrpcli.explain(path, **net, target=1).label == "class 1"
    with pytest.raises(ModelError, match="has no class labels, so 'cat' cannot be looked up"):
        lrpcli.explain(path, **net, target="cat")
    assert lrpcli.explain(path, **net, target="cat", labels=["dog", "cat", "cow"]).target == 1


def test_the_folder_of_a_path_can_be_the_target(path):
    net = {"model": small_net(), "input_shape": (3, 8, 8), "labels": ["dogs", "cats", "cows"]}
    assert lrpcli.explain(path, **net, target="from-folder").target == 1
    with pytest.raises(UsageError, match="'image 1' is not given by its path"):
        lrpcli.explain(Image.new("RGB", (9, 9)), **net, target="from-folder")
    with pytest.raises(ImageError, match="in no folder named after a class"):
        lrpcli.explain(photo(path.parent / "birds" / "b.png"), **net, target="from-folder")


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        (10, "has no output 10; its outputs are 0 to 9|lies outside 0..9"),
        (-1, "The target -1 cannot be the index of a class"),
        (True, "not True"),
        (1.0, "not 1.0"),
        ([], "The target is an empty list"),
        ([1, [2]], r"not \[2\]"),
        ([1, "1"], "names the same class twice"),
        (["top", 1], "stands alone"),
        ("top0", "top0"),
        ("top11", "top11"),
        (b"cat", "not b'cat'"),
        (np.array([[1, 2]]), r"not \[1, 2\]"),
        (np.array(3.0), "not 3.0"),
    ],
)
def test_targets_that_do_not_exist_are_refused(path, target, complaint):
    with pytest.raises((UsageError, ModelError), match=complaint):
        lrpcli.explain(path, **TINY_NET, target=target)


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"config": "epsilom"}, ConfigError, "Did you mean 'epsilon'?"),
        ({"lrn": "tailor"}, ConfigError, "Did you mean 'taylor'?"),
        ({"start": "logits"}, UsageError, "The start 'logits' is not known"),
        ({"dtype": torch.float16}, UsageError, "torch.float32 or torch.float64, not torch.float16"),
        ({"dtype": "float32"}, UsageError, "not 'float32'"),
        ({"device": "gpu"}, UsageError, "The device 'gpu' cannot be used"),
        ({"batch_size": 0}, UsageError, "batch_size is a whole number from 1 on, not 0"),
        ({"batch_size": 2.0}, UsageError, "not 2.0"),
    ],
)
def test_options_that_cannot_be_used_are_refused(path, options, error, complaint):
    with pytest.raises(error, match=complaint):
        lrpcli.explain(path, **TINY_NET, **options)


def test_a_net_whose_preprocessing_is_not_known_is_refused(path):
    with pytest.raises(ModelError, match="is fed with photos is not known"):
        lrpcli.explain(path, TINY, input_shape=(3, 32, 32))


def test_keywords_of_loading_do_not_go_with_a_loaded_model(path):
    model = lrpcli.load_model(small_net(), input_shape=(3, 8, 8))
    with pytest.raises(UsageError, match="loaded already, so labels= cannot be given"):
        lrpcli.explain(path, model, labels=["a", "b", "c"])
    with pytest.raises(ModelError, match="A model is a name, a path or a torch.nn.Module, not int"):
        lrpcli.explain(path, 5)
    with pytest.raises(ModelError, match="input shape of Residual is not known"):
        lrpcli.explain(path, small_net())


def test_grey_nets_are_explained_and_others_named(path):
    def net(channels):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(channels, 2, 3), nn.Flatten(), nn.Linear(72, 2)).eval()

    assert lrpcli.explain(path, net(1), input_shape=(1, 8, 8)).relevance.shape == (1, 8, 8)
    with pytest.raises(UsageError, match="reads 5 channels"):
        lrpcli.explain(path, net(5), input_shape=(5, 8, 8))


def test_relevance_that_is_not_finite_names_its_image(path):
    net = small_net()
    with torch.no_grad():
        net.fc.weight.fill_(float("inf"))
    with pytest.raises(ImageError, match="a.png' is not finite|not finite"):
        lrpcli.explain(path, net, input_shape=(3, 8, 8))


def test_relevance_that_explodes_is_a_warning_that_names_the_image(path):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 64, bias=False), nn.Linear(64, 2, bias=False)).eval()
    with torch.no_grad():
        net[1].weight[:, ::2], net[1].weight[:, 1::2] = 1e4, -1e4
    lrp0 = {"kind": {"linear": {"rule": "epsilon", "epsilon": 0}}}
    grey = Image.new("RGB", (8, 8), (100, 100, 100))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = lrpcli.explain([grey], net, input_shape=(3, 8, 8), config=lrp0)[0]
    assert result.exploded == bool(caught)
    assert all("'image 1'" in str(one.message) and one.filename == __file__ for one in caught)


def test_type_checkers_know_every_keyword():
    parameters = inspect.signature(lrpcli.explain).parameters
    keywords = {name: one.annotation for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY}
    assert Options.__annotations__ == keywords


def test_a_folder_is_told_apart_from_its_photos(path):
    with pytest.raises(ImageError, match="is a folder"):
        lrpcli.explain(path.parent, **TINY_NET)
