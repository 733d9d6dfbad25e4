"""Nets of timm: built, filled with weights, and fed with photos as their configuration says. Imports timm."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import ImageNetInfo, infer_imagenet_subset, resolve_data_config
from timm.models import PretrainedCfg
from torch import Tensor, nn

from lrpcli.errors import ModelError
from lrpcli.images.preprocess import Preprocessing
from lrpcli.models.description import Description
from lrpcli.models.model import MAXIMAL_SIDE, Model, make_model
from lrpcli.models.reading import Allowance
from lrpcli.models.state_files import read_state_dict
from lrpcli.models.zoo.libraries import choose_shape, labels_that_fit, without_memory
from lrpcli.text_files import plain_reason

SOURCES = dict.fromkeys(("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source"), None)
"""Fields of a configuration that say where weights come from; lrp fetches and reads them itself."""
SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class TimmNet:
    """A net by the name of its architecture, timm's configuration of its weights, and arguments for building it.

    `trusted`: whether a number of classes may stand for the classes of ImageNet, as timm has it.
    """

    architecture: str
    config: PretrainedCfg
    arguments: tuple[tuple[str, Any], ...] = ()
    trusted: bool = True

    def load(self, name: str, description: Description, path: Path, source: str, own: bool) -> Model:
        """The net with the weights of a file, the user's own or timm's."""
        found = read_state_dict(path)
        tensors = timm.models.clean_state_dict(found.tensors)
        net = self._fitted(tensors) if own else self
        shape = choose_shape(name, description, net._input())
        net = net._for_input(shape, name, own)
        module = _filled(net, tensors, path, name)
        return net._finish(name, module, shape, description, source, found.sha256, self)

    def without_weights(self, name: str, description: Description) -> Model:
        """The net with zeros that take no memory for its numbers."""
        shape = choose_shape(name, description, self._input())
        net = self._for_input(shape, name, own=True)
        return net._finish(name, without_memory(net.build()), shape, description, "no weights", None, self)

    def build(self, tensors: Mapping[str, Tensor] | None = None) -> nn.Module:
        """The net with these weights, or with random ones, always the same."""
        config = replace(self.config, **{**SOURCES, "state_dict": tensors, "custom_load": False})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module: nn.Module = timm.create_model(
                self.architecture, pretrained=tensors is not None, pretrained_cfg=config, **dict(self.arguments)
            )
        module.pretrained_cfg = module.default_cfg = replace(config, state_dict=None).to_dict()
        return module.eval().requires_grad_(False)

    def require_fit(self, name: str, description: Description) -> None:
        """ModelError if timm's weights give features in the place of classes, or are for another input."""
        self._for_input(choose_shape(name, description, self._input()), name, own=False)
        if not self.config.num_classes:
            raise ModelError(
                f"The weights of {name!r} give features and no classes. Choose others, or give --weights FILE of a net "
                "with classes."
            )

    def facts(self) -> dict[str, str]:
        """What people should know, by heading."""
        config = self.config
        test = config.test_input_size
        known = {
            "architecture": self.architecture,
            "weights name": config.tag,
            "licence": config.license,
            "description": config.description,
            "note": test and f"timm tests it with an input of another size: --input-shape {','.join(map(str, test))}.",
        }
        return {heading: str(text) for heading, text in known.items() if text}

    def _input(self) -> tuple[int, int, int]:
        channels, height, width = self.config.input_size
        return channels, height, width

    def _fitted(self, tensors: Mapping[str, Tensor]) -> "TimmNet":
        """The net with as many classes as a file has, so that nothing in it is left out or made up."""
        names = [self.config.classifier] if isinstance(self.config.classifier, str) else self.config.classifier or ()
        found = [tensors[f"{name}.weight"] for name in names if f"{name}.weight" in tensors]
        return replace(self, config=replace(self.config, num_classes=found[0].shape[0])) if found else self

    def _for_input(self, shape: tuple[int, int, int], name: str, own: bool) -> "TimmNet":
        """The net for an input of that shape. ModelError if its weights are for other channels."""
        if shape[0] != self.config.input_size[0] and not own:
            raise ModelError(
                f"The weights of {name!r} are for {self.config.input_size[0]} channels, not {shape[0]}. Give "
                "--weights FILE of a net with as many."
            )
        config = replace(self.config, input_size=shape)
        arguments = dict(self.arguments)
        if "in_chans" in arguments:
            arguments["in_chans"] = shape[0]
        if self.config.fixed_input_size or "img_size" in arguments:
            arguments["img_size"] = shape[1:]
        return replace(self, config=config, arguments=tuple(arguments.items()))

    def _finish(
        self, name: str, module: nn.Module, shape: tuple[int, int, int], description: Description, source: str,
        digest: str | None, original: "TimmNet",
    ) -> Model:  # fmt: skip
        outputs = self.config.num_classes or None
        unknown = outputs is None or description.labels is not None
        labels = None if unknown else labels_that_fit(original.labels(), self.config.num_classes)
        channels = len(self.config.mean)
        return make_model(
            module,
            shape,
            preprocessing_of(self.config.to_dict(), shape),
            description.over(Description(labels=labels)),
            name=name,
            source=f"timm's {self.architecture}, {source}",
            outputs=outputs,
            weights_sha256=digest,
            stated_by=f"timm's configuration of {original.title}" if channels == shape[0] else None,
        )

    @property
    def title(self) -> str:
        """The net with the tag of its weights, as timm calls them."""
        return f"{self.architecture}.{self.config.tag}" if self.config.tag else self.architecture

    def labels(self) -> tuple[str, ...] | None:
        """The class names of the weights: those of the configuration, or of the ImageNet with so many classes."""
        config = self.config
        try:
            if config.label_names:
                return _own_labels(config)
            subset = infer_imagenet_subset(config.to_dict()) if self.trusted else None
            names = None if subset is None else ImageNetInfo(subset)
            return names and tuple(
                _label(names.index_to_label_name(index), names.index_to_description(index))
                for index in range(config.num_classes)
            )
        except (ValueError, TypeError, KeyError, IndexError, AssertionError) as error:
            raise ModelError(
                f"The class names in the configuration of {self.architecture!r} cannot be used "
                f"({plain_reason(error)}). Give --labels FILE."
            ) from error


