"""Names, weights, transforms and class names of torchvision, against torchvision itself."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import models

from lrpcli.errors import ModelError, UnsupportedLayer, WeightsError
from lrpcli.models import load_architecture, load_model
from lrpcli.models.labels import parse_label
from lrpcli.models.layer_table import layer_table, parameter_count
from lrpcli.models.zoo import find_entry, libraries, list_entries, list_zoo
from lrpcli.models.zoo import torchvision as zoo
from lrpcli.models.zoo.torchvision import NAMES, preprocessing_of
from tests.images.test_preprocess import photo

WEIGHTS = [member for name in NAMES for member in models.get_model_weights(name)]


def lrp(*arguments: object, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lrpcli", *map(str, arguments)], capture_output=True, text=True, check=False,
        timeout=600, env={**os.environ, **variables},
    )  # fmt: skip


def make(name: str, classes: int = 1000, **settings) -> torch.nn.Module:
    """A net of torchvision with random weights, and statistics as after training."""
    if name in zoo.AUXILIARY:
        settings = {"init_weights": False, "aux_logits": True, "transform_input": True, **settings}
    torch.manual_seed(1)
    net = models.get_model(name, weights=None, num_classes=classes, **settings).eval()
    for key, buffer in net.named_buffers():
        if key.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return net


def save(net: torch.nn.Module, path: Path) -> Path:
    torch.save(net.state_dict(), path)
    return path


def assert_same_logits(model, net, size=75) -> None:
    x = torch.randn(1, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(model.module(x), net(x), rtol=1e-5, atol=1e-5)


def test_the_names_are_those_of_torchvision() -> None:
    known = models.list_models(module=models)
    assert set(known) <= set(NAMES)
    if len(known) >= 80:
        assert list(NAMES) == known
    assert len(NAMES) == 80


def test_finding_and_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys, lrpcli.models.zoo as z; z.list_entries(); z.find_entry('torchvision:vgg16'); z.summaries()\n"
        "try: z.find_entry('cafenet')\nexcept Exception as error: print(error)\n"
        "print([m for m in ('torch', 'torchvision', 'timm', 'huggingface_hub', 'numpy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    first, last = found.stdout.splitlines()
    assert "Did you mean 'caffenet'?" in first
    assert last == "[]"


def test_lists_of_all_models_do_not_hold_them_and_a_list_of_torchvision_does(checkpoints) -> None:
    assert not [entry.name for entry in list_entries() if entry.name.startswith("torchvision:")]
    listed = {entry.name: entry for entry in list_zoo("torchvision")}
    assert list(listed) == [f"torchvision:{name}" for name in NAMES]
    entry = listed["torchvision:inception_v3"]
    assert (entry.input, entry.outputs, entry.weights.state()) == ((3, 299, 299), 1000, "not fetched")
    with pytest.raises(ModelError, match="There is no zoo named 'torch'; there are torchvision, timm, hf-hub"):
        list_zoo("torch")


@pytest.mark.parametrize("member", WEIGHTS, ids=str)
def test_every_weights_file_has_a_hash_in_torch_hubs_folder(member, checkpoints) -> None:
    file = libraries.checkpoint("net", member.url)
    assert re.fullmatch(r"sha256:[0-9a-f]{8,10}", file.hash)
    assert file.path() == checkpoints / Path(member.url).name
    assert file.state() == "not fetched"


def test_photos_are_fed_bit_for_bit_as_all_the_weights_have_it() -> None:
    presets = {repr(member.transforms()): member.transforms() for member in WEIGHTS}
    assert len(presets) > 15
    image = photo(341, 517)
    for preset in presets.values():
        found = preprocessing_of(preset, (preset.crop_size[0], preset.crop_size[0]))
        np.testing.assert_array_equal(found.apply(image)[0], preset(image).numpy(), err_msg=repr(preset))


def test_labels_are_the_categories() -> None:
    for member in WEIGHTS:
        for category in member.meta["categories"] or ():
            assert parse_label(category).name == category  # no commas, and nothing like a synset
    model = load_architecture("torchvision:resnet18")
    assert model.labels[:2] == ("tench", "goldfish")
    assert model.find_class("crane bird") == models.ResNet18_Weights.DEFAULT.meta["categories"].index("crane bird")


@pytest.mark.parametrize("name", ["resnet18", "mnasnet0_5", "regnet_y_400mf", "squeezenet1_1", "shufflenet_v2_x0_5"])
def test_weights_of_a_file_give_the_nets_own_logits(name, tmp_path) -> None:
    net = make(name)
    path = save(net, tmp_path / "weights.pth")
    model = load_model(f"torchvision:{name}", weights=path)
    assert_same_logits(model, net)
    assert model.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (model.name, model.outputs, len(model.labels)) == (f"torchvision:{name}", 1000, 1000)
    assert "torchvision's weights" in model.stated_by


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
@pytest.mark.parametrize("auxiliary", [True, False])
def test_heads_of_training_are_dropped_and_the_input_is_transformed(name, auxiliary, tmp_path) -> None:
    """As torchvision's builders do for official weights; a file may have lost those heads already."""
    net = make(name, aux_logits=auxiliary)
    model = load_model(f"torchvision:{name}", weights=save(net, tmp_path / "weights.pth"))
    assert_same_logits(model, net, 96)
    assert not any("aux" in key.lower() for key in model.module.state_dict())
    assert "transform_input" in find_entry(f"torchvision:{name}").facts()["note"]


