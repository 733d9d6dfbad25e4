"""The registry: complete, and true to the net descriptions that it names."""

import re
import subprocess
import sys

import pytest

from lrpcli.errors import ModelError
from lrpcli.models import load_architecture, load_model
from lrpcli.models.layer_table import layer_table, parameter_count
from lrpcli.models.zoo import find_entry, list_fetched
from lrpcli.models.zoo.bundled import BundledZoo
from lrpcli.models.zoo.caffe import CaffeZoo
from lrpcli.models.zoo.registry import PACKAGE

OFFICIAL = list(CaffeZoo().entries())
BUNDLED = list(BundledZoo().entries())
NAMES = {
    "caffenet", "alexnet", "googlenet", "vgg-cnn-s", "vgg-cnn-m", "vgg-cnn-f", "cifar10-full", "rcnn-ilsvrc13",
    "flickr-style", "alexnet-places365", "googlenet-places365",
}  # fmt: skip


def test_every_promised_name_is_there() -> None:
    assert set(OFFICIAL) == NAMES
    assert set(BUNDLED) == {"caffenet-small", "cifar10"}


@pytest.mark.parametrize("name", OFFICIAL)
def test_entry_fits_its_net(name: str) -> None:
    entry, model = find_entry(name), load_architecture(name)
    assert (model.name, model.input_shape, model.outputs) == (name, entry.input, entry.outputs)
    assert model.weights_sha256 is None
    assert len(model.labels or ()) == (entry.outputs if entry.labels else 0)
    assert model.preprocessing.size == entry.input[1:]
    assert any(row.kind == "lrn" for row in layer_table(model))
    if entry.hash is not None:
        assert re.fullmatch(r"sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64}", entry.hash)
        assert entry.urls


FETCHED = {
    "caffenet": (243_862_418, "sha256:472d4a06035497b180636d8a82667129960371375bd10fcb6df5c6c7631f25e0", 2),
    "alexnet": (243_862_414, "sha256:4bff209a9837298157915ef50a4831a59636a6ca1a6b8ebacd990c3a5f3053e0", 3),
    "googlenet": (53_533_754, "sha256:6f7101e3a2183738a7125a0c5021ba82a1feb4228c5ca0924d991b6daf6f6fad", 3),
    "rcnn-ilsvrc13": (None, "sha1:bdd8abb885819cba5e2fe1eb36235f2319477e64", 1),
    "flickr-style": (None, "sha1:b61b5cef7d771b53b0c488e78d35ccadc073e9cf", 1),
    "onnx-caffenet": (243_863_798, "sha256:ea563e5c47d1f58e1717cf1a2d8bf288b8adc07af0ad228b622096cd243aeecb", 2),
    "onnx-alexnet": (243_863_787, "sha256:6b0da9510f27f234ee96a85dc3809dd210150fdefad87f6850f9788513216945", 2),
    "onnx-googlenet": (28_021_836, "sha256:c99c507058eaf41de8723408fdda7db8325cb57f0a89f2ee07a716d6e963e14e", 2),
    "onnx-inception-v1": (28_021_958, "sha256:814b31a6316873bd03d2d808415ce1f40a7bf48ad88eab5ecc3cdc8dc6cf38ec", 2),
    "onnx-zfnet512": (349_005_501, "sha256:c975ca6a24c0a2e1584c6f82667e0ac9c06084fc7769d267f71b4a154d1f1c72", 2),
    "onnx-rcnn-ilsvrc13": (230_753_161, "sha256:4aadb5ac806e82f89bac7dea77c838ba828dccbe5d624d8a44ebd513953571d9", 2),
}
"""Bytes, hash, and number of sources of what can be fetched."""


@pytest.mark.parametrize("name", FETCHED)
def test_what_is_fetched_is_known_by_size_and_hash_and_https_comes_first(name: str) -> None:
    weights = find_entry(name).weights
    assert (weights.size, weights.hash, len(weights.urls)) == FETCHED[name]
    schemes = [url.partition(":")[0] for url in weights.urls]
    assert set(schemes) <= {"https", "http"} and schemes == sorted(schemes, reverse=True)
    assert len(set(weights.urls)) == len(weights.urls)
    assert weights.is_called(weights.urls[-1].rpartition("/")[2])


