"""Files that are no model, whatever they are called: each is told what it is; and texts in other encodings."""

import gzip
import io
import json
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch

from lrpcli.errors import ConfigError, ModelError
from lrpcli.lrp.composites.composite import load_composite
from lrpcli.models import load_model
from lrpcli.models.caffe.schema import messages
from lrpcli.models.labels import read_labels
from tests.models.files import TINY, write_hdf5, write_safetensors
from tests.resilience.runs import lrp

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 243862414\n"
PAGE = b"\n<!DOCTYPE html>\n<html><title>Sign in</title></html>"


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net.caffemodel", "x")
    return file.getvalue()


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("net.caffemodel"))
    return file.getvalue()


def _torch(zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def _npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros((3, 4, 4)))
    return file.getvalue()


CONTENTS = {
    "pointer": (POINTER, "is a Git LFS pointer that stands for the file. Fetch the file with 'git lfs pull'"),
    "page": (PAGE, "is a web page, as servers send one in place of a file"),
    "text": (TINY.encode(), "is text"),
    "gzip": (gzip.compress(b"x"), "is a gzip archive. Unpack it"),
    "zip": (_zip(), "is a zip archive. Unpack it"),
    "tar": (_tar(), "is a tar archive. Unpack it"),
    "pth": (_torch(True), r"is a file of PyTorch \(.pt, .pth\)"),
    "old pth": (_torch(False), r"is a file of PyTorch \(.pt, .pth\)"),
    "pickle": (pickle.dumps([1]), "is a file of PyTorch .*, or another pickle, which holds weights without their net"),
    "npy": (_npy(), "is a NumPy array"),
    "png": (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "is a PNG image"),
    "empty": (b"", "is empty"),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("suffix", ["caffemodel", "caffemodel.h5", "safetensors"])
def test_weights_that_are_something_else(tmp_path, name, suffix) -> None:
    content, sentence = CONTENTS[name]
    path = tmp_path / f"net.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"holds no weights: it {sentence}") as caught:
        load_model(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", sorted(CONTENTS.keys() - {"text", "empty"}))
def test_other_files_that_are_something_else(tmp_path, tiny_caffemodel, name) -> None:
    content, sentence = CONTENTS[name]
    path = tmp_path / "file"
    path.write_bytes(content)
    for options in ({"prototxt": path}, {"labels": path}):
        with pytest.raises(ModelError, match=sentence.partition(". Fetch")[0]) as caught:
            load_model(tiny_caffemodel, **options)
        assert str(path) in str(caught.value)
    if name != "npy":
        with pytest.raises(ModelError, match=f"is no mean image: it {sentence}"):
            load_model(tiny_caffemodel, preprocessing={"mean": path})


def test_weights_under_the_names_of_others(tmp_path, tiny_blobs, tiny_prototxt, tiny_caffemodel) -> None:
    pytest.importorskip("h5py")
    hdf5 = write_hdf5(tmp_path / "as.caffemodel", tiny_blobs)
    assert load_model(hdf5, prototxt=tiny_prototxt).outputs == 4
    swapped = tmp_path / "as.caffemodel.h5"
    swapped.write_bytes(tiny_caffemodel.read_bytes())
    assert load_model(swapped).outputs == 4
    wrong = write_safetensors(tmp_path / "x.safetensors", tiny_blobs).rename(tmp_path / "x.caffemodel")
    with pytest.raises(ModelError, match=r"it is a safetensors file. Name it .safetensors"):
        load_model(wrong)
    hdf5.rename(tmp_path / "as.safetensors")
    with pytest.raises(ModelError, match="it is an HDF5 file"):
        load_model(tmp_path / "as.safetensors")
    for options in ({"prototxt": tiny_caffemodel}, {"labels": tiny_caffemodel}):
        with pytest.raises(ModelError, match="it is no text but holds bytes of value 0"):
            load_model(tiny_caffemodel, **options)


def test_mean_images_and_weights_are_told_apart(tmp_path, tiny_caffemodel) -> None:
    blob = messages()["BlobProto"](num=1, channels=3, height=2, width=2, data=[np.zeros(12, "<f4").tobytes()])
    mean = tmp_path / "mean.caffemodel"
    mean.write_bytes(blob.SerializeToString())
    with pytest.raises(ModelError, match="one array of numbers, as mean images do, which go with --mean FILE"):
        load_model(mean)
    with pytest.raises(ModelError, match="is no mean image; it may be the weights of a net"):
        load_model(tiny_caffemodel, preprocessing={"mean": tiny_caffemodel})


ENCODINGS = {
    "utf-8-sig": None,
    "crlf": None,
    "utf-16": "it is UTF-16 text; save it as UTF-8",
    "utf-16-be with mark": "it is UTF-16 text; save it as UTF-8",
    "utf-32": "it is UTF-32 text; save it as UTF-8",
    "utf-16-le": "holds bytes of value 0, as binary files and UTF-16 text do",
}


def encoded(text: str, encoding: str) -> bytes:
    if encoding == "crlf":
        return text.replace("\n", "\r\n").encode()
    if encoding == "utf-16-be with mark":
        return b"\xfe\xff" + text.encode("utf-16-be")
    return text.encode(encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_texts_in_every_encoding(tmp_path, tiny_caffemodel, encoding) -> None:
    """Net descriptions, labels, composites and settings alike."""
    prototxt, labels, config, settings = (tmp_path / name for name in ("n.prototxt", "l.txt", "c.toml", "s.toml"))
    prototxt.write_bytes(encoded(TINY, encoding))
    labels.write_bytes(encoded("red\ngreen\nblue\ncyan\n", encoding))
    config.write_bytes(encoded('[kind]\nconvolution = "z-plus"\n', encoding))
    settings.write_bytes(encoded('alpha = 0.25\nstyle = "contour"\n', encoding))
    show = lambda: lrp("explain", "--settings", settings, "--show-settings", "--json")  # noqa: E731
    reason = ENCODINGS[encoding]
    if reason is None:
        assert load_model(tiny_caffemodel, prototxt=prototxt).name == "Tiny"
        assert read_labels(labels) == ("red", "green", "blue", "cyan")
        assert load_composite(config).entries[0].rule == "z-plus"
        rows = {row["option"]: row["value"] for row in json.loads(show().stdout)}
        assert rows["alpha"] == 0.25 and rows["style"] == "contour"
        return
    with pytest.raises(ModelError, match=reason):
        load_model(tiny_caffemodel, prototxt=prototxt)
    with pytest.raises(ModelError, match=reason):
        read_labels(labels)
    with pytest.raises(ConfigError, match=reason):
        load_composite(config)
    assert show().exit_code == 2 and reason in show().stderr


def test_numbers_of_thousands_of_digits(tmp_path, tiny_caffemodel, tiny_blobs) -> None:
    digits = "9" * 5000
    config = tmp_path / "c.toml"
    config.write_text(f"[kind]\nconvolution = {{ rule = 'epsilon', epsilon = {digits} }}")
    with pytest.raises(ConfigError, match="it holds a whole number of thousands of digits"):
        load_composite(config)
    settings = tmp_path / "s.toml"
    settings.write_text(f"jobs = {digits}")
    assert "it holds a whole number of thousands of digits" in lrp("explain", "--settings", settings).stderr
    path = write_safetensors(tmp_path / "n.safetensors", tiny_blobs, prototxt=TINY, preprocessing=f"[{digits}]")
    with pytest.raises(ModelError, match="it holds a whole number of thousands of digits"):
        load_model(path)


def test_a_comment_in_another_encoding_does_not_matter(tmp_path, tiny_caffemodel) -> None:
    prototxt = tmp_path / "n.prototxt"
    prototxt.write_bytes("# 网络\n".encode("gbk") + TINY.encode())
    assert load_model(tiny_caffemodel, prototxt=prototxt).outputs == 4


def test_names_that_are_no_text(tmp_path, tiny_caffemodel) -> None:
    data = tiny_caffemodel.read_bytes().replace(b"relu1", b"rel\xff1")
    tiny_caffemodel.write_bytes(data)
    with pytest.raises(ModelError, match=r"has the name b'rel\\xff1', which is no UTF-8 text"):
        load_model(tiny_caffemodel)
