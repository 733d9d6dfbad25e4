"""What a run is asked to do, as plain data: the same whether a command line, a file or a program says it.

Defaults, choices, bounds and help texts of options are written here and nowhere else. Imports nothing heavy.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrpcli.errors import UsageError, require_one_of
from lrpcli.images.formats import INTERPOLATIONS, DecodePolicy
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from lrpcli.models.importers import suffixes_in_words
from lrpcli.models.presets import PRESETS
from lrpcli.pictures.encode import FORMATS, QUALITY
from lrpcli.pictures.style import FIGURE, PictureStyle
from lrpcli.pipeline.default import DEFAULT_MODEL
from lrpcli.pipeline.kinds import KINDS
from lrpcli.pipeline.picture_checks import check_pictures
from lrpcli.setting import require_choices, setting

if TYPE_CHECKING:
    from lrpcli.records.folder import RunFolder
    from lrpcli.records.stores import Store

MAP_SPACES = ("model", "image")
CHANNELS = ("sum", "keep")
MAP_TYPES = ("float32", "float16", "int16")
PACKS = ("tar",)
MEGABYTE = 1_000_000
SCALES = ("image", "run")
PRECISIONS = ("float32", "float64")
MAXIMAL_SIDE = 16384
BATCH = {"cpu": 16, "cuda": 64}
"""Images at once where nothing is said: larger batches are hardly faster and only take memory."""
TIMEOUT = 60.0
"""Seconds that one image may take to decode, where nothing else is said."""


def _shape(text: str) -> tuple[int, int, int]:
    try:
        channels, height, width = (int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} must be channels, height and width, such as 3,227,227.") from None
    return channels, height, width


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} must be numbers separated by commas, such as 104,117,123.") from None


def _factor(text: str) -> float:
    from fractions import Fraction

    try:
        return float(Fraction(text.replace(" ", "")))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ValueError(f"{text!r} must be a number, such as 1/255 or 0.017.") from None


def _resize(text: str) -> str:
    sides = text.lower().split("x")
    if text.lower() != "none" and (len(sides) > 2 or not all(side.isdecimal() for side in sides)):
        raise ValueError(f"{text!r} must be a side such as 256, height x width such as 256x256, or none.")
    return text.lower()


@dataclass(frozen=True)
class PreprocessingSettings:
    """What replaces the model's own preprocessing or fields of it, as the options have it; None leaves it as it is."""

    preset: str | None = setting(
        None, flags=("--preprocessing",), metavar="NAME", choices=tuple(PRESETS),
        help="How photos become the net's input, where its files do not say: {choices}.",
    )  # fmt: skip
    resize: str | None = setting(
        None, help="Before the centre crop: shorter side, squashed to HxW, or none to squash to the input.",
        metavar="SIDE|HxW|none", convert=_resize,
    )  # fmt: skip
    channel_order: str | None = setting(
        None, help="Order of the colour channels that the net reads.", metavar="RGB|BGR"
    )
    pixel_scale: float | None = setting(
        None, help="Factor of the pixels 0..255 before the mean, such as 1/255.", metavar="FACTOR", convert=_factor
    )  # fmt: skip
    mean: str | None = setting(
        None, help="Mean per channel, or a mean image (.binaryproto, .npy).", metavar="NUMBERS|FILE"
    )
    std: tuple[float, ...] | None = setting(
        None, help="What is divided by after the mean, per channel.", metavar="NUMBERS", convert=_numbers
    )
    interpolation: str | None = setting(
        None, help="Filter for resizing: {choices}.", metavar="FILTER", choices=INTERPOLATIONS
    )

    def __post_init__(self) -> None:
        require_choices(self)

    def overrides(self) -> dict[str, Any]:
        """The fields to replace, as models.preprocessing takes them."""
        chosen = {item.name: getattr(self, item.name) for item in fields(self)}
        changes = {name: value for name, value in chosen.items() if value is not None}
        if self.resize is not None:
            sides = [int(side) for side in self.resize.split("x")] if self.resize != "none" else []
            changes["resize"] = None if not sides else sides[0] if len(sides) == 1 else tuple(sides)
        if self.mean is not None:
            changes["mean"] = _mean(self.mean)
        return changes


def _mirror(text: str) -> str:
    from lrpcli.models.zoo.mirrors import check_mirror  # here, for `lrp --help` to be quick

    return check_mirror(text)


def _mean(text: str) -> tuple[float, ...] | str:
    try:
        return _numbers(text)
    except ValueError:
        return text


