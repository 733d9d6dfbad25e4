"""Names, weights, preprocessing and class names of timm, against timm itself."""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lrpcli.errors import ModelError, WeightsError
from lrpcli.images.preprocess import Preprocessing
from lrpcli.models import load_architecture, load_model
from lrpcli.models.layer_table import layer_table
from lrpcli.models.zoo import find_entry, list_zoo
from tests.images.test_preprocess import photo

timm = pytest.importorskip("timm", reason="timm is an extra")
from lrpcli.models.zoo import timm_config, timm_nets  # noqa: E402


def make(name: str, **settings) -> torch.nn.Module:
    torch.manual_seed(1)
    return timm.create_model(name, **settings).eval()


def save(net: torch.nn.Module, path: Path) -> Path:
    torch.save(net.state_dict(), path)
    return path


def assert_same_logits(model, net) -> None:
    x = torch.randn(1, *model.input_shape)
    with torch.no_grad():
        assert torch.equal(model.module(x), net(x))


@pytest.mark.parametrize(
    "name", ["resnet18", "dla34", "mobilenetv3_small_100", "inception_v3.tf_adv_in1k", "densenet121", "efficientnet_b0"]
)
def test_weights_of_a_file_give_the_nets_own_logits(name, tmp_path) -> None:
    net = make(name)
    path = save(net, tmp_path / "weights.pth")
    model = load_model(f"timm:{name}", weights=path)
    assert_same_logits(model, net)
    assert model.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (model.name, model.outputs, len(model.labels)) == (f"timm:{name}", 1000, 1000)
    assert model.stated_by.startswith("timm's configuration of ")


def transform(name: str, **settings):
    config = timm.models.get_pretrained_cfg(name).to_dict()
    data = timm.data.resolve_data_config({}, pretrained_cfg=config, **settings)
    return config, timm.data.create_transform(**data), data


CONFIGURED = [
    "resnet18.a1_in1k", "resnet18.tv_in1k", "inception_v3.tf_in1k", "volo_d4_448.sail_in1k", "vgg11.tv_in1k",
    "convnext_tiny.fb_in22k_ft_in1k_384", "vit_base_patch16_siglip_224.webli",
    "seresnextaa101d_32x8d.sw_in12k_ft_in1k_288",
]  # fmt: skip


@pytest.mark.parametrize("name", CONFIGURED)
def test_photos_are_fed_bit_for_bit_as_timm_has_it(name) -> None:
    config, expected, data = transform(name)
    found = timm_nets.preprocessing_of(config, data["input_size"])
    for size in [(341, 517), (90, 61)]:
        np.testing.assert_array_equal(found.apply(photo(*size))[0], expected(photo(*size)).numpy())


def test_every_configuration_of_timm_can_be_followed() -> None:
    modes = set()
    for name in timm.list_pretrained():
        config = timm.models.get_pretrained_cfg(name).to_dict()
        found = timm_nets.preprocessing_of(config, tuple(config["input_size"]))
        modes.add((config["crop_mode"], found.crop_mode))
    assert {("center", None), ("squash", "squash"), ("center", "center")} <= modes
    border = timm_nets.preprocessing_of({"crop_mode": "border", "mean": (0.5,) * 3, "std": (0.5,) * 3}, (3, 8, 8))
    assert (border.crop_mode, border.resize) == ("border", (9, 9))


def test_the_size_of_timms_tests_comes_with_its_crop() -> None:
    _, expected, data = transform("resnet18.a1_in1k", use_test_size=True)
    assert data["input_size"] == (3, 288, 288) and data["crop_pct"] == 1.0
    model = load_architecture("timm:resnet18.a1_in1k", input_shape=(3, 288, 288))
    np.testing.assert_array_equal(model.preprocessing.apply(photo(341, 517))[0], expected(photo(341, 517)).numpy())
    assert "--input-shape 3,288,288" in find_entry("timm:resnet18.a1_in1k").facts()["note"]


def test_labels_are_synsets_and_words_of_the_right_imagenet() -> None:
    model = load_architecture("timm:resnet18")
    info = timm.data.ImageNetInfo("imagenet-1k")
    assert model.labels == tuple(f"{info.index_to_label_name(i)} {info.index_to_description(i)}" for i in range(1000))
    assert model.find_class("n01440764") == model.find_class("Tinca tinca") == 0
    assert len(timm_nets.registered("convnext_tiny.fb_in22k").labels()) == 21841


