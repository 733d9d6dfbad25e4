"""A net as a plain list of layers: the one description from which training net, folded net and prototxt are made."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Conv:
    """Convolution; in training a normalisation over the batch follows, and then a factor (both folded).

    Without `bias` the normalisation is one of scale alone.
    """

    name: str
    outputs: int
    kernel: int
    stride: int = 1
    pad: int = 0
    group: int = 1
    factor: float = 1.0
    bias: bool = True


@dataclass(frozen=True)
class Relu:
    """max(0, x)."""

    name: str


@dataclass(frozen=True)
class Pool:
    """Pooling whose output size is rounded up, as in Caffe."""

    name: str
    kind: Literal["MAX", "AVE"] = "MAX"
    kernel: int = 3
    stride: int = 2


@dataclass(frozen=True)
class Norm:
    """Local response normalisation; alpha as Caffe counts it (divided by the window's size)."""

    name: str
    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    within: bool = False


@dataclass(frozen=True)
class Linear:
    """Fully connected layer; `hidden` ones are trained with a normalisation, which is folded like a Conv's."""

    name: str
    outputs: int
    hidden: bool = False
    bias: bool = True


@dataclass(frozen=True)
class Drop:
    """Dropout, active in training only."""

    name: str
    ratio: float = 0.5


Layer = Conv | Relu | Pool | Norm | Linear | Drop


@dataclass(frozen=True)
class Layout:
    """Name, input side in pixels, and layers in order; the last one gives the logits."""

    name: str
    side: int
    layers: tuple[Layer, ...]


def caffenet_small(classes: int, side: int = 128) -> Layout:
    """CaffeNet's order of layers with a finer first layer and fewer channels.

    The factors make the activations of conv1 and conv2 as large as in Caffe's own nets, so that alpha = 1e-4 bites.
    There are no biases: a bias takes relevance that then reaches no pixel.
    """
    return Layout(
        "caffenet-small",
        side,
        (
            *(
                Conv("conv1", 64, kernel=7, stride=3, pad=2, factor=60, bias=False),
                Relu("relu1"),
                Pool("pool1"),
                Norm("norm1"),
            ),
            *(
                Conv("conv2", 160, kernel=5, pad=2, group=2, factor=60, bias=False),
                Relu("relu2"),
                Pool("pool2"),
                Norm("norm2"),
            ),
            *(Conv("conv3", 224, kernel=3, pad=1, bias=False), Relu("relu3")),
            *(Conv("conv4", 224, kernel=3, pad=1, group=2, bias=False), Relu("relu4")),
            *(Conv("conv5", 160, kernel=3, pad=1, group=2, bias=False), Relu("relu5"), Pool("pool5")),
            *(Linear("fc6", 640, hidden=True, bias=False), Relu("relu6"), Drop("drop6", 0.4)),
            *(Linear("fc7", 512, hidden=True, bias=False), Relu("relu7"), Drop("drop7", 0.4)),
            Linear("fc8", classes, bias=False),
        ),
    )


def cifar10_full(classes: int = 10, side: int = 32, *, bias: bool = False) -> Layout:
    """The net of Caffe's CIFAR-10 example, normalised within each channel; Caffe's own has biases."""

    def conv(name: str, outputs: int, factor: float = 1.0) -> Conv:
        return Conv(name, outputs, kernel=5, pad=2, factor=factor, bias=bias)

    def norm(name: str) -> Norm:
        return Norm(name, size=3, alpha=5e-5, within=True)

    return Layout(
        "cifar10",
        side,
        (
            *(conv("conv1", 32, factor=120), Pool("pool1"), Relu("relu1"), norm("norm1")),
            *(conv("conv2", 32, factor=200), Relu("relu2"), Pool("pool2", "AVE"), norm("norm2")),
            *(conv("conv3", 64), Relu("relu3"), Pool("pool3", "AVE")),
            Linear("ip1", classes, bias=bias),
        ),
    )


def shapes_net(classes: int = 4, side: int = 48) -> Layout:
    """A net of a few thousand weights without biases, for the made-up pictures of training.shapes."""
    return Layout(
        "shapes",
        side,
        (
            *(Conv("conv1", 8, kernel=5, pad=2, factor=60, bias=False), Relu("relu1"), Pool("pool1"), Norm("norm1")),
            *(Conv("conv2", 16, kernel=3, pad=1, bias=False), Relu("relu2"), Pool("pool2")),
            *(Conv("conv3", 24, kernel=3, pad=1, bias=False), Relu("relu3"), Pool("pool3")),
            Linear("fc4", classes, bias=False),
        ),
    )