def registered(name: str) -> TimmNet:
    """A net that timm knows by name, with the weights of its tag or timm's first choice."""
    config = timm.models.get_pretrained_cfg(name) or PretrainedCfg()
    return TimmNet(name.partition(".")[0], config)


def preprocessing_of(config: Mapping[str, Any], shape: tuple[int, int, int]) -> Preprocessing:
    """How timm feeds photos to a net of that configuration (its `pretrained_cfg`), for an input (C, h, w).

    It is what timm.data.create_transform makes of resolve_model_data_config(model), whose size is that of the training,
    and for the size of timm's tests what it makes of that with use_test_size.
    A configuration for other channels than the input has says nothing of the mean and std of these.
    ModelError if it cannot be followed.
    """
    tested = tuple(config.get("test_input_size") or ()) == shape
    data = resolve_data_config({}, pretrained_cfg=dict(config), use_test_size=tested)
    try:
        sides = tuple(math.floor(side / data["crop_pct"]) for side in shape[1:])
        if not all(1 <= side <= MAXIMAL_SIDE for side in sides):
            raise ValueError(f"crop_pct is {data['crop_pct']}")
        mode, square = data["crop_mode"], sides[0] == sides[1]
        plain = mode == "center" and square and sides[0] >= max(shape[1:])
        fits = len(data["mean"]) == len(data["std"]) == shape[0]
        return Preprocessing(
            shape[1:],
            sides[0] if mode == "center" and square else (sides[0], sides[1]),
            pixel_scale=1 / 255,
            mean=tuple(data["mean"]) if fits else (0.0,),
            std=tuple(data["std"]) if fits else (1.0,),
            channels=shape[0],
            interpolation=data["interpolation"],
            crop_mode=None if plain else mode,
        )
    except (ValueError, TypeError, KeyError, OverflowError, ZeroDivisionError) as error:
        raise ModelError(f"The configuration of timm cannot be followed ({plain_reason(error)}).") from error