@dataclass(frozen=True)
class ModelSettings:
    """Which model: a name or path, and what overrules its own files."""

    name: str = setting(
        DEFAULT_MODEL, flags=("--model",), metavar="NAME|FILE|CODE",
        help=f"A named model ('lrp models list'), a {suffixes_in_words()} file, or code that makes a net and is run: "
        "file.py:factory, package.module:factory.",
    )  # fmt: skip
    weights: str | None = setting(
        None, help="Weights of a named model, in place of fetching them, or of a net that code makes.", metavar="FILE"
    )
    mirror: str | None = setting(
        None, help="Where to look first for weights to fetch: they lie there by file name.", metavar="URL|FOLDER",
        convert=_mirror,
    )  # fmt: skip
    prototxt: str | None = setting(None, help="Net description of a .caffemodel that lacks it.", metavar="FILE")
    labels: str | None = setting(None, help="Class names, one a line.", metavar="FILE")
    input_shape: tuple[int, int, int] | None = setting(
        None, help="The net's input, where its files do not say.", metavar="C,H,W", convert=_shape
    )
    output: str | None = setting(
        None, flags=("--output",), metavar="BLOB|KEY|0",
        help="Which of several outputs of the net to explain: by its blob or layer, which 'lrp models show' lists, by "
        "its key, or by its place.",
        shown_default="of Caffe's heads the one with the highest loss weight",
    )  # fmt: skip
    preprocessing: PreprocessingSettings = field(default_factory=PreprocessingSettings)

    def keywords(self) -> dict[str, Any]:
        """What load_model and load_architecture take beside the name."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        del values["name"]
        return {**values, "preprocessing": self.preprocessing.overrides() or None}


@dataclass(frozen=True)
class ExplainSettings:
    """Which explanation: config, its overrides, and what is explained; `targets` as --target has them."""

    config: str = setting(DEFAULT_CONFIG, help="Rules for every layer, see 'lrp configs list'.", metavar="NAME|FILE")
    lrn: str | None = setting(None, help="Rule of every LRN layer, whatever the config says.", metavar="RULE")
    targets: tuple[str, ...] = setting(
        (), flags=("--target",), metavar="CLASS", shown_default="the predicted class",
        help="What to explain: top, topK such as top3, an index, a label, or from-folder. Indices and labels can be "
        "given several times, for one map each.",
    )  # fmt: skip
    start: str | None = setting(
        None, metavar="START", shown_default="the config's, logit",
        help="Relevance to start from: logit, one, probability, softmax-gradient, contrastive or "
        "contrastive-positive.",
    )  # fmt: skip
    precision: str = setting("float32", help="{choices}.", metavar="TYPE", choices=PRECISIONS)

    def __post_init__(self) -> None:
        require_choices(self)


@dataclass(frozen=True)
class OutputSettings:
    """Which files are written for an image, and how.

    An empty `save` writes none and only reports; as text, kinds are separated by commas and "none" is empty.
    `overlay_size` is the longest side of a picture in pixels, or None ("model" as text) for the model's own grid.
    `scale` is "image", "run", or the relevance that gets the full colour. UsageError for a value that is not known.
    """

    save: tuple[str, ...] = setting(
        ("overlay", "map"), metavar="KINDS", as_text=True,
        help=f"Any of {', '.join(KINDS)}, separated by commas; or none.",
    )  # fmt: skip
    map_space: str = setting(
        "model", metavar="SPACE", choices=MAP_SPACES,
        help="Pixels of the map: model (the net's input grid) or image (the photo).",
    )  # fmt: skip
    channels: str = setting("sum", help="Map (h, w) or (3, h, w).", metavar="sum|keep", choices=CHANNELS)
    dtype: str = setting(
        "float32", metavar="TYPE", choices=MAP_TYPES,
        help="Of maps and layers: {choices}; int16 holds whole numbers with a scale, see lrpcli.open_maps.",
    )  # fmt: skip
    overlay_size: int | None = setting(
        512, metavar="PIXELS|model", as_text=True,
        help="Longest side of a picture at most; small photos are enlarged up to it by a whole factor.",
    )  # fmt: skip
    picture_format: str = setting(
        "png", metavar="FORMAT", choices=tuple(FORMATS), help="Of pictures: {choices}; the last two for figures."
    )
    quality: int | None = setting(
        None, metavar="N", least=1, most=100, shown_default=str(QUALITY), help="Of WebP and JPEG pictures."
    )
    picture: PictureStyle = field(default_factory=PictureStyle)
    scale: str | float = setting(
        "image", metavar="image|run|VALUE", as_text=True,
        help="Relevance that gets the full colour: of each image, one for all, or a number.",
    )  # fmt: skip

    pack: str | None = setting(
        None, metavar="tar", choices=PACKS, shown_default="a file each",
        help="Put the files of many images into tar shards, OUTPUT/lrp-*.tar, with an index in Parquet.",
    )  # fmt: skip

    def __post_init__(self) -> None:
        object.__setattr__(self, "save", _kinds(self.save))
        object.__setattr__(self, "overlay_size", _overlay_side(self.overlay_size))
        object.__setattr__(self, "scale", colour_scale(self.scale, SCALES))
        for kind in self.save:
            require_one_of("save", kind, tuple(KINDS))
        require_choices(self)
        check_pictures(self)
        if self.pack is not None and not self.save:
            raise UsageError(
                "--pack puts files into tar shards, and --save none asks for no files. Leave one of them out."
            )
        if self.pack is not None and self.scale == "run":
            raise UsageError(
                "--scale run may draw finished pictures anew, and tar shards are never written again, so that it does "
                "not go with --pack. Give a number."
            )
        if self.overlay_size is not None and not 1 <= self.overlay_size <= MAXIMAL_SIDE:
            raise UsageError(f"--overlay-size must be 1 to {MAXIMAL_SIDE} pixels or 'model', not {self.overlay_size}.")

    @property
    def pictures(self) -> tuple[str, ...]:
        """The kinds among `save` that are pictures."""
        return tuple(kind for kind in self.save if KINDS[kind].picture)

    @property
    def figures(self) -> bool:
        """Whether a kind among `save` is drawn as a figure."""
        return "overlay" in self.save and self.picture.style == FIGURE

    @property
    def layers(self) -> bool:
        """Whether a kind among `save` needs the relevance of each layer."""
        return any(KINDS[kind].layers for kind in self.save)


def _kinds(save: str | tuple[str, ...]) -> tuple[str, ...]:
    kinds = tuple(kind.strip() for kind in save.split(",")) if isinstance(save, str) else save
    if "none" in kinds and len(kinds) > 1:
        raise UsageError("--save none stands alone; it cannot be given together with kinds of files.")
    return () if kinds == ("none",) else kinds


def _overlay_side(side: str | int | None) -> int | None:
    if not isinstance(side, str):
        return side
    if side != "model" and not side.isdecimal():
        raise UsageError(f"--overlay-size must be a number of pixels or 'model', not {side!r}.")
    return None if side == "model" else int(side)


def colour_scale(scale: str | float, words: tuple[str, ...]) -> str | float:
    """What --scale says: one of the words as it is, or a number. UsageError for anything else."""
    try:
        value = float(scale)
    except ValueError:
        require_one_of("scale", str(scale), words, "a number larger than 0")
        return scale
    if not 0 < value < float("inf"):
        raise UsageError(f"--scale must be {', '.join(words)}, or a number larger than 0, not {scale}.")
    return value


@dataclass(frozen=True)
class FlowSettings:
    """How a run goes about its images, whatever it does with them: its results depend on none of these."""

    device: str = setting("auto", help="auto, cpu, cuda, cuda:1, mps.", metavar="DEVICE")
    jobs: int | None = setting(
        None, flags=("-j", "--jobs"), metavar="N", least=1, most=1024, shown_default="the usable CPUs",
        help="Images read and written at once.",
    )  # fmt: skip
    timeout: float = setting(
        TIMEOUT, metavar="SECONDS", least=0, most=86400,
        help="Give up an image that takes longer to decode; 0 for never.",
    )  # fmt: skip
    force: bool = setting(False, help="Compute everything anew, whatever OUTPUT holds.")
    fail_fast: bool = setting(False, help="Stop at the first image that fails.")
    shard: str = setting(
        "1/1", metavar="I/N|auto",
        help="Take every N-th image only, beginning with the I-th; auto asks torchrun's, SLURM's or Kubernetes' "
        "variables.",
    )  # fmt: skip


def batch_size_setting() -> int | None:
    """A field for how many images are explained at once; None: what BATCH says."""
    images: int | None = setting(
        None, flags=("-b", "--batch-size"), metavar="N", least=1, most=4096,
        shown_default=f"{BATCH['cpu']}; {BATCH['cuda']} on a GPU",
        help="Images at once.",
    )  # fmt: skip
    return images


@dataclass(frozen=True)
class RunSettings:
    """One whole run of `lrp explain` into `folder`, a path or what lies below a URL; UsageError if that is packed."""

    folder: "RunFolder"
    model: ModelSettings = field(default_factory=ModelSettings)
    explain: ExplainSettings = field(default_factory=ExplainSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    decode: DecodePolicy = field(default_factory=DecodePolicy)
    flow: FlowSettings = field(default_factory=FlowSettings)
    batch_size: int | None = batch_size_setting()
    pack_size: float = setting(
        512.0, metavar="MB", least=0.01, most=1e6,
        help="With --pack: size of a tar in millions of bytes, which one image alone may exceed.",
    )  # fmt: skip
    check_class: bool = setting(
        False, help="Also compare the maps of the best and the second class, for 20 images of the run; warn if alike."
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.output.pack is not None and not isinstance(self.folder, Path):
            raise UsageError(
                f"--pack {self.output.pack} writes on and on into files, and {self.folder.url!r} takes whole objects. "
                "Pack into a folder of this machine and copy it there, or leave --pack out."
            )

    def store(self, shard: str) -> "Store":
        """Where the files of images go, for a shard of this name. ModelError if a package that it needs is missing."""
        from lrpcli.records.stores import Place, find_store  # here, for `lrp --help` to be quick

        return find_store(self.output.pack, Place(self.folder, shard, self.pack_size * MEGABYTE))
