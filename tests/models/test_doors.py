"""The two doors for models: a format and a zoo that are registered by one line each work everywhere at once."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from torch.nn import functional

import lrpcli
from lrpcli.cli.main import main
from lrpcli.errors import ModelError, UnsupportedLayer, WeightsError
from lrpcli.images.preprocess import Preprocessing
from lrpcli.models import importers, is_name, load_architecture, load_model, zoo
from lrpcli.models.importers import suffixes_in_words
from lrpcli.models.preprocessing import CHOICES
from lrpcli.models.zoo import Entry, Zoo, find_entry, list_entries
from tests.models import toy
from tests.models.test_forward import assert_close, images, run
from tests.photos import photo


@pytest.fixture
def toy_format(monkeypatch) -> None:
    monkeypatch.setitem(importers.TABLE, ".toy", "tests.models.toy:import_toy")


@pytest.fixture
def toy_zoo(toy_format, monkeypatch, tmp_path) -> Path:
    """The folder in which the zoo keeps its files."""
    monkeypatch.setattr(zoo, "TABLE", (*zoo.TABLE, "tests.models.toy:ToyZoo"))
    monkeypatch.setattr(toy, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def toy_file(toy_format, tmp_path) -> Path:
    return toy.write_toy(tmp_path / "Net.TOY")


def lrp(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def test_every_line_of_the_tables_leads_somewhere() -> None:
    assert all(suffix.startswith(".") and suffix == suffix.lower() for suffix in importers.TABLE)
    assert all(callable(resolve_name(home)) for home in importers.TABLE.values())
    for home in zoo.TABLE:
        found = resolve_name(home)()
        assert isinstance(found, Zoo)
        assert found.entries() or found.claims(f"{found.prefix}name")
        for name, entry in found.entries().items():
            assert isinstance(entry, Entry)
            assert entry.name == name
            assert found.claims(name)
            assert found.find(name) == entry
    names = [entry.name for entry in list_entries()]
    assert len(set(names)) == len(names)


def test_the_tables_are_cheap_to_ask() -> None:
    code = (
        "import sys, lrpcli.models.importers as i; i.suffixes_in_words(); "
        "print([m for m in ('torch', 'numpy', 'PIL', 'google.protobuf', 'safetensors', 'tomllib') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_suffixes_in_words(toy_format) -> None:
    *others, last = importers.TABLE
    assert last == ".toy" and others[:2] == [".caffemodel", ".caffemodel.h5"]
    assert suffixes_in_words() == f"{', '.join(others)} or .toy"
    assert suffixes_in_words("and") == f"{', '.join(others)} and .toy"


def test_the_longest_suffix_decides(monkeypatch, toy_file, tiny_caffemodel) -> None:
    monkeypatch.setitem(importers.TABLE, ".h5", "tests.models.toy:import_toy")
    with pytest.raises(WeightsError, match=r"'no.caffemodel.h5' cannot be read"):
        load_model("no.caffemodel.h5")
    assert load_model(toy_file.rename(toy_file.with_suffix(".h5"))).name == "toy-net"
    assert load_model(tiny_caffemodel).name == "Tiny"


def test_a_new_format_is_loaded_with_all_that_goes_with_a_model(toy_file) -> None:
    model = load_model(toy_file, labels=["a", "b", "c", "d", "e"], preprocessing={"mean": (1, 2, 3)})
    assert (model.name, model.input_shape, model.outputs, model.label(4)) == ("toy-net", (3, 16, 16), 5, "e")
    assert (model.source, len(model.weights_sha256 or "")) == (str(toy_file), 64)
    assert model.preprocessing.describe() == "whole photo squashed to 16 x 16, RGB, 0..255, minus mean 1, 2, 3"
    net = json.loads(toy_file.read_text())
    conv, _, scores = (torch.tensor(layer.get("weight", 0.0)) for layer in net["layers"])
    x = images((3, 16, 16))
    expected = functional.relu(functional.conv2d(torch.from_numpy(x), conv)).flatten(1) @ scores.T
    assert_close(run(model, x), expected.numpy())
    result = lrpcli.Explainer(model)(torch.from_numpy(x), keep_layers=True)
    assert set(result.layers) >= {"conv/1", "relu/1", "scores"}


def test_the_graph_builder_refuses_what_cannot_be(toy_format, tmp_path) -> None:
    conv = {"name": "conv", "kind": "conv", "weight": np.ones((1, 3, 20, 20)).tolist()}
    maps = {"name": "maps", "kind": "conv", "weight": np.ones((1, 3, 3, 3)).tolist()}
    for layers, error, message in [
        ([conv], ModelError, r"The layer 'conv' of '.*' would put out a blob of shape \(1, -3, -3\) for one image"),
        ([maps], ModelError, r"The output 'maps' of '.*' has the shape \(1, 14, 14\) and not one score per class"),
        ([{"name": "odd", "kind": "odd"}], UnsupportedLayer, "The layer 'odd' of .* kind odd is not known"),
        ([{**maps, "weight": [[[[float("nan")]]]]}], ModelError, "weights of layer 'maps' .* not finite as float32"),
        ([{}], ModelError, r"cannot be read: 'name'\. Give an undamaged .toy file"),
    ]:
        path = toy.write_toy(tmp_path / "net.toy", layers=layers)
        with pytest.raises(error, match=message) as caught:
            load_model(path)
        assert str(path) in str(caught.value)


def test_the_command_takes_a_new_format(toy_file, tmp_path) -> None:
    shown = lrp("models", "show", toy_file, "--resize", 20)
    assert shown.exit_code == 0, shown.output
    assert "centre 16 x 16, RGB, 0..255; by the toy format, changed by what was given" in shown.stdout
    assert "licence        made in a test" in shown.stdout
    picture = photo(tmp_path / "photo.png")
    explained = lrp("explain", "--model", toy_file, picture, tmp_path / "out")
    assert explained.exit_code == 0, explained.output
    assert np.load(tmp_path / "out" / "photo.png.npy").shape == (16, 16)
    refused = lrp("explain", "--model", "net.toi", picture, tmp_path / "other")
    assert refused.exit_code == 2
    assert f"supported are {suffixes_in_words('and')}. Any other net" in refused.stderr


def test_a_new_zoo_is_loaded_by_name(toy_zoo) -> None:
    assert is_name("toy:small")
    assert not is_name(Path("toy:small"))
    model = load_model("toy:small", labels=["1", "2", "3", "4", "5"])
    assert (model.name, model.label(2), model.source) == ("toy:small", "3", str(toy_zoo / "small.toy"))
    other = toy.write_toy(toy_zoo / "other.toy")
    assert load_model("toy:small", weights=other).source == str(other)
    assert load_architecture("toy:small").label(2) == "c"
    # A text that begins with the prefix is a name, whatever it looks like; any other dot makes a path.
    for name in ("toy:smal", "toy:small.v1"):
        with pytest.raises(ModelError, match=rf"no model named '{name}'\. Did you mean 'toy:small'\?"):
            load_model(name)
    with pytest.raises(ModelError, match="no model file that can be read"):
        load_model("small.v1")


def test_the_command_takes_a_new_zoo(toy_zoo) -> None:
    listed = lrp("models", "list")
    assert "toy:small            3x16x16    5        not fetched  -        A toy" in listed.stdout.splitlines()
    assert lrp("models", "path", "toy:small").stdout.strip() == str(toy_zoo / "small.toy")
    assert not (toy_zoo / "small.toy").exists()
    assert lrp("models", "fetch", "toy:small").stdout.strip() == str(toy_zoo / "small.toy")
    assert lrp("models", "verify", "toy:small", "--json").exit_code == 3
    facts = json.loads(lrp("models", "show", "toy:small", "--json").stdout)
    assert (facts["title"], facts["weights"], facts["labels"]) == ("A toy", "cached", 5)
    # What the file says of itself comes after what the zoo says, and overrules it.
    assert facts["licence"] == "made in a test"
    explained = lrp("explain", "--model", "toy:small", photo(toy_zoo / "photo.png"), toy_zoo / "out")
    assert explained.exit_code == 0, explained.output


def test_the_zoo_says_what_a_name_with_something_behind_it_means(toy_zoo, monkeypatch) -> None:
    """As in "name@weights"."""

    def find(self: Zoo, name: str) -> Entry:
        name, _, chosen = name.partition("@")
        return dataclasses.replace(Zoo.find(self, name), title=f"A {chosen} toy")

    monkeypatch.setattr(toy.ToyZoo, "find", find)
    assert find_entry("toy:small@red").facts()["title"] == "A red toy"


def test_the_fields_that_can_be_replaced_are_those_of_preprocessing() -> None:
    fields = {field.name for field in dataclasses.fields(Preprocessing)}
    assert set(CHOICES) == fields - {"size", "channels"}
