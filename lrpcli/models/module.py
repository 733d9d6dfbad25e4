"""A torch.nn.Module of the user's own as a Model."""

from torch import nn

from lrpcli.errors import ModelError
from lrpcli.images.preprocess import Preprocessing
from lrpcli.models.description import Description
from lrpcli.models.model import Model, check_input_shape, make_model


def wrap_module(module: nn.Module, description: Description) -> Model:
    """The module, unchanged, with an input shape, preprocessing and labels. ModelError if the shape is missing."""
    name = description.name or type(module).__name__
    if description.input_shape is None:
        raise ModelError(f"The input shape of {name} is not known. Give input_shape=(channels, height, width).")
    shape = check_input_shape(description.input_shape, name)
    default = Preprocessing(size=shape[1:], pixel_scale=1 / 255, channels=shape[0])
    return make_model(module, shape, default, description, name=name, source="a torch module")
