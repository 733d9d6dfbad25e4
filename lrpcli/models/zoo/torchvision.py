"""The classification nets of torchvision, with the weights, transforms and class names that it has for them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrpcli.errors import ModelError, suggestion
from lrpcli.models.description import Description
from lrpcli.models.zoo import Entry, Zoo, unknown_name
from lrpcli.models.zoo.libraries import (
    checkpoint,
    choose_shape,
    labels_that_fit,
    require_own_layers,
    without_memory,
)
from lrpcli.models.zoo.weights import CachedFile

if TYPE_CHECKING:
    from torch import nn

    from lrpcli.images.preprocess import Preprocessing
    from lrpcli.models.model import Model

PREFIX = "torchvision:"
WRITTEN = """
    alexnet convnext_base convnext_large convnext_small convnext_tiny densenet121 densenet161 densenet169 densenet201
    efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6
    efficientnet_b7 efficientnet_v2_l efficientnet_v2_m efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5
    mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 mobilenet_v3_large mobilenet_v3_small regnet_x_16gf regnet_x_1_6gf
    regnet_x_32gf regnet_x_3_2gf regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_128gf regnet_y_16gf regnet_y_1_6gf
    regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 resnet18 resnet34
    resnet50 resnext101_32x8d resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5
    shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t swin_v2_b swin_v2_s swin_v2_t vgg11 vgg11_bn
    vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn vit_b_16 vit_b_32 vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2
    wide_resnet50_2
"""
NAMES = tuple(WRITTEN.split())
"""All names, written down so that they can be listed and checked without importing torchvision."""
AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}
"""Heads that only training uses; the net of the official weights has them."""
TRANSFORMS_INPUT = (
    "The net brings its input from ImageNet's mean and std to -1..1 itself (transform_input), as torchvision's weights "
    "need it."
)
SWAG = "CC BY-NC 4.0, non-commercial (SWAG), as Meta states"
USUAL_LICENCE = "BSD 3-Clause (torchvision); terms of ImageNet, on which it was trained, may apply"
OLD_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)")
"""Names in DenseNet's weights files, from when a module's name could have a dot."""


@dataclass(frozen=True)
class TorchvisionEntry(Entry):
    """A net of torchvision; `chosen` is the name of one of its weights, or DEFAULT for the best of them."""

    net: str = ""
    chosen: str = "DEFAULT"

    @property
    def member(self) -> Any:
        """torchvision's own description of the weights. ModelError if there are none of that name."""
        from torchvision.models import get_model_weights

        members = get_model_weights(self.net).__members__
        if self.chosen not in members:
            raise ModelError(
                f"torchvision has no weights named {self.chosen!r} for {self.net!r}; there are {', '.join(members)}."
                f"{suggestion(self.chosen.upper(), members)}"
            )
        return members[self.chosen]

    @property
    def weights(self) -> CachedFile:
        """The official weights file in torch.hub's folder."""
        return checkpoint(self.name, self.member.url)

    def load(self, description: Description, weights: str | Path | None = None) -> "Model":
        """The model, see Entry.load; a file of the user's own may have another number of classes."""
        from lrpcli.models.state_dicts import load_weights

        require_own_layers(self.name, description)
        if weights is None:
            self._require_classes()
            path, classes, auxiliary = self.weights.fetch(mirror=description.mirror), 1000, True
        else:
            path = Path(weights)
            classes, auxiliary = _classes_of(self.net, path)
        module = _build(self.net, classes, auxiliary)
        digest = load_weights(module, path, self.name, rename=_rename)
        return self._finish(_without_auxiliary(module, self.net), description, digest, str(path))

    def load_architecture(self, description: Description) -> "Model":
        """The net with zeros that take no memory for weights; its `weights_sha256` is None."""
        require_own_layers(self.name, description)
        module = without_memory(_without_auxiliary(_build(self.net, 1000, auxiliary=True), self.net))
        return self._finish(module, description, None, "no weights")

    def details(self) -> "TorchvisionEntry":
        """The entry with the name of its weights, input and number of classes, for which torchvision is imported."""
        size, labels = self.member.transforms().crop_size[0], self._labels()
        return replace(self, title=self.member.name, input=(3, size, size), outputs=len(labels) if labels else None)

    def facts(self) -> dict[str, str]:
        """See Entry.facts."""
        meta, member = self.member.meta, self.member
        accuracy = meta["_metrics"].get("ImageNet-1K", {}).get("acc@1")
        known = {
            "weights name": member.name,
            "accuracy": None if accuracy is None else f"{accuracy:.1f} % top-1 on ImageNet-1K, as torchvision states",
            "parameters": f"{meta['num_params']:,}",
            "file size": f"{meta['_file_size']:.1f} MiB",
            "licence": SWAG if "license" in meta else USUAL_LICENCE,
            "training": meta.get("recipe"),
            "note": TRANSFORMS_INPUT if self.net in AUXILIARY else None,
        }
        return {**super().facts(), **{heading: text for heading, text in known.items() if text is not None}}

    def _labels(self) -> tuple[str, ...] | None:
        categories = self.member.meta["categories"]
        return None if categories is None else tuple(categories)

    def _require_classes(self) -> None:
        if self._labels() is None:
            raise ModelError(
                f"The weights {self.member.name} of {self.net!r} hold features and no classifier. Choose others, such "
                f"as {PREFIX}{self.net}."
            )

    def _finish(self, module: "nn.Module", description: Description, digest: str | None, source: str) -> "Model":
        from lrpcli.models.model import make_model

        size = self.member.transforms().crop_size[0]
        shape = choose_shape(self.name, description, (3, size, size), self.member.meta["min_size"])
        if shape[0] != 3:
            raise ModelError(f"{self.name!r} reads 3 channels, not {shape[0]}. Give --input-shape 3,HEIGHT,WIDTH.")
        outputs = list(module.parameters())[-1].shape[0]
        return make_model(
            module,
            shape,
            preprocessing_of(self.member.transforms(), shape[1:]),
            description.over(Description(labels=labels_that_fit(self._labels(), outputs))),
            name=self.name,
            source=f"torchvision's {self.net}, {source}",
            outputs=outputs,
            weights_sha256=digest,
            stated_by=f"torchvision's weights {self.member.name}",
        )