def test_densenets_old_names_are_read(tmp_path) -> None:
    net = make("densenet121")
    old = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): v for key, v in net.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(OrderedDict(old), tmp_path / "old.pth")
    assert_same_logits(load_model("torchvision:densenet121", weights=tmp_path / "old.pth"), net)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "inception_v3"])
def test_a_file_of_other_classes_has_as_many_and_no_labels(name, tmp_path) -> None:
    net = make(name, 5)
    path = save(torch.nn.DataParallel(net), tmp_path / "own.pth")
    model = load_model(f"torchvision:{name}", weights=path)
    assert (model.outputs, model.labels) == (5, None)
    assert_same_logits(model, net, 96)
    assert load_model(f"torchvision:{name}", weights=path, labels=list("abcde")).label(4) == "e"


def test_weights_of_another_net_are_refused(tmp_path) -> None:
    path = save(make("resnet34"), tmp_path / "other.pth")
    with pytest.raises(ModelError, match="does not fit torchvision:resnet18: it has layer1"):
        load_model("torchvision:resnet18", weights=path)


def served(monkeypatch, checkpoints, content: bytes, claimed: str) -> Path:
    """Lets an official file have the name that torch.hub would give it, without a server."""
    name = f"resnet18-{claimed}.pth"
    monkeypatch.setattr(zoo, "checkpoint", lambda model, url: libraries.checkpoint(model, f"http://127.0.0.1:9/{name}"))
    checkpoints.mkdir(parents=True)
    (checkpoints / name).write_bytes(content)
    return checkpoints / name


def test_what_torch_hub_has_fetched_is_found_and_checked_every_time(tmp_path, monkeypatch, checkpoints) -> None:
    net = make("resnet18")
    content = save(net, tmp_path / "w.pth").read_bytes()
    path = served(monkeypatch, checkpoints, content, hashlib.sha256(content).hexdigest()[:8])
    monkeypatch.setenv("LRP_OFFLINE", "1")
    weights = find_entry("torchvision:resnet18").weights
    assert (weights.state(), weights.verify(), weights.fetch()) == ("cached", "ok", path)
    assert_same_logits(load_model("torchvision:resnet18"), net)
    path.write_bytes(content[:-1] + b"x")
    assert weights.verify() == "wrong hash"
    with pytest.raises(WeightsError, match=r"wrong size or hash.*LRP_OFFLINE forbids"):
        load_model("torchvision:resnet18")


def test_a_mirror_is_asked_for_the_files_name_and_what_comes_is_checked(tmp_path, monkeypatch, checkpoints) -> None:
    content, mirror = save(make("resnet18"), tmp_path / "w.pth").read_bytes(), tmp_path / "mirror"
    path = served(monkeypatch, checkpoints, b"", hashlib.sha256(content).hexdigest()[:8])
    path.unlink()
    mirror.mkdir()
    (mirror / path.name).write_bytes(content[:-1] + b"x")
    weights = find_entry("torchvision:resnet18").weights
    with pytest.raises(WeightsError, match="wrong hash"):
        weights.fetch(mirror=str(mirror))
    assert not path.exists()
    (mirror / path.name).write_bytes(content)
    assert weights.fetch(mirror=str(mirror)).read_bytes() == content