def test_nothing_else_is_fetched() -> None:
    assert [entry.name for entry in list_fetched() if entry.weights.obstacle() is None] == list(FETCHED)


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_model_fits_its_entry(name: str) -> None:
    entry = find_entry(name)
    if entry.weights.state() == "missing":
        pytest.skip(f"the weights of {name} are not in this checkout")
    model = load_model(name)
    assert (model.name, model.input_shape, model.outputs) == (name, entry.input, entry.outputs)
    assert len(model.labels) == entry.outputs
    assert any(row.kind == "lrn" for row in layer_table(model))
    assert entry.weights.verify() in ("ok", "bundled")


PREPROCESSING = {
    "caffenet": "squashed to 256 x 256, centre 227 x 227, BGR, 0..255, minus mean 104.007, 116.669, 122.679",
    "googlenet": "squashed to 256 x 256, centre 224 x 224, BGR, 0..255, minus mean 104, 117, 123",
    "vgg-cnn-s": "shorter side 256, centre 224 x 224, BGR, 0..255, minus mean 103.939, 116.779, 123.68",
    "cifar10-full": "whole photo squashed to 32 x 32, RGB, 0..255, minus mean 125.307, 122.95, 113.865",
}


@pytest.mark.parametrize("name", PREPROCESSING)
def test_preprocessing(name: str) -> None:
    assert load_architecture(name).preprocessing.describe() == PREPROCESSING[name]


def test_known_numbers_of_parameters() -> None:
    counts = {name: parameter_count(load_architecture(name)) for name in ("caffenet", "googlenet", "cifar10-full")}
    assert counts == {"caffenet": 60_965_224, "googlenet": 6_998_552, "cifar10-full": 89_578}


def test_normalisation_and_pooling_are_in_each_nets_own_order() -> None:
    def order(name: str) -> list[str]:
        kinds = [row.kind for row in layer_table(load_architecture(name))]
        return [kind for kind in kinds if kind in ("lrn", "max-pool")]

    assert order("caffenet") == ["max-pool", "lrn", "max-pool", "lrn", "max-pool"]
    assert order("alexnet") == ["lrn", "max-pool", "lrn", "max-pool", "max-pool"]
    assert order("googlenet")[:4] == ["max-pool", "lrn", "lrn", "max-pool"]


def test_lrn_parameters_in_the_table() -> None:
    def parameters(name: str) -> set[str]:
        return {row.details for row in layer_table(load_architecture(name)) if row.kind == "lrn"}

    assert parameters("caffenet") == {"n=5 alpha=0.0001 beta=0.75 k=1 across-channels"}
    assert parameters("vgg-cnn-m") == {"n=5 alpha=0.0005 beta=0.75 k=2 across-channels"}
    assert parameters("cifar10-full") == {"n=3 alpha=5e-05 beta=0.75 k=1 within-channel"}


def test_the_table_has_a_row_per_layer_with_its_output(tiny_caffemodel) -> None:
    rows = layer_table(load_model(tiny_caffemodel))
    assert [(row.name, row.kind, row.output, row.details) for row in rows] == [
        ("conv1", "convolution", (8, 7, 7), "3->8 3x3 stride 2 pad 0"),
        ("relu1", "activation", (8, 7, 7), ""),
        ("norm1", "lrn", (8, 7, 7), "n=5 alpha=0.1 beta=0.75 k=1 across-channels"),
        ("fc2/flatten", "view", (392,), ""),
        ("fc2", "fully-connected", (4,), "392->4"),
    ]


def test_every_architecture_and_label_file_is_named_by_an_entry() -> None:
    assert {path.stem for path in (PACKAGE / "architectures").glob("*.prototxt")} == NAMES
    labels = {entry.labels for entry in CaffeZoo().entries().values()}
    assert {path.name for path in (PACKAGE / "data").glob("*.txt")} <= labels


def test_misspelt_names_get_a_suggestion() -> None:
    with pytest.raises(ModelError, match=r"There is no model named 'cafenet'\. Did you mean 'caffenet'\? `lrp models"):
        load_model("cafenet")
    with pytest.raises(ModelError, match=r"There is no model named 'zzz'\. `lrp models list` shows all names"):
        load_model("zzz")


def test_the_registry_is_cheap() -> None:
    code = (
        "import sys, lrpcli.models.zoo as z; [(e.facts(), e.weights.state()) for e in z.list_entries()]; "
        "print([m for m in ('torch', 'numpy', 'PIL', 'urllib.request', 'google.protobuf') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert found.stdout.strip() == "[]"
