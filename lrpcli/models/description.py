"""What is known of a model beside its weights, from the user, the registry or the weights file itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from lrpcli.images.preprocess import Preprocessing

PreprocessingChoice = Union["Preprocessing", Mapping[str, Any]]
"""All of the preprocessing, or a mapping of the fields to replace (adjust.CHOICES)."""


@dataclass(frozen=True)
class Description:
    """Fields that are None are taken from whoever knows next. `labels` is a label file, or its lines."""

    name: str | None = None
    prototxt: str | Path | None = None
    input_shape: tuple[int, int, int] | None = None
    preprocessing: PreprocessingChoice | None = None
    labels: str | Path | Sequence[str] | None = None

    def over(self, other: "Description") -> "Description":
        """These details, completed by `other`; single preprocessing fields of both are merged."""
        # The labels of one net description say nothing about another.
        labels = other.labels if self.prototxt is None else None
        return Description(
            name=self.name or other.name,
            prototxt=self.prototxt or other.prototxt,
            input_shape=self.input_shape or other.input_shape,
            preprocessing=_merged(self.preprocessing, other.preprocessing),
            labels=labels if self.labels is None else self.labels,
        )


def _merged(chosen: PreprocessingChoice | None, default: PreprocessingChoice | None) -> PreprocessingChoice | None:
    if isinstance(chosen, Mapping) and isinstance(default, Mapping):
        return {**default, **chosen}
    return default if chosen is None else chosen