def test_weights_that_are_nowhere(checkpoints, monkeypatch) -> None:
    monkeypatch.setenv("LRP_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"'torchvision:vgg11@IMAGENET1K_V1' are not in the cache"):
        load_model("torchvision:vgg11@IMAGENET1K_V1")


def test_without_a_home_the_cache_is_lrps(monkeypatch, cache) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "~/.cache/torch/hub")
    assert libraries.checkpoint("net", "https://x/net-12345678.pth").path() == cache / "net-12345678.pth"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:resnet5", "Did you mean 'torchvision:resnet50'?"),
        ("torchvision:ResNet50", "Did you mean 'torchvision:resnet50'?"),
        ("torchvision:", "There is no model named 'torchvision:'"),
        ("torchvision:resnet50@imagenet1k_v1", "no weights named 'imagenet1k_v1' for 'resnet50'; there are .*V1, .*V2"),
        ("torchvision:resnet50@", "no weights named '' for 'resnet50'"),
        ("torchvision:vgg16@IMAGENET1K_FEATURES", "hold features and no classifier"),
        ("wide_resnet50_2", r"Did you mean torchvision:wide_resnet50_2"),
        ("mobilenet_v33_small", r"Did you mean torchvision:mobilenet_v3_small\?"),
    ],
)
def test_names_that_cannot_be_used(name, message) -> None:
    with pytest.raises(ModelError, match=message) as raised:
        load_model(name)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prototxt": "x.prototxt"}, "has layers of its own"),
        ({"output": "prob"}, "has one output"),
        ({"input_shape": (1, 224, 224)}, "reads 3 channels, not 1"),
        ({"input_shape": (3, 40, 299)}, "must have 75 x 75 pixels at least, not 40 x 299"),
        ({"labels": ["a"]}, "There are 1 labels for a model with 1000 outputs"),
    ],
)
def test_settings_that_do_not_fit(settings, message) -> None:
    with pytest.raises(ModelError, match=message):
        load_architecture("torchvision:inception_v3", **settings)


def test_another_input_keeps_the_share_that_is_cut_off() -> None:
    half = load_architecture("torchvision:resnet50", input_shape=(3, 112, 112))
    assert half.preprocessing.describe().startswith("shorter side 116, centre 112 x 112")
    wide = load_architecture("torchvision:resnet50", input_shape=(3, 112, 224))
    assert wide.preprocessing.describe().startswith("resized to cover 116 x 232, centre 112 x 224")
    assert layer_table(wide)[-1].output == (1000,)


def test_the_architecture_takes_no_memory() -> None:
    model = load_architecture("torchvision:vgg11")
    assert parameter_count(model) == 132_863_336
    assert all(parameter.untyped_storage().nbytes() <= 8 for parameter in model.module.parameters())
    assert (model.weights_sha256, model.outputs) == (None, 1000)


def test_nets_without_rules_are_refused_by_their_layer(tmp_path) -> None:
    with pytest.raises(UnsupportedLayer, match="LayerNorm|layer_norm|attention|Attention"):
        layer_table(load_architecture("torchvision:vit_b_32"))


def test_facts_and_licence() -> None:
    facts = find_entry("torchvision:resnet50").facts()
    assert facts["weights name"] == "IMAGENET1K_V2" and facts["parameters"] == "25,557,032"
    assert facts["accuracy"].startswith("80.9 % top-1")
    assert facts["hash"] == "sha256:11ad3fa6"
    assert "non-commercial" in find_entry("torchvision:regnet_y_16gf@IMAGENET1K_SWAG_E2E_V1").facts()["licence"]


def test_a_whole_run_and_its_next_one(tmp_path) -> None:
    weights, other = save(make("resnet18"), tmp_path / "a.pth"), tmp_path / "b.pth"
    torch.manual_seed(2)
    save(models.resnet18(), other)
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    for number in range(2):
        photo(60, 80, number).save(folder / f"{number}.png")
    arguments = ("explain", "--model", "torchvision:resnet18", folder, out, "--weights")
    first = lrp(*arguments, weights, LRP_OFFLINE="1")
    assert (first.returncode, len(first.stdout.splitlines())) == (0, 2), first.stderr
    described = json.loads((out / ".lrp" / "run.json").read_text())
    assert described["model"] == "torchvision:resnet18"
    assert described["weights_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    again = lrp(*arguments, weights)
    assert again.returncode == 0 and "0 explained, 2 already done" in again.stderr, again.stderr
    refused = lrp(*arguments, other)
    assert refused.returncode == 2
    assert "weights_sha256 was" in refused.stderr
