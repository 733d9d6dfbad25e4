"""load_model: by path, from self-describing files, around torch modules; what overrules what."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lrpcli
from lrpcli.errors import ModelError, UsageError, WeightsError
from lrpcli.images.preprocess import Preprocessing
from lrpcli.models import load_model
from lrpcli.models.importers import suffixes_in_words
from lrpcli.models.zoo import find_entry
from lrpcli.models.zoo.registry import PACKAGE
from tests.models.files import TINY, random_blobs, write_caffemodel, write_hdf5, write_safetensors
from tests.models.test_forward import images, run

FOUR = ["n00000001 red, crimson", "n00000002 green", "n00000003 blue, azure", "n00000004 blue whale"]
LIKE_TRAINED = {"size": [16, 16], "resize": [20, 20], "channel_order": "RGB", "pixel_scale": 1.0,
                "mean": [120.0, 110.0, 100.0], "std": [60.0, 61.0, 62.0]}  # fmt: skip


@pytest.fixture
def self_describing(tmp_path, tiny_blobs):
    return write_safetensors(
        tmp_path / "tiny.safetensors", tiny_blobs, name="tiny-net", prototxt=TINY, preprocessing=LIKE_TRAINED,
        labels="\n".join(FOUR), licence="CC0", accuracy={"top1": 0.5},
    )  # fmt: skip


def test_safetensors_holds_everything(self_describing, tiny_caffemodel) -> None:
    model = load_model(self_describing)
    assert (model.name, model.input_shape, model.outputs) == ("tiny-net", (3, 16, 16), 4)
    assert model.labels == tuple(FOUR)
    assert model.preprocessing.describe() == (
        "squashed to 20 x 20, centre 16 x 16, RGB, 0..255, minus mean 120, 110, 100, divided by 60, 61, 62"
    )
    x = images((3, 16, 16))
    assert np.array_equal(run(model, x), run(load_model(tiny_caffemodel), x))


def test_safetensors_in_half_precision(tmp_path, tiny_blobs, tiny_caffemodel) -> None:
    model = load_model(write_safetensors(tmp_path / "h.safetensors", tiny_blobs, np.float16, prototxt=TINY))
    x = images((3, 16, 16)) / 100
    assert model.module.fc2.weight.dtype == torch.float32
    np.testing.assert_allclose(run(model, x), run(load_model(tiny_caffemodel), x), atol=5e-3)


def test_safetensors_with_a_net_description_beside_it(tmp_path, tiny_blobs, tiny_prototxt) -> None:
    bare = write_safetensors(tmp_path / "bare.safetensors", tiny_blobs)
    assert load_model(bare, prototxt=tiny_prototxt).outputs == 4
    with pytest.raises(ModelError, match="does not say which net they belong to. Give its net description: --prototxt"):
        load_model(bare)


def test_a_bundled_model_goes_by_name(self_describing, monkeypatch, tmp_path) -> None:
    from lrpcli import models
    from lrpcli.models.zoo import bundled

    self_describing.rename(tmp_path / "ours.safetensors")
    monkeypatch.setattr(bundled, "FOLDER", tmp_path)
    monkeypatch.setattr(bundled, "ENTRIES", (bundled.BundledEntry("ours", "Ours"),))
    model = load_model("ours")
    assert (model.name, model.outputs, model.label(1)) == ("ours", 4, "green")
    assert models.load_architecture("ours").weights_sha256 == model.weights_sha256


def test_options_overrule_the_file_one_by_one(self_describing) -> None:
    model = load_model(self_describing, preprocessing={"mean": (1, 2, 3), "resize": None}, labels=["a", "b", "c", "d"])
    assert model.preprocessing.describe() == (
        "whole photo squashed to 16 x 16, RGB, 0..255, minus mean 1, 2, 3, divided by 60, 61, 62"
    )
    assert model.labels == ("a", "b", "c", "d")
    whole = Preprocessing((16, 16), channel_order="BGR")
    assert load_model(self_describing, preprocessing=whole).preprocessing is whole


def test_defaults_by_path(tiny_caffemodel) -> None:
    model = load_model(str(tiny_caffemodel), preprocessing={"mean": (104, 117, 123)})
    assert (model.name, model.labels, model.source) == ("Tiny", None, str(tiny_caffemodel))
    assert model.label(3) == "class 3"
    assert model.preprocessing.describe() == "whole photo squashed to 16 x 16, BGR, 0..255, minus mean 104, 117, 123"
    assert len(model.weights_sha256) == 64
    for wrong in (Image.new("L", (40, 30)), Image.new("RGBA", (40, 30)), "cat.jpg", np.zeros((30, 40, 3), np.uint8)):
        with pytest.raises(UsageError, match="preprocesses a PIL image in mode RGB, not an (image|object)"):
            model.preprocess(wrong)
    x, placement = model.preprocess(Image.new("RGB", (40, 30), (255, 0, 0)))
    assert x.shape == (1, 3, 16, 16)
    assert x[0, :, 5, 5].tolist() == [-104, -117, 255 - 123]
    assert placement.image_size == (30, 40)
    low, high = model.pixel_range
    assert low.flatten().tolist() == [-104, -117, -123]
    assert high.flatten().tolist() == [151, 138, 132]


def test_nets_on_crops_are_cut_from_256(tmp_path) -> None:
    prototxt = tmp_path / "n.prototxt"
    prototxt.write_text(TINY.replace("dim: 16 dim: 16", "dim: 224 dim: 224"))
    weights = write_caffemodel(tmp_path / "n.caffemodel", random_blobs(prototxt))
    model = load_model(weights, prototxt=prototxt, preprocessing={"pixel_scale": 1.0})
    assert model.preprocessing.resize == (256, 256)


def test_a_data_layer_that_makes_no_sense(tmp_path, tiny_blobs, tiny_prototxt) -> None:
    data = 'layer { name: "in" type: "Data" top: "data" transform_param { mean_value: 1 mean_value: 2 } }'
    tiny_prototxt.write_text(TINY + data)
    weights = write_caffemodel(tmp_path / "tiny.caffemodel", tiny_blobs)
    with pytest.raises(ModelError, match="does not fit the model: The mean has 2 values for a model of 3 channels"):
        load_model(weights, prototxt=tiny_prototxt)


def test_mean_images(tmp_path, tiny_caffemodel) -> None:
    mean = np.arange(3 * 20 * 18, dtype=np.float32).reshape(3, 20, 18)
    np.save(tmp_path / "mean.npy", mean)
    net = write_caffemodel(tmp_path / "m.caffemodel", {"a": [mean]}, version=1)
    from lrpcli.models.caffe.schema import messages

    message = messages()["NetParameter"].FromString(net.read_bytes())
    (tmp_path / "mean.binaryproto").write_bytes(message.layers[0].blobs[0].SerializeToString())
    for name in ("mean.npy", "mean.binaryproto"):
        model = load_model(tiny_caffemodel, preprocessing={"mean": tmp_path / name})
        assert np.array_equal(model.preprocessing.mean, mean[:, 2:18, 1:17])
    with pytest.raises(ModelError, match="is 5 x 5 pixels .* smaller than the model's input, 16 x 16"):
        load_model(tiny_caffemodel, preprocessing={"mean": np.zeros((3, 5, 5))})
    with pytest.raises(ModelError, match=r"The mean image '.*no.npy' cannot be read \(No such file or directory\)"):
        load_model(tiny_caffemodel, preprocessing={"mean": tmp_path / "no.npy"})
    np.save(tmp_path / "flat.npy", mean[0])
    with pytest.raises(ModelError, match=r"has the shape \(20, 18\); expected are finite numbers in the shape"):
        load_model(tiny_caffemodel, preprocessing={"mean": tmp_path / "flat.npy"})


BAD_PREPROCESSING = [
    ({"men": 3}, "Preprocessing has no option 'men'; there are resize, .*Did you mean 'mean'?"),
    ({"mean": (1, 2)}, "does not fit the model: The mean has 2 values for a model of 3 channels"),
    ({"mean": "x,y"}, "The mean image 'x,y' cannot be read"),
    ({"mean": [[1], [2, 3]]}, "This preprocessing does not fit the model"),
    ({"std": (1, 0, 1)}, "The std of a channel is divided by and must not be 0"),
    ({"channel_order": "GBR"}, "The channel order is RGB or BGR, not 'GBR'"),
    ({"resize": 8}, "A photo resized to 8 is smaller than the model's input"),
    (Preprocessing((9, 9)), r"makes images of 3 x 9 x 9 \(channels, height, width\), but the model reads 3 x 16 x 16"),
]


@pytest.mark.parametrize(("preprocessing", "message"), BAD_PREPROCESSING)
def test_preprocessing_that_does_not_fit(tiny_caffemodel, preprocessing, message) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(tiny_caffemodel, preprocessing=preprocessing)


def test_files_that_need_more(tmp_path, tiny_blobs, tiny_prototxt) -> None:
    bare = write_caffemodel(tmp_path / "bare.caffemodel", tiny_blobs)
    with pytest.raises(ModelError, match="holds weights but not the net's hyper-parameters. Give the net description"):
        load_model(bare)
    pytest.importorskip("h5py")
    with pytest.raises(ModelError, match="holds weights but not the net's hyper-parameters"):
        load_model(write_hdf5(tmp_path / "bare.caffemodel.h5", tiny_blobs))
    other = tmp_path / "other.prototxt"
    other.write_text(TINY.replace('"conv1"', '"c"').replace('"fc2"', '"f"'))
    with pytest.raises(ModelError, match="holds weights for none of the layers of .*; it has 'conv1', 'fc2'. Give"):
        load_model(bare, prototxt=other)
    tiny_prototxt.write_text(TINY.replace("num_output: 4", "num_output: 5"))
    with pytest.raises(
        ModelError, match="weights of layer 'fc2' .* should have the shape 5 x 392, but .* holds 4 x 392"
    ):
        load_model(bare, prototxt=tiny_prototxt)
    tiny_prototxt.write_text(TINY.replace("input_shape { dim: 1 dim: 3 dim: 16 dim: 16 }", ""))
    with pytest.raises(ModelError, match="do not say how large an image .* Give its input shape .*--input-shape"):
        load_model(bare, prototxt=tiny_prototxt)
    assert load_model(bare, prototxt=tiny_prototxt, input_shape=(3, 16, 16)).input_shape == (3, 16, 16)
    with pytest.raises(ModelError, match=r"The input shape \(3, 16, 99999\) .* each between 1 and 16384"):
        load_model(bare, prototxt=tiny_prototxt, input_shape=(3, 16, 99999))


def test_paths_that_cannot_be_models(tmp_path, tiny_caffemodel) -> None:
    with pytest.raises(WeightsError, match=r"The weights file 'no/such.caffemodel' cannot be read \(No such file"):
        load_model("no/such.caffemodel")
    with pytest.raises(WeightsError, match=r"'no/such.safetensors' cannot be read \(No such file"):
        load_model("no/such.safetensors")
    for name in ("net.tflite", "some/folder/net.pb"):
        with pytest.raises(ModelError, match=rf"supported are {suffixes_in_words('and')}\. Any other"):
            load_model(name)
    for name in ("net.pt", tmp_path / "net.PTH", "net.ckpt"):
        with pytest.raises(ModelError, match=r"holds weights without the net.*--model net.py:make --weights .*net\."):
            load_model(name)
    with pytest.raises(ModelError, match=r"it is Python code\. .* --model some/net.py:make\."):
        load_model("some/net.py")
    with pytest.raises(ModelError, match="is a path, so weights cannot be given beside it; they go with a name"):
        load_model(tiny_caffemodel, weights="x.caffemodel")
    with pytest.raises(ModelError, match=r"A model is a name, a path or a torch.nn.Module, not list\."):
        load_model([])


def test_caffenet_by_name_without_weights(monkeypatch, cache) -> None:
    monkeypatch.setenv("LRP_OFFLINE", "1")
    with pytest.raises(WeightsError) as caught:
        load_model("caffenet")
    assert str(caught.value) == (
        f"The weights of 'caffenet' are not in the cache ({cache / 'bvlc_reference_caffenet.caffemodel'}), and "
        "LRP_OFFLINE forbids to fetch them. Unset it, name a folder that has the file with --mirror FOLDER, or fetch "
        f"{find_entry('caffenet').weights.urls[0]} elsewhere and give --weights FILE."
    )
    assert caught.value.exit_code == 3


def test_the_labels_of_a_name_are_not_those_of_another_net_description(tmp_path) -> None:
    tuned = tmp_path / "tuned.prototxt"
    text = (PACKAGE / "architectures" / "cifar10-full.prototxt").read_text()
    tuned.write_text(text.replace("num_output: 10", "num_output: 7"))
    weights = write_caffemodel(tmp_path / "tuned.caffemodel", random_blobs(tuned))
    model = load_model("cifar10-full", weights=weights, prototxt=tuned)
    assert (model.outputs, model.labels) == (7, None)
    assert model.preprocessing.channel_order == "RGB"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


def test_torch_modules() -> None:
    net = Net()
    model = load_model(net, input_shape=(3, 20, 30), labels=["cat", "dog"])
    assert model.module is net
    assert net.training
    assert (model.name, model.label(1)) == ("Net", "dog")
    assert model.preprocessing.describe() == "whole photo squashed to 20 x 30, RGB, 0..1"
    x, _ = model.preprocess(Image.new("RGB", (9, 9), (255, 51, 0)))
    assert x[0, :, 3, 3].tolist() == pytest.approx([1, 0.2, 0])
    result = lrpcli.Explainer(model)(x)
    assert result.relevance.shape == (1, 3, 20, 30)
    with pytest.raises(ModelError, match=r"The input shape of Net is not known. Give input_shape=\(channels, height"):
        load_model(net)
    with pytest.raises(ModelError, match="A torch module has its weights and layers"):
        load_model(net, weights="x", input_shape=(3, 4, 4))


@pytest.mark.parametrize(
    ("text", "index"),
    [("2", 2), (" red ", 0), ("Crimson", 0), ("n00000002", 1), ("blue", 2), ("azure", 2), ("BLUE WHALE", 3)],
)
def test_find_class(self_describing, text, index) -> None:
    assert load_model(self_describing).find_class(text) == index


def test_classes_that_are_not_there(self_describing, tiny_caffemodel) -> None:
    model = load_model(self_describing)
    with pytest.raises(ModelError, match=r"has no class 'gren'\. Did you mean 'green'\?"):
        model.find_class("gren")
    with pytest.raises(ModelError, match=r"has no class 'whale'\. Did you mean 'blue whale'\?"):
        model.find_class("whale")
    with pytest.raises(ModelError, match=r"has no class 'xyz'\. Give the index of the output, or one of its labels"):
        model.find_class("xyz")
    unnamed = load_model(tiny_caffemodel)
    with pytest.raises(ModelError, match="has no class labels, so 'red' cannot be looked up. Give the index"):
        unnamed.find_class("red")
    for loaded in (model, unnamed):
        with pytest.raises(ModelError, match="has no output 4; its outputs are 0 to 3"):
            loaded.find_class("4")


def test_a_name_of_two_classes_needs_the_index() -> None:
    labels = (PACKAGE / "data" / "imagenet_labels.txt").read_text().splitlines()
    model = lrpcli.Model("m", nn.Identity(), (3, 4, 4), Preprocessing((4, 4)), tuple(labels), outputs=1000)
    with pytest.raises(
        ModelError, match=r"'crane' is the name of several outputs of 'm': 134 \(crane\), 517 \(crane\)"
    ):
        model.find_class("crane")
    assert model.find_class("n02012849") == 134


def test_label_files(tmp_path, tiny_caffemodel) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_bytes("\ufeffone\r\ntwo\r\nthree\r\nfour\r\n".encode())
    assert load_model(tiny_caffemodel, labels=labels).labels == ("one", "two", "three", "four")
    for content, message in [
        (b"a\nb\n", "has 2 lines, but the model has 4 outputs. Give a file with one line per output."),
        (b"a\n\nb\nc\n", "Line 2 of the label file .* is empty; line n names output n - 1"),
        (b"", "The label file .* is empty."),
        (b"a\xe9\n", r"cannot be read: it is no UTF-8 text \(byte 1 cannot be read\); save it as UTF-8"),
    ]:
        labels.write_bytes(content)
        with pytest.raises(ModelError, match=message):
            load_model(tiny_caffemodel, labels=labels)
    with pytest.raises(ModelError, match=r"The label file '.*gone' cannot be read: No such file"):
        load_model(tiny_caffemodel, labels=tmp_path / "gone")
    with pytest.raises(ModelError, match="There are 1 labels for a model with 4 outputs"):
        load_model(tiny_caffemodel, labels=["one"])


def test_facts_for_people_are_kept(self_describing) -> None:
    from lrpcli.models.self_describing import read_safetensors

    facts = read_safetensors(self_describing).facts
    assert facts == {"accuracy": json.dumps({"top1": 0.5}), "licence": "CC0"}
