"""Forward passes against OpenCV's own Caffe reader, and our net descriptions against the published ones."""

from pathlib import Path

import numpy as np
import pytest
import torch

import lrpcli
from lrpcli.models import load_architecture, load_model
from lrpcli.models.caffe.assemble import assemble
from lrpcli.models.caffe.files import Weights, read_prototxt, read_weights
from lrpcli.models.description import Description
from lrpcli.models.layer_table import layer_table
from lrpcli.models.zoo.registry import PACKAGE
from tests.models.files import TINY, as_v1, random_blobs, write_caffemodel, write_hdf5
from tests.shared import shared


def opencv(prototxt: Path, caffemodel: Path, x: np.ndarray, layer: str | None = None) -> np.ndarray:
    """Output of the net, or of one of its layers, as OpenCV computes it."""
    cv2 = pytest.importorskip("cv2")
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(caffemodel))
    net.setInput(x)
    return net.forward(layer) if layer else net.forward()


def images(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    """One image with pixels of a photo's range, float32 (1, C, H, W)."""
    return np.random.default_rng(seed).uniform(-120, 150, (1, *shape)).astype(np.float32)


def run(model: lrpcli.Model, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model.module(torch.from_numpy(x)).numpy()


def assert_close(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-5) -> None:
    theirs = theirs.reshape(ours.shape)
    assert np.abs(theirs).max() > 0
    assert np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def zeros(prototxt: Path) -> lrpcli.Model:
    return assemble(Weights(prototxt, None, None, None), Description(prototxt=prototxt))


@pytest.mark.slow
def test_googlenet_equals_opencv() -> None:
    weights = shared("models/bvlc_googlenet_rebuilt.caffemodel")
    prototxt = shared("models/bvlc_googlenet_deploy.prototxt")
    model = load_model(weights, prototxt=prototxt)
    x = images(model.input_shape)
    logits = lrpcli.Explainer(model).predict(torch.from_numpy(x)).numpy()
    assert_close(logits, opencv(prototxt, weights, x, "loss3/classifier"))
    assert_close(run(model, x), opencv(prototxt, weights, x))
    named = load_model("googlenet", weights=weights)
    assert np.array_equal(run(named, x), run(model, x))
    assert named.label(281) == "tabby"


@pytest.mark.parametrize("version", [1, 2])
def test_cifar10_full_equals_opencv(version: int) -> None:
    weights = shared(f"models/cifar10_full_iter_70000_v{version}format.caffemodel")
    prototxt = shared(f"models/cifar10_full_v{version}.prototxt")
    x = images((3, 32, 32))
    theirs = opencv(prototxt, weights, x, "ip1")
    for model in (load_model(weights, prototxt=prototxt), load_model("cifar10-full", weights=weights)):
        assert_close(lrpcli.Explainer(model).predict(torch.from_numpy(x)).numpy(), theirs)


def test_cifar10_full_from_hdf5_equals_opencv(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    weights = shared("models/cifar10_full_iter_70000.caffemodel.h5")
    prototxt = shared("models/cifar10_full_v2.prototxt")
    model = load_model(weights, prototxt=prototxt)
    blobs = read_weights(weights).blobs
    assert blobs is not None
    binary = write_caffemodel(tmp_path / "again.caffemodel", blobs, prototxt.read_text())
    x = images((3, 32, 32))
    theirs = opencv(prototxt, binary, x, "ip1")
    assert_close(lrpcli.Explainer(model).predict(torch.from_numpy(x)).numpy(), theirs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nin_imagenet", "squeezenet", "deploy_age", "deploy_gender"])
def test_published_nets_with_random_weights_equal_opencv(name: str, tmp_path: Path) -> None:
    prototxt = shared(f"prototxt/{name}.prototxt")
    weights = write_caffemodel(tmp_path / "random.caffemodel", random_blobs(prototxt))
    model = load_model(weights, prototxt=prototxt)
    x = images(model.input_shape)
    assert_close(run(model, x), opencv(prototxt, weights, x))


def test_every_format_gives_the_same_net(tmp_path, tiny_blobs) -> None:
    pytest.importorskip("h5py")
    bare = tmp_path / "tiny.prototxt"
    old = tmp_path / "old.prototxt"
    old.write_text(as_v1(TINY))
    v1 = write_caffemodel(tmp_path / "v1.caffemodel", tiny_blobs, as_v1(TINY), version=1)
    v2 = write_caffemodel(tmp_path / "v2.caffemodel", tiny_blobs, TINY)
    hdf5 = write_hdf5(tmp_path / "h.caffemodel.h5", tiny_blobs)
    x = images((3, 16, 16))
    expected = opencv(bare, v2, x)
    models = [load_model(v1), load_model(v2), load_model(v1, prototxt=bare), load_model(v2, prototxt=old)]
    for model in (*models, load_model(hdf5, prototxt=bare), load_model(hdf5, prototxt=old)):
        assert_close(run(model, x), expected)
        assert [node.meta["layer"] for node in model.module.graph.nodes if node.op == "call_module"] == [
            "conv1", "relu1", "norm1", "fc2", "prob",
        ]  # fmt: skip


ARCHITECTURES = [
    ("caffenet", "prototxt/bvlc_reference_caffenet.prototxt"),
    ("alexnet", "prototxt/bvlc_alexnet.prototxt"),
    ("googlenet", "prototxt/bvlc_googlenet.prototxt"),
    ("googlenet", "models/bvlc_googlenet_deploy.prototxt"),
    ("rcnn-ilsvrc13", "prototxt/bvlc_reference_rcnn_ilsvrc13.prototxt"),
    ("flickr-style", "prototxt/finetune_flickr_style.prototxt"),
    ("vgg-cnn-s", "prototxt/VGG_CNN_S.prototxt"),
    ("cifar10-full", "models/cifar10_full_v1.prototxt"),
    ("cifar10-full", "models/cifar10_full_v2.prototxt"),
]


@pytest.mark.parametrize(("name", "reference"), ARCHITECTURES)
def test_our_net_descriptions_have_the_published_geometry(name: str, reference: str) -> None:
    ours, theirs = load_architecture(name), zeros(shared(reference))
    assert ours.input_shape == theirs.input_shape
    assert layer_table(ours) == layer_table(theirs)
    described = read_prototxt(PACKAGE / "architectures" / f"{name}.prototxt").layers
    published = [layer for layer in read_prototxt(shared(reference)).layers if layer.type != "Input"]
    assert [(layer.name, layer.type) for layer in described] == [(layer.name, layer.type) for layer in published]


def test_our_imagenet_labels_are_in_the_published_order() -> None:
    published = shared("models/synset_words.txt").read_text().splitlines()
    assert (PACKAGE / "data" / "imagenet_labels.txt").read_text().splitlines() == published


@pytest.mark.slow
def test_caffenet_by_name_with_full_size_weights(tmp_path: Path) -> None:
    """The official file's format: V1, legacy shapes of four axes, 244 MB."""
    blobs = random_blobs(PACKAGE / "architectures" / "caffenet.prototxt")
    text = (PACKAGE / "architectures" / "caffenet.prototxt").read_text()
    file = write_caffemodel(tmp_path / "random.caffemodel", blobs, as_v1(text), version=1)
    assert file.stat().st_size > 243_000_000
    model = load_model("caffenet", weights=file)
    file.unlink()
    assert (model.input_shape, model.outputs, model.label(0)) == ((3, 227, 227), 1000, "tench")
    assert np.array_equal(model.module.fc8.weight.numpy(), blobs["fc8"][0])
    probabilities = run(model, images(model.input_shape))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
