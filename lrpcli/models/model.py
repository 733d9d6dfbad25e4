"""A loaded model: the net, what its input looks like, and what its outputs are called."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lrpcli.errors import ModelError, UsageError
from lrpcli.models.description import Description
from lrpcli.models.labels import Label, choose_labels, parse_label
from lrpcli.models.preprocessing import choose_preprocessing
from lrpcli.models.presets import PRESETS
from lrpcli.records.text import one_line

if TYPE_CHECKING:
    from PIL.Image import Image

    from lrpcli.images.preprocess import Placement, Preprocessing

MAXIMAL_SIDE = 2**14


@dataclass(frozen=True)
class Model:
    """A net with everything that goes with it.

    `module` maps (N, C, H, W) to (N, classes); a final softmax may still be there, the engine strips it.
    `labels` are the lines of the label file, one per output: names separated by commas, a synset id before them or not.
    `weights_sha256` is that of the weights file; `source` says where the model came from, for people. `outputs` is the
    number of classes, None where only a forward pass would tell. `facts` are what the file says of itself for people,
    by heading, as text or as the text of a JSON object. `head` is the blob of the file that is the output, where the
    file names it, and `heads` are all that it could be, `head` first. `preprocessing` is
    None where nobody said how photos become the input; `stated_by` says for people who did. `net_sha256` stands for
    what a net computes that code has made, beside its weights.

    >>> import lrpcli
    >>> from PIL import Image
    >>> model = lrpcli.load_model("cifar10")
    >>> model.input_shape, model.outputs, model.label(3), model.find_class("Frog")
    ((3, 32, 32), 10, 'cat', 6)
    >>> x, placement = model.preprocess(Image.new("RGB", (64, 48)))
    >>> x.shape, placement.image_size
    (torch.Size([1, 3, 32, 32]), (48, 64))
    """

    name: str
    module: nn.Module
    input_shape: tuple[int, int, int]
    preprocessing: "Preprocessing | None"
    labels: tuple[str, ...] | None = None
    weights_sha256: str | None = None
    source: str = ""
    outputs: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict, compare=False)
    head: str | None = None
    heads: tuple[str, ...] = ()
    stated_by: str | None = None
    net_sha256: str | None = None

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.input_shape))
        count = "" if self.outputs is None else f", {self.outputs} outputs"
        labels = "no labels" if self.labels is None else "labels"
        return f"<Model {one_line(self.name)}: input {shape}{count}, {labels}>"

    def known_preprocessing(self) -> "Preprocessing":
        """How photos become the input. ModelError that says what to give where that is not known."""
        if self.preprocessing is None:
            raise ModelError(
                f"How the model {self.name!r} is fed with photos is not known: its files do not say what becomes of a "
                f"pixel. Give --preprocessing NAME ({', '.join(PRESETS)}), or --pixel-scale with --mean and --std; in "
                "Python load_model(..., preprocessing=...)."
            )
        return self.preprocessing

    def choices(self) -> dict[str, str]:
        """What results depend on beside name and weights: a head among several, and what code has made of the net."""
        head = None if len(self.heads) == 1 else self.head
        return {key: value for key, value in (("head", head), ("net_sha256", self.net_sha256)) if value is not None}

    def preprocess(self, image: "Image") -> "tuple[Tensor, Placement]":
        """The model's input (1, C, H, W), float32, for a PIL image in mode RGB, and where the model's grid lies on it.

        ModelError where it is not known how the net is fed, UsageError for an image of another kind.
        """
        preprocessing = self.known_preprocessing()
        if getattr(image, "mode", None) != "RGB":
            what = (
                f"an image in mode {image.mode}" if hasattr(image, "mode") else f"an object of {type(image).__name__}"
            )
            raise UsageError(
                f"A model preprocesses a PIL image in mode RGB, not {what}. lrpcli.explain takes paths, arrays and "
                "images of any mode; Image.convert('RGB') makes RGB of most."
            )
        array, placement = preprocessing.apply(image)
        return torch.from_numpy(array).unsqueeze(0), placement

    @property
    def pixel_range(self) -> tuple[Tensor, Tensor] | None:
        """What black and white pixels become: low and high, each (1, C, 1, 1), or (1, C, H, W) with a mean image.

        None where that is not known.
        """
        if self.preprocessing is None:
            return None
        low, high = self.preprocessing.pixel_range()
        # A mean is subtracted from both alike, but a negative factor would swap them.
        first, second = (torch.from_numpy(bound).float().unsqueeze(0) for bound in (low, high))
        return torch.minimum(first, second), torch.maximum(first, second)

    def label(self, index: int) -> str:
        """What people call an output: its first name, or "class 17" where no labels are known."""
        if self.labels is None or not 0 <= index < len(self.labels):
            return f"class {index}"
        return parse_label(self.labels[index]).name

    def find_class(self, text: str) -> int:
        """The output meant by an index, a label, one of its synonyms in any case, or a synset id.

        Raises ModelError with suggestions if there is none, or if the text fits several outputs.
        """
        text = text.strip()
        if text.isdecimal():
            return self._check_index(int(text))
        if self.labels is None:
            raise ModelError(
                f"The model {self.name!r} has no class labels, so {text!r} cannot be looked up. "
                "Give the index of the output, or labels with --labels FILE."
            )
        labels = [parse_label(line) for line in self.labels]
        for fits in (_exact, _synset, _first_name, _synonym):
            found = [index for index, label in enumerate(labels) if fits(label, text)]
            if len(found) == 1:
                return found[0]
            if found:
                raise ModelError(
                    f"{text!r} is the name of several outputs of {self.name!r}: "
                    f"{', '.join(f'{index} ({labels[index].text})' for index in found)}. Give the index."
                )
        raise ModelError(f"The model {self.name!r} has no class {text!r}.{_suggestions(text, labels)}")

    def search_labels(self, text: str = "") -> list[tuple[int, Label]]:
        """The outputs whose label or synset id holds a text, in any case, with their labels; all for an empty text.

        Raises ModelError where no labels are known, or none holds the text.
        """
        if self.labels is None:
            raise ModelError(
                f"The class names of {self.name!r} are not known: its outputs have numbers alone. Give its names, one "
                "a line, with --labels FILE."
            )
        labels = [parse_label(line) for line in self.labels]
        wanted = text.strip().casefold()
        found = [(index, label) for index, label in enumerate(labels) if wanted in label.text.casefold()
                 or wanted == label.synset]  # fmt: skip
        if not found:
            close = _similar(text, labels)
            offer = f"Did you mean {close}?" if close else "Without a text, `lrp models labels` lists all."
            raise ModelError(f"No class of {self.name!r} has {text!r} in its name. {offer}")
        return found

    def _check_index(self, index: int) -> int:
        if self.outputs is not None and index >= self.outputs:
            raise ModelError(f"The model {self.name!r} has no output {index}; its outputs are 0 to {self.outputs - 1}.")
        return index


def make_model(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    preprocessing: "Preprocessing",
    description: Description,
    *,
    name: str,
    source: str,
    outputs: int | None = None,
    weights_sha256: str | None = None,
    stated_by: str | None = None,
) -> Model:
    """The Model that importers and zoos end in: what they found, with everything in `description` overruling it.

    `name` and `preprocessing` are those of a model of which nothing else is known; `stated_by` says who knows that
    preprocessing to be right. Without it the model's stays unknown unless the description states it. Raises ModelError
    if the preprocessing or the labels of the description do not fit.
    """
    found = choose_preprocessing(description.preprocessing, preprocessing, known=stated_by is not None)
    usual = Description(preprocessing=None if stated_by is None else preprocessing, stated_by=stated_by or "")
    return Model(
        name=description.name or name,
        module=module,
        input_shape=input_shape,
        preprocessing=found,
        labels=choose_labels(description.labels, outputs),
        weights_sha256=weights_sha256,
        source=source,
        outputs=outputs,
        stated_by=None if found is None else description.over(usual).stated_by,
    )


def check_input_shape(shape: Sequence[int], net: str) -> tuple[int, int, int]:
    """An input shape (C, H, W) of the net that messages call `net`; ModelError if it cannot be one."""
    if len(shape) != 3 or not all(1 <= side <= MAXIMAL_SIDE for side in shape):
        raise ModelError(
            f"The input shape {tuple(shape)} of the net {net!r} is not usable: expected are channels, height and "
            f"width, each between 1 and {MAXIMAL_SIDE}."
        )
    return shape[0], shape[1], shape[2]


def _exact(label: Label, text: str) -> bool:
    return text in (label.text, label.name)


def _synset(label: Label, text: str) -> bool:
    return label.synset is not None and text.lower() == label.synset


def _first_name(label: Label, text: str) -> bool:
    return text.casefold() in (label.text.casefold(), label.name.casefold())


def _synonym(label: Label, text: str) -> bool:
    return text.casefold() in (name.casefold() for name in label.synonyms)


def _suggestions(text: str, labels: Sequence[Label]) -> str:
    close = _similar(text, labels)
    return f" Did you mean {close}?" if close else " Give the index of the output, or one of its labels."


def _similar(text: str, labels: Sequence[Label]) -> str:
    """Names that are spelt alike, then names that hold the text as a word, quoted; empty if there are none."""
    names = {name.casefold(): name for label in labels for name in label.synonyms}
    close = difflib.get_close_matches(text.casefold(), names, n=4, cutoff=0.7)
    close += [key for key in names if text.casefold() in key.split() and key not in close]
    return ", ".join(repr(names[key]) for key in close[:5])
