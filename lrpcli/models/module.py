"""A torch.nn.Module of the user's own as a Model."""

from pathlib import Path

from torch import nn

from lrpcli.errors import ModelError
from lrpcli.images.preprocess import Preprocessing
from lrpcli.models.caffe.assemble import checked_shape, fitted
from lrpcli.models.description import Description
from lrpcli.models.labels import read_labels
from lrpcli.models.model import Model


def wrap_module(module: nn.Module, details: Description) -> Model:
    """The module, unchanged, with an input shape, preprocessing and labels. ModelError if the shape is missing."""
    name = details.name or type(module).__name__
    if details.input_shape is None:
        raise ModelError(f"The input shape of {name} is not known. Give input_shape=(channels, height, width).")
    channels, height, width = checked_shape(details.input_shape, name)
    default = Preprocessing(size=(height, width), pixel_scale=1 / 255, channels=channels)
    labels = read_labels(details.labels) if isinstance(details.labels, (str, Path)) else details.labels
    return Model(
        name=name,
        module=module,
        input_shape=(channels, height, width),
        preprocessing=fitted(details.preprocessing, default),
        labels=None if labels is None else tuple(labels),
        source="a torch module",
    )