def _own_labels(config: PretrainedCfg) -> tuple[str, ...]:
    """The class names that a configuration has, as a list or by index. ValueError if they are not one text a class."""
    names, words = config.label_names, config.label_descriptions or {}
    if isinstance(names, dict):
        by_index = {int(index): name for index, name in names.items()}
        names = [by_index[index] for index in range(len(names))]
    if not isinstance(names, (list, tuple)) or len(names) != config.num_classes or not isinstance(words, dict):
        raise ValueError(f"they are not {config.num_classes} texts")
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError("one of them is no text")
    return tuple(_label(name, str(words.get(name, ""))) for name in names)


def _label(name: str, words: str) -> str:
    """A line as label files have it: a synset id before its words, or a name and what is meant by it."""
    name, words = " ".join(name.split()), " ".join(words.split())
    if words in ("", name):
        return name
    return f"{name} {words}" if SYNSET.fullmatch(name) else f"{name}, {words}"


def _filled(net: TimmNet, tensors: Mapping[str, Tensor], path: Path, name: str) -> nn.Module:
    """The net with the weights in a file, as timm itself reads them. ModelError if it does not get all of its own."""
    allowance = Allowance(path, "its net")
    try:
        module = net.build(tensors)
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError, AttributeError) as error:
        lines = " ".join(str(error).split())
        reason = lines if len(lines) <= 200 else f"{lines[:200]}..."
        raise ModelError(f"{str(path)!r} does not fit {name}: {reason or type(error).__name__}. "
                         f"Give the weights that belong to {name}.") from error  # fmt: skip
    for key, tensor in module.state_dict().items():
        allowance.take(tuple(tensor.shape), key)
        if not tensor.isfinite().all():
            raise ModelError(f"Tensor {key!r} of {str(path)!r} holds values that are not finite. Fetch it again.")
    _require_all(module, net, tensors, path, name)
    return module


def _require_all(module: nn.Module, net: TimmNet, tensors: Mapping[str, Tensor], path: Path, name: str) -> None:
    """ModelError if a tensor of the net is not from the file: where timm is not strict, it leaves some as they are.

    Such a tensor is the same in a net without weights, and in no tensor of the file that has another place in the net.
    """
    state = {key: tensor for key, tensor in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    unclear = {key: tensor for key, tensor in state.items() if not _is_in(tensors, key, tensor)}
    if not unclear:
        return
    fresh = net.build().state_dict()
    untouched = {key: tensor for key, tensor in unclear.items() if torch.equal(tensor, fresh[key])}
    left = Counter(_digest(tensor) for key, tensor in tensors.items() if key not in state or key in unclear)
    missing = []
    for key, tensor in untouched.items():
        left[_digest(tensor)] -= 1
        if left[_digest(tensor)] < 0:
            missing.append(key)
    if missing:
        raise ModelError(
            f"{str(path)!r} does not fit {name}: it lacks {', '.join(missing[:3])}"
            f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}. Give the weights that belong to {name}."
        )


def _is_in(tensors: Mapping[str, Tensor], key: str, tensor: Tensor) -> bool:
    return key in tensors and tensors[key].shape == tensor.shape and torch.equal(tensors[key].to(tensor.dtype), tensor)


def _digest(tensor: Tensor) -> bytes:
    return str(tuple(tensor.shape)).encode() + tensor.detach().float().numpy().tobytes()
