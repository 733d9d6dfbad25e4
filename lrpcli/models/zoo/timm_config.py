"""The config.json by which a repository says which net of timm it holds, read as data. Imports timm."""

import json
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg

from lrpcli.errors import ModelError
from lrpcli.models.model import MAXIMAL_SIDE
from lrpcli.models.zoo.timm_nets import SOURCES, TimmNet
from lrpcli.small_files import UnusableFile, read_small
from lrpcli.text_files import plain_reason

ARGUMENT = re.compile(r"[a-z]\w*", re.ASCII)
FORBIDDEN = ("pretrained", "checkpoint_path", "cache_dir", "features_only", "scriptable", "exportable", "no_jit")
"""Arguments of timm's factory that are none of the net's."""
LONGEST_CONFIG = 1 << 23


def described(path: Path, repository: str) -> TimmNet:
    """The net of a config.json. ModelError if it is not of timm, or holds what it should not."""
    try:
        found = json.loads(read_small(path, LONGEST_CONFIG))
        return _described(found, repository)
    except UnusableFile as error:
        raise ModelError(f"{str(path)!r} {error}.") from error
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise ModelError(
            f"The config.json of {repository!r} on Hugging Face's hub is not one of timm ({plain_reason(error)}). Give "
            "a repository of timm."
        ) from error


def _described(found: Any, repository: str) -> TimmNet:
    if not isinstance(found, dict) or not isinstance(found.get("architecture"), str):
        raise ValueError("it names no architecture of timm")
    if not timm.models.is_model(found["architecture"]):
        raise ValueError(f"this timm knows no {found['architecture']!r}")
    inner = found["pretrained_cfg"] if isinstance(found.get("pretrained_cfg"), dict) else found
    own = {key: found[key] for key in ("num_classes", "label_names", "label_descriptions") if key in found}
    if "labels" in inner:
        own.setdefault("label_names", inner["labels"])
    arguments = _checked_arguments(found.get("model_args") or {})
    config = _checked_config({**inner, **own}, arguments)
    owner = repository.partition("/")[0]
    return TimmNet(found["architecture"], config, tuple(arguments.items()), trusted=owner == "timm")


def _checked_config(values: Mapping[str, Any], arguments: Mapping[str, Any]) -> PretrainedCfg:
    known = {item.name for item in fields(PretrainedCfg)} - {*SOURCES, "custom_load", "architecture"}
    config = PretrainedCfg(**{key: value for key, value in values.items() if key in known and value is not None})
    channels, *sides = config.input_size
    shape = (arguments.get("in_chans", channels), *sides)
    if len(shape) != 3 or not all(isinstance(side, int) and 1 <= side <= MAXIMAL_SIDE for side in shape):
        raise ValueError(f"its input_size is {list(shape)}")
    if not isinstance(config.num_classes, int) or not 0 <= config.num_classes <= 2**20:
        raise ValueError(f"its num_classes are {config.num_classes}")
    return replace(config, input_size=shape)


def _checked_arguments(arguments: Any) -> dict[str, Any]:
    """The arguments of a net, which must be the net's own and no larger than any net needs."""
    for key, value in dict(arguments).items():
        if not ARGUMENT.fullmatch(key) or key in FORBIDDEN or key.startswith("pretrained"):
            raise ValueError(f"its model_args have {key!r}")
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, (int, float)) and not abs(number) <= 2**20 for number in numbers):
            raise ValueError(f"{key!r} of its model_args is too large")
    return dict(arguments)
