"""A folder in which everything that the documentation says can be done."""

import runpy
import shutil

import numpy as np
import pytest
import torch

from tests.documentation.pages import ROOT, all_pages, blocks
from tests.models.onnx.files import small
from tests.photos import TINY, photo
from tests.resilience.runs import lrp

CLASSES = 10
"""Outputs of the net in tests/golden that stands for any Caffe net."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos, a Caffe net and its companions, and every file that a page shows, under the names that the pages use."""
    place = tmp_path_factory.mktemp("documentation")
    photo(place / "photos" / "a.jpg", 1)
    photo(place / "photos" / "cats" / "b.jpg", 2)
    shutil.copytree(ROOT / "sample_images", place / "sample_images")
    shutil.copy(ROOT / "sample_images" / "chelsea_cat.jpg", place / "cat.jpg")
    shutil.copy(TINY, place / "net.caffemodel")
    shutil.copy(TINY.replace(".caffemodel", ".prototxt"), place / "deploy.prototxt")
    small(place / "net.onnx")
    for name, net in (("cheat", "tagged"), ("honest", "plain")):
        shutil.copy(ROOT / "tests" / "nets" / f"shapes-{net}.safetensors", place / f"{name}.safetensors")
    (place / "names.txt").write_text("".join(f"name {number}\n" for number in range(CLASSES)))
    np.save(place / "mean.npy", np.full((3, 32, 32), 120, np.float32))
    for results, options in (("explained", ()), ("int16", ("--dtype", "int16"))):
        done = lrp("explain", "--model", "cifar10", "--target", "cat", place / "cat.jpg", place / results, *options)
        assert done.exit_code == 0, done.stderr
    for page in all_pages():
        for block in blocks(page):
            if block.mark == "file":
                (place / block.value).write_text(block.text)
    torch.save(runpy.run_path(str(place / "net.py"))["make"]().state_dict(), place / "weights.pt")
    return place
