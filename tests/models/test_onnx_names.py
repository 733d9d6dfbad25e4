"""Nets of the ONNX model zoo by name, with the same nets without their weights, which the onnx package ships."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from lrpcli.cli.main import main
from lrpcli.errors import WeightsError
from lrpcli.models import load_architecture, load_model
from lrpcli.models.layer_table import layer_table
from lrpcli.models.zoo import find_entry, onnx
from tests.photos import photo

LIGHT = {
    "onnx-alexnet": "light_bvlc_alexnet.onnx",
    "onnx-inception-v1": "light_inception_v1.onnx",
    "onnx-zfnet512": "light_zfnet512.onnx",
}
STATED = [name for name in onnx.registry() if name != "onnx-rcnn-ilsvrc13"]


def lrp(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def light(name: str) -> Path:
    package = pytest.importorskip("onnx")
    return Path(package.__file__).parent / "backend" / "test" / "data" / "light" / LIGHT[name]


@pytest.fixture
def here(cache, monkeypatch) -> Path:
    """The file of onnx-alexnet in the cache, as if the light net were the official one."""
    path, entry = light("onnx-alexnet"), onnx.registry()["onnx-alexnet"]
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    known = {entry.name: replace(entry, hash=digest, size=path.stat().st_size)}
    monkeypatch.setattr(onnx, "registry", lambda: known)
    cache.mkdir()
    return Path(shutil.copy(path, cache / "bvlcalexnet-12.onnx"))


def test_the_names() -> None:
    assert list(onnx.registry()) == [
        "onnx-caffenet", "onnx-alexnet", "onnx-googlenet", "onnx-inception-v1", "onnx-zfnet512", "onnx-rcnn-ilsvrc13",
    ]  # fmt: skip
    for entry in onnx.registry().values():
        assert entry.input == (3, 224, 224)
        assert entry.outputs == (1000 if entry.labels else 200)
        assert all(url.endswith(f"/{entry.weights.path().name}") for url in entry.urls)


def as_the_zoo_does(image: Image.Image) -> np.ndarray:
    """The README of the zoo's GoogLeNet, in its order of steps: RGB, resize, mean, BGR, channels first."""
    pixels = np.array(image.convert("RGB").resize((224, 224))).astype(np.float32)
    pixels -= np.array([123.68, 116.779, 103.939], np.float32)
    return pixels[:, :, ::-1].transpose(2, 0, 1)[np.newaxis]


@pytest.mark.parametrize("name", STATED)
@pytest.mark.parametrize("size", [(500, 333), (90, 300), (224, 224)])
def test_photos_become_what_the_zoo_makes_of_them(name, size) -> None:
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    entry = find_entry(name)
    model = load_model(light("onnx-alexnet"), preprocessing=entry.preprocessing)
    x, _ = model.preprocess(image)
    np.testing.assert_allclose(x.numpy(), as_the_zoo_does(image), atol=1e-4)


@pytest.mark.parametrize("name", LIGHT)
def test_a_file_of_ones_own_is_loaded_under_the_name(name) -> None:
    model = load_model(name, weights=light(name))
    assert (model.name, model.input_shape, model.outputs, len(model.labels)) == (name, (3, 224, 224), 1000, 1000)
    assert model.label(281).startswith("tabby")
    assert any(row.kind == "lrn" for row in layer_table(model))
    assert model.preprocessing.describe() == (
        "whole photo squashed to 224 x 224 (bicubic), BGR, 0..255, minus mean 103.939, 116.779, 123.68"
    )


def test_it_is_explained(tmp_path) -> None:
    picture, file = photo(tmp_path / "a.png"), light("onnx-alexnet")
    done = lrp("explain", "--model", "onnx-alexnet", "--weights", file, picture, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert np.load(tmp_path / "out" / "a.png.npy").shape == (224, 224)


def test_layers_are_shown_once_the_file_is_here(here) -> None:
    assert load_architecture("onnx-alexnet").weights_sha256 == hashlib.sha256(here.read_bytes()).hexdigest()
    facts = json.loads(lrp("models", "show", "onnx-alexnet", "--json").stdout)
    assert facts["weights"] == "cached" and len(facts["layers"]) > 20
    here.write_bytes(here.read_bytes()[:-1] + b"\0")
    with pytest.raises(WeightsError, match="which has the wrong hash"):
        load_architecture("onnx-alexnet")


@pytest.mark.parametrize("name", onnx.registry())
def test_without_the_file_a_sentence_says_what_to_do(name) -> None:
    done = lrp("models", "show", name)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == (
        f"Error: The layers of {name!r} stand in its weights file alone, which is not in the cache yet. Run "
        f"`lrp models fetch {name}` first, or give the file with --weights FILE.\n"
    )


def test_how_photos_become_input_is_not_said_of_rcnn_and_must_be_given(tmp_path) -> None:
    picture, file = photo(tmp_path / "a.png"), light("onnx-alexnet")
    command = ("explain", "--model", "onnx-rcnn-ilsvrc13", "--weights", file, picture, tmp_path / "out")
    refused = lrp(*command)
    assert refused.exit_code == 2
    assert "How the model 'onnx-rcnn-ilsvrc13' is fed with photos is not known" in refused.stderr
    assert lrp(*command, "--mean", "104,117,123", "--pixel-scale", "1", "--channel-order", "BGR").exit_code == 0
    assert load_model("onnx-rcnn-ilsvrc13", weights=file).labels is None
