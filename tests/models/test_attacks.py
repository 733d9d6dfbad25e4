"""Model files that are damaged or malicious: always an error that names the file, soon, and without much memory."""

import pickle
import random
import resource
import struct
import sys
import time

import numpy as np
import pytest

from lrpcli.errors import LrpError, ModelError, WeightsError
from lrpcli.models import load_model
from lrpcli.models.caffe.files import read_prototxt, read_weights
from lrpcli.models.caffe.schema import messages
from lrpcli.models.importers import TABLE
from lrpcli.models.reading import LONGEST_TEXT
from tests.models.files import TINY, varint, write_caffemodel, write_hdf5, write_safetensors

SECONDS = 20  # of this process: what else the machine does costs none
MEGABYTES = 200


@pytest.fixture(autouse=True)
def quick_and_small():
    """Every test here, with all of its files."""
    start, peak = time.process_time(), _peak()
    yield
    assert time.process_time() - start < SECONDS
    assert _peak() - peak < MEGABYTES


def _peak() -> float:
    """The most memory this process ever held, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def refused(path, match: str | None = None, **options) -> str:
    """The message with which a file is refused; it names the file."""
    with pytest.raises((ModelError, WeightsError), match=match) as caught:
        load_model(path, **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


def refused_description(path, text: str, weights, match: str) -> None:
    """A net description with that text is refused for those weights; the message names it."""
    path.write_text(text)
    with pytest.raises(ModelError, match=match) as caught:
        load_model(weights, prototxt=path)
    assert str(path) in str(caught.value)


def test_truncated_caffemodels(tmp_path, tiny_caffemodel) -> None:
    data = tiny_caffemodel.read_bytes()
    path = tmp_path / "cut.caffemodel"
    for length in sorted({*range(0, 400, 7), *range(0, len(data), len(data) // 60), len(data) - 1}):
        path.write_bytes(data[:length])
        refused(path)


def test_truncated_hdf5(tmp_path, tiny_blobs, tiny_prototxt) -> None:
    pytest.importorskip("h5py")
    data = write_hdf5(tmp_path / "whole.caffemodel.h5", tiny_blobs).read_bytes()
    path = tmp_path / "cut.caffemodel.h5"
    for length in range(0, len(data), len(data) // 40):
        path.write_bytes(data[:length])
        refused(path, prototxt=tiny_prototxt)


def test_truncated_safetensors(tmp_path, tiny_blobs) -> None:
    data = write_safetensors(tmp_path / "whole.safetensors", tiny_blobs, prototxt=TINY).read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in range(len(data) // 40, len(data), len(data) // 40):
        path.write_bytes(data[:length])
        refused(path, "is no undamaged safetensors file")


@pytest.mark.parametrize("kind", ["caffemodel", "caffemodel.h5", "safetensors"])
def test_flipped_bits_never_crash(tmp_path, tiny_blobs, tiny_prototxt, kind) -> None:
    pytest.importorskip("h5py")
    path = tmp_path / f"net.{kind}"
    if kind == "safetensors":
        write_safetensors(path, tiny_blobs, prototxt=TINY)
    elif kind == "caffemodel":
        write_caffemodel(path, tiny_blobs, TINY)
    else:
        write_hdf5(path, tiny_blobs)
    data, chance, refusals = path.read_bytes(), random.Random(7), 0
    for _ in range(150):
        flipped = bytearray(data)
        for _ in range(chance.randint(1, 20)):
            # Structure lies at the front; the numbers behind it may take any value.
            flipped[chance.randrange(min(len(data), 2500))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        try:
            load_model(path, prototxt=tiny_prototxt)
        except LrpError:
            refusals += 1
    assert refusals > 20


CONTENTS = {
    "empty": b"",
    "zeros": b"\x00" * 100,
    "text": b"hello, world",
    "magic": b"\x89HDF\r\n\x1a\n",
    "page": b"<html>Not found</html>",
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("suffix", TABLE)
def test_files_that_are_something_else(tmp_path, content, suffix) -> None:
    path = tmp_path / f"net{suffix}"
    path.write_bytes(CONTENTS[content])
    refused(path)


@pytest.mark.parametrize("suffix", TABLE)
def test_folders(tmp_path, suffix) -> None:
    path = tmp_path / f"net{suffix}"
    path.mkdir()
    assert "cannot be read (Is a directory)" in refused(path)


class Trap:
    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("suffix", TABLE)
def test_a_pickle_is_not_opened(tmp_path, suffix) -> None:
    path, trap = tmp_path / f"net{suffix}", tmp_path / "trap"
    path.write_bytes(pickle.dumps(Trap(trap)))
    refused(path)
    np.save(tmp_path / "mean.npy", np.array([Trap(trap)], dtype=object), allow_pickle=True)
    good = write_safetensors(tmp_path / "good.safetensors", {"conv1": [np.zeros(3)]}, prototxt=TINY)
    with pytest.raises(ModelError):
        load_model(good, preprocessing={"mean": tmp_path / "mean.npy"})
    assert not trap.exists()


@pytest.mark.parametrize("length", [10**6, 2**31, 2**40, 2**63])
def test_lying_lengths(tmp_path, length) -> None:
    path = tmp_path / "net.caffemodel"
    for key in (b"\xa2\x06", b"\x12", b"\x0a"):  # layer, layers, name
        path.write_bytes(key + varint(length) + b"\x00" * 50)
        refused(path)
    safetensors = tmp_path / "net.safetensors"
    safetensors.write_bytes(struct.pack("<Q", length) + b"{}")
    refused(safetensors, "is no undamaged safetensors file")


@pytest.mark.parametrize("shape", [[8, 3, 3, 2**40], [2**62, 4], [-1, -216], [0], [216] + [1] * 40, []])
def test_claimed_shapes(tmp_path, tiny_blobs, shape) -> None:
    path = write_caffemodel(tmp_path / "net.caffemodel", tiny_blobs, TINY)
    net = messages()["NetParameter"].FromString(path.read_bytes())
    net.layer[0].blobs[0].shape.dim[:] = shape
    path.write_bytes(net.SerializeToString())
    claimed = " x ".join(map(str, shape))
    refused(path, f"A blob of layer 'conv1' of .* holds 216 numbers but claims the shape {claimed}")


def test_numbers_cut_off_in_the_middle(tmp_path, tiny_caffemodel) -> None:
    net = messages()["NetParameter"].FromString(tiny_caffemodel.read_bytes())
    net.layer[0].blobs[0].data[0] += b"\x00"
    tiny_caffemodel.write_bytes(net.SerializeToString())
    refused(tiny_caffemodel, "The numbers of layer 'conv1' of .* are cut off in the middle of one")


def test_numbers_that_are_not_packed_are_read(tmp_path, tiny_caffemodel) -> None:
    """Other writers store one field per number; protobuf readers must take both."""
    net = messages(raw=False)["NetParameter"].FromString(tiny_caffemodel.read_bytes())
    expected = read_weights(tiny_caffemodel).blobs["conv1"][0]
    unpacked = b"".join(b"\x2d" + struct.pack("<f", value) for value in net.layer[0].blobs[0].data)
    for blob in net.layer[0].blobs:
        blob.ClearField("data")
    layer = net.layer[0]
    shape = layer.blobs[0].shape.SerializeToString()
    del layer.blobs[:]
    blob = unpacked + b"\x3a" + varint(len(shape)) + shape
    body = layer.SerializeToString() + b"\x3a" + varint(len(blob)) + blob
    tiny_caffemodel.write_bytes(b"\xa2\x06" + varint(len(body)) + body)
    assert np.array_equal(read_weights(tiny_caffemodel).blobs["conv1"][0], expected)


def test_many_numbers_that_are_not_packed_take_little_memory(tmp_path) -> None:
    numbers = (b"\x2d" + struct.pack("<f", 1)) * 1_500_000
    layer = b"\x0a\x01x\x3a" + varint(len(numbers)) + numbers
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"\xa2\x06" + varint(len(layer)) + layer)
    assert read_weights(path).blobs["x"][0].shape == (1_500_000,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(tmp_path, tiny_blobs, value) -> None:
    tiny_blobs["fc2"][1][2] = value
    refused(write_caffemodel(tmp_path / "n.caffemodel", tiny_blobs, TINY), "biases of layer 'fc2' .* are not finite")
    refused(write_safetensors(tmp_path / "n.safetensors", tiny_blobs, prototxt=TINY), "are not finite")


def test_doubles_too_large_for_single_precision(tmp_path, tiny_blobs, tiny_prototxt) -> None:
    pytest.importorskip("h5py")
    huge = {**tiny_blobs, "fc2": [tiny_blobs["fc2"][0].astype(np.float64) * 1e300, tiny_blobs["fc2"][1]]}
    path = write_hdf5(tmp_path / "huge.caffemodel.h5", huge)
    refused(path, "weights of layer 'fc2' .* are not finite as float32", prototxt=tiny_prototxt)


def test_hdf5_that_claims_more_than_it_holds(tmp_path, tiny_prototxt) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "bomb.caffemodel.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data/conv1/0", shape=(10**6, 10**6), dtype="f4", compression="gzip", chunks=(1000, 1000))
    refused(
        path,
        "asks for more than 2 GiB of memory for its weights \\('/data/conv1/0' .* 1000000 x 1000000",
        prototxt=tiny_prototxt,
    )


def test_hdf5_cannot_read_other_files(tmp_path, tiny_prototxt) -> None:
    h5py = pytest.importorskip("h5py")
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x00" * 864)
    path = tmp_path / "links.caffemodel.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data/conv1/0", (216,), "f4", external=[(str(secret), 0, 864)])
    refused(path, "is no plain array of numbers", prototxt=tiny_prototxt)
    with h5py.File(path, "w") as file:
        file["data/conv1/0"] = h5py.ExternalLink(str(secret), "x")
        file["data/conv1/1"] = np.array([b"text"])
    refused(path, prototxt=tiny_prototxt)


def test_hdf5_with_gaps(tmp_path, tiny_prototxt) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "gaps.caffemodel.h5"
    with h5py.File(path, "w") as file:
        file["data/conv1/1"] = np.zeros(3)
    refused(path, "Layer 'conv1' of .* lacks one of its blobs", prototxt=tiny_prototxt)
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(3)
    refused(path, "it has no data sets 'data/<layer>/<index>'", prototxt=tiny_prototxt)


SAFETENSORS = [
    ({"preprocessing": "{"}, "The preprocessing in .* is no JSON"),
    ({"preprocessing": "[" * 100_000}, "The preprocessing in .* is no JSON"),
    ({"preprocessing": "[1]"}, "The preprocessing in .* is no JSON object"),
    ({"preprocessing": {"mean": "/etc/passwd"}}, "The mean in .* is no list of numbers"),
    ({"preprocessing": {"mean": {"a": 1}}}, "This preprocessing does not fit the model"),
    ({"preprocessing": {"resize": "big"}}, "This preprocessing does not fit the model"),
    ({"prototxt": "layer {"}, "cannot be read"),
    ({"prototxt": "#" * (LONGEST_TEXT + 1)}, "is too long to be one"),
    ({"labels": "one\ntwo"}, "2 labels for a model with 4 outputs"),
]


@pytest.mark.parametrize(("metadata", "match"), SAFETENSORS)
def test_safetensors_with_hostile_metadata(tmp_path, tiny_blobs, metadata, match) -> None:
    path = write_safetensors(tmp_path / "net.safetensors", tiny_blobs, **{"prototxt": TINY, **metadata})
    with pytest.raises(ModelError, match=match):
        load_model(path)


def test_safetensors_with_unexpected_tensors(tmp_path) -> None:
    path = tmp_path / "net.safetensors"
    refused(write_safetensors(path, {"conv1": [np.zeros(3)]}, np.int32, prototxt=TINY), "not floating-point numbers")
    refused(write_safetensors(path, {}, prototxt=TINY), "holds no weights")
    from safetensors.numpy import save_file

    save_file({"conv1.running_mean": np.zeros(3)}, path)
    refused(path, "is not named <layer>.weight or <layer>.bias")
    save_file({"conv1.bias": np.zeros(3)}, path)
    refused(path, "Layer 'conv1' of .* has a bias but no weight")


PROTOTXTS = [
    ("layer { name: ", "cannot be read"),
    ("layers { type: CONVOLUTIONS }", "has no value named CONVOLUTIONS"),
    ("layers { layer { name: 'x' type: 'conv' } }", "oldest format"),
    ("a { " * 5000, "cannot be read|no output"),
    ("", "has no output: it holds no layer whose result is left over"),
    ("layer { name: 'x' }" * 10_001, "has more than 10000 layers"),
    ("#" * (LONGEST_TEXT + 1), "is longer than 2,097,152 bytes"),
    (TINY.replace("num_output: 8", "num_output: 99999999999"), "'conv1'"),
    (TINY.replace("num_output: 8", "num_output: -8"), "'conv1'"),
    (TINY.replace("num_output: 8", f"num_output: {2**24}"), "should have the shape 16777216 x 3 x 3 x 3"),
    (TINY.replace("kernel_size: 3", "kernel_size: 16777216"), "'conv1'"),
    (
        TINY.replace("kernel_size: 3", "kernel_size: 3 pad: 16777215"),
        "an image padded \\(layer 'conv1', of shape 3 x 33554446",
    ),
    (TINY.replace("stride: 2", "stride: 0"), "its stride size is"),
    (TINY.replace("local_size: 5", "local_size: 4"), "'norm1'"),
    (TINY.replace("dim: 16 dim: 16", "dim: 999999999 dim: 1"), "each between 1 and 16384"),
    (TINY.replace("dim: 16 dim: 16", f"dim: {2**70} dim: 1"), "cannot be read"),
    (TINY.replace('bottom: "norm1"', 'bottom: "norm2"'), "reads 1 inputs|'fc2'|no input shape|do not say"),
]


@pytest.mark.parametrize(("text", "match"), PROTOTXTS)
def test_hostile_net_descriptions(tmp_path, tiny_caffemodel, text, match) -> None:
    refused_description(tmp_path / "net.prototxt", text, tiny_caffemodel, match)


def test_a_net_description_that_is_none(tmp_path, tiny_caffemodel) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        load_model(tiny_caffemodel, prototxt=tiny_caffemodel)
    with pytest.raises(ModelError, match=r"The net description .* cannot be read: Is a directory"):
        read_prototxt(tmp_path)


HUGE = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1000000, 1000000), }"
MEANS = {
    "huge": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(HUGE) + 1) + HUGE + b"\n",
    "code": b"\x93NUMPY\x01\x00\x10\x00{'descr': import",
    "header": b"\x93NUMPY",
    "text": b"not a mean",
    "empty": b"",
}


@pytest.mark.parametrize("content", MEANS)
def test_hostile_mean_images(tmp_path, tiny_caffemodel, content) -> None:
    mean = tmp_path / "mean.npy"
    mean.write_bytes(MEANS[content])
    with pytest.raises(ModelError, match="mean"):
        load_model(tiny_caffemodel, preprocessing={"mean": mean})