def test_a_file_of_other_classes_and_channels(tmp_path) -> None:
    net = make("resnet18", num_classes=4, in_chans=1)
    path = save(net, tmp_path / "own.pth")
    pixels = {"mean": (0.1,), "std": (0.3,), "pixel_scale": 1 / 255}
    model = load_model("timm:resnet18", weights=path, input_shape=(1, 32, 32), preprocessing=pixels)
    assert (model.outputs, model.labels, model.preprocessing.mean) == (4, None, (0.1,))
    assert_same_logits(model, net)
    unknown = load_model("timm:resnet18", weights=path, input_shape=(1, 32, 32))
    assert unknown.preprocessing is None
    with pytest.raises(ModelError, match="does not fit timm:resnet18"):
        load_model("timm:resnet18", weights=path)
    with pytest.raises(ModelError, match="are for 3 channels, not 1"):
        load_model("timm:resnet18", input_shape=(1, 32, 32))


@pytest.mark.parametrize("name", ["resnet18", "dla34"])
@pytest.mark.parametrize("part", ["running_mean", "weight"])
def test_a_file_that_lacks_a_tensor_is_refused_where_timm_would_draw_it(name, part, tmp_path) -> None:
    """timm loads DLA without being strict."""
    state = make(name).state_dict()
    for key, tensor in state.items():
        if key.endswith(("running_mean", "running_var")):
            tensor.uniform_(0.5, 1.5)
    del state[next(key for key in state if key.endswith(part))]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(ModelError, match=f"does not fit timm:{name}: .*{part}"):
        load_model(f"timm:{name}", weights=tmp_path / "part.pth")


def test_files_in_old_forms_are_read_as_timm_reads_them(tmp_path) -> None:
    """torchvision's VGG, whose layers timm calls and shapes otherwise."""
    state = make("vgg11").state_dict()
    old = {key.replace("pre_logits.fc1", "classifier.0").replace("pre_logits.fc2", "classifier.3")
           .replace("head.fc", "classifier.6"): value for key, value in state.items()}  # fmt: skip
    old = {key: v.reshape(v.shape[0], -1) if key in ("classifier.0.weight", "classifier.3.weight") else v
           for key, v in old.items()}  # fmt: skip
    torch.save(old, tmp_path / "vgg.pth")
    assert_same_logits(load_model("timm:vgg11", weights=tmp_path / "vgg.pth"), make("vgg11"))


def test_numbers_that_are_none_are_refused(tmp_path) -> None:
    state = make("resnet18").state_dict()
    state["fc.bias"][3] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(ModelError, match=r"'fc\.bias' of .* holds values that are not finite"):
        load_model("timm:resnet18", weights=tmp_path / "nan.pth")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet5", "Did you mean 'timm:resnet50'"),
        ("timm:resnet18.a1_in1", r"no weights named 'a1_in1' for 'resnet18'; there are .* Did you mean 'a1_in1k'\?"),
        ("timm:", "There is no model named 'timm:'"),
        ("resnet18d", r"Did you mean timm:resnet18d\?"),
        ("resnet50", r"Did you mean torchvision:resnet50 or timm:resnet50\?"),
        ("resnet18.a1_in1k", r"Did you mean timm:resnet18\.a1_in1k\?"),
        ("timm/resnet18.a1_in1k", r"Did you mean hf-hub:timm/resnet18\.a1_in1k\?"),
        ("hf-hub:resnet18", "is not hf-hub:OWNER/NAME"),
        ("hf-hub:a/b/c", "is not hf-hub:OWNER/NAME"),
        ("hf-hub:a/b@../../../x", "is not hf-hub:OWNER/NAME"),
        ("hf-hub:../b", "is not hf-hub:OWNER/NAME"),
        ("timm:aimv2_1b_patch14_224.apple_pt", "give features and no classes"),
    ],
)
def test_names_that_cannot_be_used(name, message) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(name)


