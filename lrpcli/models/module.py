"""A torch.nn.Module of the user's own as a Model: passed in Python, or made by code that is named."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import nn

from lrpcli.errors import ModelError
from lrpcli.lrp.tracing.outputs import select_output
from lrpcli.lrp.tracing.refusals import unwrapped
from lrpcli.models.description import Description, replaces_all
from lrpcli.models.factories import Factory, make
from lrpcli.models.labels import choose_labels
from lrpcli.models.layer_table import count_outputs
from lrpcli.models.model import Model, check_input_shape, make_model
from lrpcli.models.net_hash import hash_net, hash_weights
from lrpcli.models.preprocessing import adjust_preprocessing, choose_preprocessing
from lrpcli.models.presets import preset
from lrpcli.models.state_dicts import load_weights

TIMM = "timm's configuration of the net"


def wrap_module(module: nn.Module, description: Description, stated_by: str | None = None) -> Model:
    """The module, unchanged, with an input shape, preprocessing and labels. ModelError if the shape is missing.

    What DataParallel or torch.compile wraps is taken out, and of several outputs the description's head is chosen.
    `stated_by`: who says that photos are fed as RGB in 0..1; without it they are where the description says so.
    """
    inner = unwrapped(module)
    name = description.name or type(inner).__name__
    if description.input_shape is None:
        raise ModelError(
            f"The input shape of {name} is not known. Give input_shape=(channels, height, width), or --input-shape "
            "3,224,224 on the command line."
        )
    shape = check_input_shape(description.input_shape, name)
    chosen = inner if description.head is None else select_output(inner, description.head)
    usual = preset("unit", shape[1:], shape[0])
    model = make_model(chosen, shape, usual, description, name=name, source="a torch module", stated_by=stated_by)
    model = replace(model, head=None if description.head is None else str(description.head))
    return model if model.labels is None else _counted(model)


def load_factory(factory: Factory, description: Description, weights: str | Path | None) -> Model:
    """The Model around what a factory makes, with the weights of a file if there is one.

    Everything in `description` overrules what the factory says. Runs its code; errors as for make, wrap_module and
    load_weights.
    """
    if description.prototxt is not None:
        raise ModelError(f"{str(factory)!r} has its layers; a prototxt cannot be given beside it.")
    made = make(factory)
    if isinstance(made, nn.Module):
        module = unwrapped(made)
        model = wrap_module(module, _with_timms(replace(description, name=description.name or factory.title), module))
    else:
        module = made.module
        stated_by = None if made.stated_by is None else factory.title
        model = _overruled(replace(made, stated_by=stated_by), description, factory)
    digest = hash_weights(module) if weights is None else load_weights(module, weights, str(factory))
    found = replace(model, weights_sha256=digest, net_sha256=hash_net(model.module), source=f"the code {factory}")
    return _counted(found)


def _counted(model: Model) -> Model:
    """The model with its number of classes, where a trace tells it. ModelError if it has not one label for each."""
    outputs = count_outputs(model) if model.outputs is None else model.outputs
    return replace(model, outputs=outputs, labels=choose_labels(model.labels, outputs))


def _with_timms(description: Description, module: nn.Module) -> Description:
    """A description, completed by the configuration that a net of timm carries; of any other net as it is."""
    config = getattr(module, "pretrained_cfg", None)
    if not type(module).__module__.startswith("timm.") or not isinstance(config, dict) or "input_size" not in config:
        return description
    from lrpcli.models.zoo.timm_nets import preprocessing_of

    shape = description.input_shape or tuple(config["input_size"])
    usual = preprocessing_of(config, shape) if len(config["mean"]) == shape[0] else None
    if (
        usual is not None
        and isinstance(description.preprocessing, Mapping)
        and not replaces_all(description.preprocessing)
    ):
        usual = adjust_preprocessing(usual, description.preprocessing)
        description = replace(description, preprocessing=None, stated_by=f"{TIMM}, changed by {description.stated_by}")
        return replace(description, input_shape=shape, preprocessing=usual)
    known = Description(input_shape=shape, preprocessing=usual, stated_by=TIMM)
    return description.over(known)


def _overruled(model: Model, description: Description, factory: Factory) -> Model:
    """A Model that code has made, with everything in the description in place of what it says."""
    if description.input_shape not in (None, model.input_shape):
        raise ModelError(f"{str(factory)!r} says that its input has the shape {model.input_shape}. Leave out another.")
    if description.head is not None:
        if model.head is not None:
            raise ModelError(f"{str(factory)!r} has chosen the output {model.head!r}. Leave out another.")
        model = replace(model, module=select_output(model.module, description.head), head=str(description.head))
    if description.preprocessing is not None:
        size, channels = model.input_shape[1:], model.input_shape[0]
        usual = Description(preprocessing=model.preprocessing, stated_by=model.stated_by or "")
        found = choose_preprocessing(
            description.preprocessing,
            model.preprocessing or preset("unit", size, channels),
            known=model.preprocessing is not None,
        )
        by = None if found is None else description.over(usual).stated_by
        model = replace(model, preprocessing=found, stated_by=by)
    labels = model.labels if description.labels is None else choose_labels(description.labels, model.outputs)
    return replace(model, name=description.name or factory.title, labels=labels)
