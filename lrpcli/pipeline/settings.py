"""What a run is asked to do, as plain data: the same whether a command line, a file or a program says it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lrpcli.errors import UsageError, require_one_of
from lrpcli.images.decode import DecodePolicy
from lrpcli.pictures.picture import PictureStyle

KINDS = ("overlay", "heatmap", "map", "layers")
MAP_SPACES = ("model", "image")
CHANNELS = ("sum", "keep")
MAP_TYPES = ("float32", "float16")
SCALES = ("image", "run")
PRECISIONS = ("float32", "float64")
MAXIMAL_SIDE = 16384


@dataclass(frozen=True)
class ModelSettings:
    """Which model: a name or path, and what overrules its own files. `preprocessing` as in load_model."""

    name: str
    weights: str | None = None
    prototxt: str | None = None
    labels: str | None = None
    input_shape: tuple[int, int, int] | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)

    def keywords(self) -> dict[str, Any]:
        """What load_model and load_architecture take beside the name."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        del values["name"]
        return {**values, "preprocessing": dict(self.preprocessing) or None}


@dataclass(frozen=True)
class ExplainSettings:
    """Which explanation: config, its overrides, and what is explained; `targets` as --target has them."""

    config: str
    lrn: str | None = None
    start: str | None = None
    targets: tuple[str, ...] = ()
    precision: str = "float32"

    def __post_init__(self) -> None:
        require_one_of("precision", self.precision, PRECISIONS)


@dataclass(frozen=True)
class OutputSettings:
    """Which files are written for an image, and how.

    An empty `save` writes none and only reports. `overlay_size` is the longest side of a picture in pixels, or None for
    the model's own grid. `scale` is "image", "run", or the relevance that gets the full colour. UsageError for a value
    that is not known.
    """

    folder: Path
    save: tuple[str, ...] = ("overlay", "map")
    map_space: str = "model"
    channels: str = "sum"
    dtype: str = "float32"
    overlay_size: int | None = 512
    picture: PictureStyle = field(default_factory=PictureStyle)
    scale: str | float = "image"

    def __post_init__(self) -> None:
        if "none" in self.save:
            raise UsageError("--save none stands alone; it cannot be given together with kinds of files.")
        for kind in self.save:
            require_one_of("save", kind, KINDS)
        if isinstance(self.scale, str):
            require_one_of("scale", self.scale, SCALES, "a number larger than 0")
        require_one_of("map-space", self.map_space, MAP_SPACES)
        require_one_of("channels", self.channels, CHANNELS)
        require_one_of("dtype", self.dtype, MAP_TYPES)
        if self.overlay_size is not None and not 1 <= self.overlay_size <= MAXIMAL_SIDE:
            raise UsageError(f"--overlay-size must be 1 to {MAXIMAL_SIDE} pixels or 'model', not {self.overlay_size}.")

    @property
    def pictures(self) -> tuple[str, ...]:
        """The kinds among `save` that are pictures."""
        return tuple(kind for kind in self.save if kind in ("overlay", "heatmap"))


@dataclass(frozen=True)
class RunSettings:
    """One whole run."""

    model: ModelSettings
    explain: ExplainSettings
    output: OutputSettings
    decode: DecodePolicy = field(default_factory=DecodePolicy)
    device: str = "auto"
    batch_size: int | None = None
    jobs: int = 1