def test_without_timm_one_sentence_says_what_to_install(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    for name in ("timm:resnet18", "hf-hub:timm/resnet18"):
        with pytest.raises(
            ModelError,
            match=r"needs the package timm, which is missing\. Install it with: pip install 'lrpcli\[timm\]'\.",
        ):
            load_model(name)


def test_the_list_of_timm() -> None:
    names = [entry.name for entry in list_zoo("timm:")]
    assert names == [f"timm:{name}" for name in timm.list_pretrained()]
    with pytest.raises(ModelError, match="has no list here"):
        list_zoo("hf-hub")


def test_weights_by_address_lie_where_torch_hub_has_them(checkpoints, monkeypatch) -> None:
    weights = find_entry("timm:legacy_seresnet18.in1k").weights
    assert weights.path() == checkpoints / "seresnet18-4bb0ce65.pth"
    assert weights.hash == "sha256:4bb0ce65"
    monkeypatch.setenv("LRP_OFFLINE", "1")
    with pytest.raises(WeightsError, match="LRP_OFFLINE"):
        load_model("timm:legacy_seresnet18.in1k")
    unnamed = find_entry("timm:vit_huge_patch14_gap_224.in1k_ijepa").weights
    assert (unnamed.state(), unnamed.hash) == ("own file", None)
    with pytest.raises(WeightsError, match=r"No hash is known.*give --weights FILE"):
        unnamed.fetch()


CONFIG = {
    "architecture": "resnet18",
    "num_classes": 3,
    "pretrained_cfg": {
        "tag": "mine", "input_size": [3, 64, 64], "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "squash",
        "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "num_classes": 3, "classifier": "fc", "first_conv": "conv1",
        "custom_load": True, "url": "http://127.0.0.1:9/evil.pth", "file": "/etc/passwd",
    },
    "label_names": ["ant", "bee", "cow"],
}  # fmt: skip


def described(tmp_path, repository="me/tiny", **changes) -> timm_nets.TimmNet:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**CONFIG, **changes}))
    return timm_config.described(path, repository)


def test_a_repository_says_its_net_input_and_labels(tmp_path) -> None:
    net = described(tmp_path)
    assert net.labels() == ("ant", "bee", "cow")
    found = timm_nets.preprocessing_of(net.config.to_dict(), (3, 64, 64))
    expected = Preprocessing(
        (64, 64), (71, 71), "RGB", 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), 3, "bicubic", "squash"
    )
    assert found.fingerprint() == expected.fingerprint()
    assert (net.config.url, net.config.file, net.config.custom_load) == (None, None, False)
    words = {"a": "ant", "b": "bee", "n02124075": "cat, puss"}
    named = described(tmp_path, label_names=list(words), label_descriptions=words)
    assert named.labels() == ("a, ant", "b, bee", "n02124075 cat, puss")


def test_a_number_of_classes_is_no_name_for_them_outside_timms_own_repositories(tmp_path) -> None:
    thousand = {"num_classes": 1000, "label_names": None}
    assert described(tmp_path, **thousand).labels() is None
    assert len(described(tmp_path, "timm/x", **thousand).labels()) == 1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": None}, "it names no architecture of timm"),
        ({"architecture": "BertModel"}, "this timm knows no 'BertModel'"),
        ({"model_args": {"checkpoint_path": "/etc/passwd"}}, "its model_args have 'checkpoint_path'"),
        ({"model_args": {"pretrained_cfg": {}}}, "its model_args have 'pretrained_cfg'"),
        ({"model_args": {"width": 10**9}}, "'width' of its model_args is too large"),
        ({"model_args": [1]}, "is not one of timm"),
        ({"num_classes": 10**9}, "its num_classes are 1000000000"),
        ({"num_classes": "3"}, "its num_classes are 3"),
        ({"pretrained_cfg": {"input_size": [3, 10**6, 4]}}, "its input_size is"),
        ({"pretrained_cfg": {"input_size": 3}}, "is not one of timm"),
    ],
)
def test_a_config_that_asks_for_more_than_a_net_is_refused(changes, message, tmp_path) -> None:
    with pytest.raises(ModelError, match=message):
        described(tmp_path, **changes)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"architecture": 3}', "\0"])
def test_a_config_that_is_none_is_refused(text, tmp_path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ModelError, match="is not one of timm"):
        timm_config.described(path, "me/tiny")


@pytest.mark.parametrize(
    "changes",
    [{"crop_pct": 1e-9}, {"crop_pct": "x"}, {"crop_mode": "smart"}, {"interpolation": "cubic"}, {"std": [0, 0, 0]},
     {"mean": [float("nan")] * 3}, {"mean": 3}],
)  # fmt: skip
def test_a_preprocessing_that_cannot_be_followed_is_refused(changes) -> None:
    with pytest.raises(ModelError, match="configuration of timm cannot be followed"):
        timm_nets.preprocessing_of({**CONFIG["pretrained_cfg"], **changes}, (3, 64, 64))


def test_labels_that_do_not_fit_are_refused(tmp_path) -> None:
    for names in (["a"], "abc", [["x"]] * 2, {"0": "a", "x": "b"}):
        with pytest.raises(ModelError, match=r"class names in the configuration .* cannot be used"):
            described(tmp_path, label_names=names).labels()


def test_the_layers_of_a_net_of_timm() -> None:
    assert layer_table(load_architecture("timm:resnet18"))[-1].output == (1000,)
