"""What is known of a model beside its weights, from the user, a zoo or the model's own file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Union

if TYPE_CHECKING:
    import numpy as np

    from lrpcli.images.formats import Interpolation
    from lrpcli.images.preprocess import CropMode, Preprocessing


class PreprocessingFields(TypedDict, total=False):
    """The fields of a Preprocessing that may be replaced by themselves; see there. The size is the model's own.

    `mean` may also be an image (C, h, w), or the path of a mean image. A `resize` without a `crop_mode` is meant as it
    is without one.
    """

    resize: int | Sequence[int] | None
    channel_order: Literal["RGB", "BGR"]
    pixel_scale: float
    mean: "Sequence[float] | np.ndarray | str | Path"
    std: Sequence[float]
    interpolation: "Interpolation"
    crop_mode: "CropMode | None"


PRESET = "preset"
"""The entry of a mapping that names a preset, of which its other fields are replaced."""
PreprocessingChoice = Union["Preprocessing", PreprocessingFields, Mapping[str, Any], str, Callable[..., Any]]
"""All of the preprocessing, its name, transforms of torchvision, or the fields to replace.

Those are PreprocessingFields, or a mapping that is checked when used; it may name a preset too.
"""


@dataclass(frozen=True)
class Description:
    """Fields that are None are taken from whoever knows next. `labels` is a label file, or its lines.

    `prototxt` is the file with the net's description where a format keeps weights and net apart; `head` names one of
    the net's heads. `stated_by` says for people who gave the preprocessing. `mirror` is where a named model's weights
    are looked for first, see lrpcli.models.zoo.mirrors.
    """

    name: str | None = None
    prototxt: str | Path | None = None
    input_shape: tuple[int, int, int] | None = None
    preprocessing: PreprocessingChoice | None = None
    labels: str | Path | Sequence[str] | None = None
    head: str | None = None
    stated_by: str = "what was given"
    mirror: str | None = None

    def over(self, other: "Description") -> "Description":
        """This description, completed by `other`; single preprocessing fields of both are merged."""
        # The labels of one net description say nothing about another.
        labels = other.labels if self.prototxt is None else None
        return Description(
            name=self.name or other.name,
            prototxt=self.prototxt or other.prototxt,
            input_shape=self.input_shape or other.input_shape,
            preprocessing=_merge(self.preprocessing, other.preprocessing),
            labels=labels if self.labels is None else self.labels,
            head=self.head or other.head,
            stated_by=_stated_by(self, other),
            mirror=self.mirror or other.mirror,
        )


def replaces_all(chosen: PreprocessingChoice) -> bool:
    """Whether nothing is left of the preprocessing that a model would have otherwise."""
    return not isinstance(chosen, Mapping) or PRESET in chosen


def _merge(chosen: PreprocessingChoice | None, default: PreprocessingChoice | None) -> PreprocessingChoice | None:
    if isinstance(chosen, Mapping) and isinstance(default, Mapping) and not replaces_all(chosen):
        return {**default, **chosen}
    return default if chosen is None else chosen


def _stated_by(chosen: Description, other: Description) -> str:
    if chosen.preprocessing is None:
        return other.stated_by
    if other.preprocessing is None or replaces_all(chosen.preprocessing):
        return chosen.stated_by
    return f"{other.stated_by}, changed by {chosen.stated_by}"
