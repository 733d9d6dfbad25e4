"""Files that ask for absurd amounts of memory or work, under 4 GB of address space: refused, or done within bounds."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.models.files import TINY, random_blobs, write_caffemodel
from tests.resilience.runs import ROOT, environment

WORK = """
import json, resource, signal, sys
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from lrpcli.errors import LrpError
from lrpcli.models import load_model
from lrpcli.models.caffe.assemble import assemble
from lrpcli.models.caffe.files import Weights
from lrpcli.models.description import Description
from pathlib import Path
signal.alarm(60)
path, prototxt = sys.argv[1], sys.argv[2] or None
try:
    if path.endswith(".prototxt"):
        model = assemble(Weights(Path(path), None, None, None), Description(prototxt=path))
    else:
        model = load_model(path, prototxt=prototxt)
    print(json.dumps(["ok", str(model.outputs)]))
except LrpError as error:
    print(json.dumps(["refused", str(error)]))
"""


def load(path: Path, prototxt: Path | None = None) -> tuple[str, str]:
    """ "ok" or "refused", and the outputs or the message, from a process of its own; for a .prototxt, its net alone."""
    line = [sys.executable, "-c", WORK, str(path), "" if prototxt is None else str(prototxt)]
    ended = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT, env=environment())
    assert ended.returncode == 0, ended.stderr[-2000:]
    outcome, text = json.loads(ended.stdout)
    return outcome, text


def _claims(file, blocks: int) -> None:
    for number in range(blocks):
        file.create_dataset(f"data/l{number}/0", shape=(1500, 10_000), dtype="f4", compression="gzip",
                            chunks=(1500, 10_000))  # fmt: skip


def _zeros(file) -> None:
    for number in range(3):
        file.create_dataset(f"data/l{number}/0", data=np.zeros((1000, 4000), "f4"), compression="gzip")


def _deep(file) -> None:
    group = file.create_group("data")
    for _ in range(200):
        group = group.create_group("g")


def _circle(file) -> None:
    group = file.create_group("data")
    group["a"] = group["b"] = group


def _soft(file) -> None:
    import h5py

    file["x"] = np.zeros(3)
    file["data/conv1/0"] = h5py.SoftLink("/x")


def _external(file) -> None:
    import h5py

    file["data"] = h5py.ExternalLink("other.h5", "data")


def _virtual(file) -> None:
    import h5py

    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", shape=(3,))
    file.create_virtual_dataset("data/conv1/0", layout)


def _chunk(file) -> None:
    file.create_dataset("data/conv1/0", shape=(3,), maxshape=(None,), dtype="f4", chunks=(10**9,), compression="gzip")


def _many(file) -> None:
    for number in range(21_000):
        file.create_group(f"data/{number}")


HDF5 = {
    "sum": (lambda file: _claims(file, 40), "claim 60,000,000 bytes .* far more than the file holds"),
    "zeros": (_zeros, "claim .* bytes .*, far more than the file holds"),
    "deep": (_deep, "groups nested more than 32 deep"),
    "circle": (_circle, "more than 20,000 entries, or groups nested"),
    "soft": (_soft, "'data/conv1/0' .* is a link"),
    "external": (_external, "'data' .* is a link, which could lead to another file"),
    "virtual": (_virtual, "'/data/conv1/0' .* is no plain array of numbers"),
    "chunk": (_chunk, "asks for more than 2 GiB of memory for its weights"),
    "many": (_many, "more than 20,000 entries"),
}


@pytest.mark.parametrize("name", HDF5)
def test_hdf5_bombs(tmp_path, tiny_prototxt, name) -> None:
    """In this process, whose memory the tests of attacks watch: nothing is set aside before the claims are compared."""
    h5py = pytest.importorskip("h5py")
    from lrpcli.errors import ModelError
    from lrpcli.models import load_model

    make, match = HDF5[name]
    path = tmp_path / "bomb.caffemodel.h5"
    with h5py.File(path, "w") as file:
        make(file)
    with pytest.raises(ModelError, match=match) as caught:
        load_model(path, prototxt=tiny_prototxt)
    assert str(path) in str(caught.value)


def test_the_sum_of_small_claims_counts(tmp_path, tiny_prototxt) -> None:
    """Each data set is small enough for the file, all of them are not."""
    h5py = pytest.importorskip("h5py")
    from lrpcli.errors import ModelError
    from lrpcli.models import load_model

    path = tmp_path / "bomb.caffemodel.h5"
    with h5py.File(path, "w") as file:
        for number in range(60):
            file.create_dataset(f"data/l{number}/0", shape=(250_000,), dtype="f4", compression="gzip")
    assert path.stat().st_size * 64 < 60 * 1_000_000
    with pytest.raises(ModelError, match="far more than the file holds"):
        load_model(path, prototxt=tiny_prototxt)


HEAD = 'input: "data" input_shape { dim: 1 dim: 3 dim: 1000 dim: 1000 }\n'
TANH = 'layer {{ name: "t{0}" type: "TanH" bottom: "{1}" top: "t{0}" }}\n'
CUT = TINY.split('layer { name: "fc2"')
NETS = {
    "kernel": (TINY.replace("kernel_size: 3", "kernel_size: 16777216 pad: 16777216"), "weights of layer 'conv1'"),
    "outputs": (TINY.replace("num_output: 8", "num_output: 16777216").replace("size: 3", "size: 16"), "layer 'conv1'"),
    "padding": (TINY.replace("size: 3 stride: 2", "size: 3 pad: 300000 stride: 300000"), "padded .layer 'conv1'"),
    "window": (TINY.replace("local_size: 5", "local_size: 16777215"), "padded .layer 'norm1'"),
    "classes": (TINY.replace("num_output: 4", "num_output: 16777216"), "weights of layer 'fc2'"),
    "input": (TINY.replace("dim: 16 dim: 16", "dim: 16384 dim: 16384"), "values between its layers .* .the input"),
    "values": (HEAD + TANH.format(0, "data") + "".join(TANH.format(n, f"t{n - 1}") for n in range(1, 300)), "'t1"),
    "digits": (TINY.replace("num_output: 8", "num_output: " + "9" * 5000), "cannot be read"),
    "infinite": (TINY.replace("alpha: 0.1", "alpha: " + "9" * 5000), "lrn_param.alpha that is not finite"),
    "nested": ("layer { " * 100_000, "nested too deeply"),
    "parts": (CUT[0] + 'layer { name: "c" type: "Concat" ' + 'bottom: "norm1" ' * 1_000_000, "is longer than"),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_nets_that_ask_for_too_much(tmp_path, name) -> None:
    """Their geometry alone, for which no weights are at hand that could be compared."""
    from lrpcli.errors import ModelError
    from tests.models.test_forward import zeros

    text, match = NETS[name]
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    with pytest.raises(ModelError, match=match) as caught:
        zeros(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 1000


def test_thousands_of_layers_of_one_name(tmp_path) -> None:
    """Each gets a name of its own in the graph, in time that grows with their number alone."""
    path = tmp_path / "net.prototxt"
    layer = 'layer { name: "r" type: "ReLU" bottom: "norm1" top: "norm1" }\n'
    path.write_text(CUT[0] + layer * 9000 + 'layer { name: "fc2"' + CUT[1])
    assert load(path) == ("ok", "4")


@pytest.mark.slow
def test_weights_that_need_more_memory_than_there_is(tmp_path) -> None:
    """A file within the limit, of zeros that take no room on the disk, in 4 GB of address space."""
    pytest.importorskip("safetensors")
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(TINY)
    header = json.dumps({"fc2.weight": {"dtype": "F16", "shape": [900_000_000], "data_offsets": [0, 1_800_000_000]}})
    path = tmp_path / "big.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    os.truncate(path, 8 + len(header) + 1_800_000_000)
    outcome, message = load(path, prototxt)
    assert outcome == "refused" and str(path) in message and "memory" in message


@pytest.mark.parametrize("suffix", ["caffemodel", "caffemodel.h5", "safetensors"])
def test_files_beyond_the_limit_are_not_read(tmp_path, suffix) -> None:
    from lrpcli.errors import ModelError
    from lrpcli.models import load_model

    path = tmp_path / f"net.{suffix}"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(ModelError, match="has 1,099,511,627,776 bytes, and a weights file may have 2,147,483,648"):
        load_model(path)


def test_pipes_and_devices_are_not_read(tmp_path, tiny_caffemodel) -> None:
    from lrpcli.errors import ModelError, WeightsError
    from lrpcli.models import load_model

    pipe = tmp_path / "pipe.caffemodel"
    os.mkfifo(pipe)
    with pytest.raises(WeightsError, match="cannot be read .it is a named pipe and not a regular file"):
        load_model(pipe)
    for options in ({"prototxt": pipe}, {"labels": pipe}, {"preprocessing": {"mean": pipe}}):
        with pytest.raises(ModelError, match="is a named pipe"):
            load_model(tiny_caffemodel, **options)


def test_a_folder_in_place_of_a_text_leaves_nothing_open(tmp_path) -> None:
    from lrpcli.errors import ModelError
    from lrpcli.models.labels import read_labels

    before = list(Path("/proc/self/fd").iterdir())
    with pytest.raises(ModelError, match="Is a directory"):
        read_labels(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == len(before)


def test_what_is_within_the_limits_loads(tmp_path) -> None:
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(TINY)
    assert load(write_caffemodel(tmp_path / "n.caffemodel", random_blobs(prototxt), TINY)) == ("ok", "4")
