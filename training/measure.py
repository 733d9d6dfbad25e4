"""Accuracy of the folded net on held-out photos, through lrpcli's own preprocessing and normalisation, in float32."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lrpcli.images.preprocess import Preprocessing
from lrpcli.lrp.layers.normalization import LocalResponseNorm
from training.data import Photos

BATCH = 250


def predictions(net: nn.Module, photos: Photos, rows: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Class numbers (n,) of the rows."""
    found = []
    with torch.inference_mode():
        for part in rows.split(BATCH):
            images = [Image.fromarray(photos.pixels[row]) for row in part.tolist()]
            inputs = np.stack([preprocessing.apply(image)[0] for image in images])
            found.append(net(torch.from_numpy(inputs)).argmax(dim=1))
    return torch.cat(found)


def accuracy(photos: Photos, rows: Tensor, found: Tensor) -> dict[str, float]:
    """Top-1 of all photos together, of each source, and the mean over classes, in percent."""
    right, source, label = (found == photos.label[rows]).float(), photos.source[rows], photos.label[rows]
    table = {"top-1": right.mean()}
    if len(photos.sources) > 1:
        table |= {name: right[source == number].mean() for number, name in enumerate(photos.sources)}
    table["mean over classes"] = torch.stack([right[label == number].mean() for number in label.unique()]).mean()
    return {name: round(100 * value.item(), 2) for name, value in table.items()}


def ablation(make: Callable[[], nn.Sequential], photos: Photos, rows: Tensor, pre: Preprocessing) -> dict[str, float]:
    """Top-1 in percent with the normalisation removed, and with alpha not divided by the size of the window."""
    variants = {"LRN removed": remove, "alpha not divided": undivide}
    table = {}
    for name, change in variants.items():
        net = make()
        change(net)
        table[name] = accuracy(photos, rows, predictions(net, photos, rows, pre))["top-1"]
    return table


def remove(net: nn.Sequential) -> None:
    """Take the normalisation out of a net."""
    for name, module in list(net.named_children()):
        if isinstance(module, LocalResponseNorm):
            setattr(net, name, nn.Identity())


def undivide(net: nn.Sequential) -> None:
    """Make alpha what it would be for somebody who forgets to divide it by the number of values in the window."""
    for module in net.children():
        if isinstance(module, LocalResponseNorm):
            module.alpha *= module.size**2 if module.within else module.size
