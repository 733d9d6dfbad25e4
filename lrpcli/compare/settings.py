"""What a comparison is asked to do, as plain data; options take their defaults from here. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path

from lrpcli.compare.variants import MOST, Variant, count_maps, variants_of
from lrpcli.errors import UsageError
from lrpcli.images.formats import DecodePolicy
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from lrpcli.lrp.names import LRN_RULES, STARTS
from lrpcli.pictures.encode import FORMATS, QUALITY
from lrpcli.pictures.style import FIGURE, SIDE_BY_SIDE, PictureStyle
from lrpcli.pipeline.default import DEFAULT_MODEL
from lrpcli.pipeline.picture_checks import FIGURE_SIDE, check_quality
from lrpcli.pipeline.settings import PRECISIONS, FlowSettings, ModelSettings, batch_size_setting, colour_scale
from lrpcli.setting import require_choices, setting

SCALES = ("image", "map", "run")


@dataclass(frozen=True)
class CompareSettings:
    """What is compared: every model with every config, LRN rule, start and target that is named, a map each.

    Where nothing is named, the model is the usual one, and the rest is as the config has it. UsageError if that makes
    a single map or more than MOST, or if something is named twice.
    """

    models: tuple[str, ...] = setting(
        (DEFAULT_MODEL,), flags=("--model",), metavar="NAME|FILE|CODE",
        help="As for lrp explain; can be given several times, for a column each.",
    )  # fmt: skip
    configs: tuple[str, ...] = setting(
        (DEFAULT_CONFIG,), flags=("--config",), metavar="NAME|FILE",
        help="Rules for every layer; can be given several times, for a column each.",
    )  # fmt: skip
    lrn: tuple[str, ...] = setting(
        (), metavar="RULE", choices=LRN_RULES, shown_default="the config's own",
        help="Rule of every LRN layer; can be given several times, for a column each.",
    )  # fmt: skip
    starts: tuple[str, ...] = setting(
        (), flags=("--start",), metavar="START", choices=STARTS, shown_default="the config's, logit",
        help="Relevance to start from: {choices}; can be given several times, for a column each.",
    )  # fmt: skip
    targets: tuple[str, ...] = setting(
        (), flags=("--target",), metavar="CLASS", shown_default="the predicted class",
        help="What to explain: top, topK such as top3, an index, a label, or from-folder; can be given several times, "
        "for a column each.",
    )  # fmt: skip
    precision: str = setting("float32", help="{choices}.", metavar="TYPE", choices=PRECISIONS)

    def __post_init__(self) -> None:
        several = {"model": self.models, "config": self.configs, "lrn": self.lrn, "start": self.starts,
                   "target": self.targets}  # fmt: skip
        for option, given in several.items():
            for name in given:
                if given.count(name) > 1:
                    raise UsageError(f"--{option} {name} is given twice. Name it once.")
        require_choices(self)
        count = count_maps(self.variants)
        if count < 2:
            raise UsageError(
                "There is a single map to show, and comparing needs two. Give one of --config, --lrn, --start, "
                "--target and --model several times, such as --config composite --config epsilon, or --target top2."
            )
        if count > MOST:
            raise UsageError(
                f"These options ask for {count} maps of each image, one for every combination, and a sheet has room "
                f"for {MOST}. Name fewer, or make several sheets."
            )

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Every combination, in the order of the columns."""
        return variants_of(self.models, self.configs, self.lrn, self.starts, self.targets)


@dataclass(frozen=True)
class SheetSettings:
    """How sheets look. `scale` is "image", "map", "run", or the relevance that gets the full colour.

    UsageError for a value that is not known, or a style that is itself several pictures.
    """

    difference: bool = setting(
        False, help="A second row: each map minus the first one, in the same colours and on the same scale."
    )
    picture_format: str = setting("png", metavar="FORMAT", choices=tuple(FORMATS), help="Of the sheets: {choices}.")
    quality: int | None = setting(
        None, metavar="N", least=1, most=100, shown_default=str(QUALITY), help="Of WebP and JPEG sheets."
    )
    overlay_size: int = setting(
        320, metavar="PIXELS", least=1, most=FIGURE_SIDE,
        help="Longest side of each picture on a sheet at most; small photos are enlarged up to it by a whole factor.",
    )  # fmt: skip
    picture: PictureStyle = field(default_factory=PictureStyle)
    scale: str | float = setting(
        "image", metavar="image|map|run|VALUE", as_text=True,
        help="Relevance that gets the full colour: one for the maps of an image, of each map, one for all images, or a "
        "number.",
    )  # fmt: skip
    per_page: int = setting(
        6, metavar="N", least=0, most=20, help="Images on a page of the sheet of all; 0 for no such sheet."
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", colour_scale(self.scale, SCALES))
        require_choices(self)
        check_quality(self.quality, self.picture_format)
        if self.picture.style in (SIDE_BY_SIDE, FIGURE):
            raise UsageError(
                f"--style {self.picture.style} is several pictures itself, and a sheet shows a photo and its maps "
                "anyway. Take --style overlay, heatmap or contour."
            )
        for name, least, most in (("overlay_size", 1, FIGURE_SIDE), ("per_page", 0, 20)):
            if not least <= getattr(self, name) <= most:
                option = name.replace("_", "-")
                raise UsageError(f"--{option} must be {least} to {most}, not {getattr(self, name)}.")


@dataclass(frozen=True)
class CompareRunSettings:
    """One whole run of `lrp compare` into `folder`; `models` has the settings of each of `compare.models`."""

    folder: Path
    models: tuple[ModelSettings, ...]
    compare: CompareSettings
    sheet: SheetSettings = field(default_factory=SheetSettings)
    decode: DecodePolicy = field(default_factory=DecodePolicy)
    flow: FlowSettings = field(default_factory=FlowSettings)
    batch_size: int | None = batch_size_setting()

    def __post_init__(self) -> None:
        if len(self.models) > 1:
            for option in ("weights", "prototxt", "input_shape", "output"):
                if any(getattr(model, option) is not None for model in self.models):
                    raise UsageError(
                        f"--{option.replace('_', '-')} is of one model, and {len(self.models)} are compared. Leave it "
                        "out, or compare files that need no such option."
                    )