class TorchvisionZoo(Zoo):
    """All nets of torchvision that classify images, by the names that torchvision has for them."""

    prefix = PREFIX
    summary = f"{PREFIX}NAME[@WEIGHTS]: {len(NAMES)} nets of torchvision"

    def entries(self) -> Mapping[str, Entry]:
        """None: they would bury the others in every list."""
        return {}

    def catalogue(self) -> Iterable[Entry]:
        """All nets with their default weights; imports torchvision."""
        return (entry_of(net).details() for net in NAMES)

    def bare_names(self) -> tuple[str, ...]:
        """See Zoo.bare_names."""
        return NAMES

    def find(self, name: str) -> Entry:
        """See Zoo.find; of the weights, nothing is looked up yet."""
        net, at, chosen = name.removeprefix(PREFIX).partition("@")
        if net not in NAMES:
            raise unknown_name(name, [PREFIX + known for known in NAMES])
        return entry_of(net, chosen if at else "DEFAULT", name)


def entry_of(net: str, chosen: str = "DEFAULT", name: str = "") -> TorchvisionEntry:
    """The entry of a net with the weights of that name."""
    return TorchvisionEntry(name or PREFIX + net, f"{net} of torchvision", net=net, chosen=chosen)


def preprocessing_of(preset: Any, size: tuple[int, int]) -> "Preprocessing":
    """The transforms of torchvision's weights for an input of that size (h, w).

    For another size than that of the weights, the photo is resized to as much more than the input.
    """
    from lrpcli.images.preprocess import Preprocessing

    sides = tuple(side * preset.resize_size[0] // preset.crop_size[0] for side in size)
    square = sides[0] == sides[1]
    return Preprocessing(
        size,
        sides[0] if square else (sides[0], sides[1]),
        pixel_scale=1 / 255,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
        crop_mode=None if square and sides[0] >= max(size) else "center",
    )


def _build(net: str, outputs: int, auxiliary: bool) -> "nn.Module":
    """The net, without memory for its numbers where it can be built so."""
    import torch
    from torchvision.models import get_model

    settings: dict[str, Any] = {"num_classes": outputs}
    if net in AUXILIARY:
        settings |= {"init_weights": False, "transform_input": True, "aux_logits": auxiliary}
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                module: nn.Module = get_model(net, weights=None, **settings)
        except NotImplementedError:  # RegNet computes its widths with tensors
            module = get_model(net, weights=None, **settings)
    return module.eval().requires_grad_(False)


def _classes_of(net: str, path: Path) -> tuple[int, bool]:
    """How many classes a weights file has, and whether it has the heads that only training uses."""
    from lrpcli.models.state_files import read_state_dict

    tensors = read_state_dict(path).tensors
    last, _ = list(_build(net, 1000, auxiliary=True).named_parameters())[-1]
    # The shortest such name: Inception's other head ends alike.
    found = min((key for key in tensors if f".{key}".endswith(f".{last}") and tensors[key].ndim), key=len, default=None)
    auxiliary = any(part in key.split(".") for part in AUXILIARY.get(net, ()) for key in tensors)
    return (1000 if found is None else tensors[found].shape[0]), auxiliary


def _without_auxiliary(module: "nn.Module", net: str) -> "nn.Module":
    for head in AUXILIARY.get(net, ()):
        setattr(module, head, None)
        module.aux_logits = False  # type: ignore[assignment]
    return module


def _rename(key: str) -> str:
    found = OLD_DENSENET.fullmatch(key)
    return found[1] + found[2] if found else key
