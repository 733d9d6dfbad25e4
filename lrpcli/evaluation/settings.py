"""What an evaluation is asked to do, as plain data; options take their defaults from here. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path

from lrpcli.errors import UsageError, require_one_of
from lrpcli.images.formats import DecodePolicy
from lrpcli.lrp.composites.default import DEFAULT_CONFIG
from lrpcli.pipeline.settings import PRECISIONS, FlowSettings, ModelSettings
from lrpcli.setting import require_choices, setting

ORDERS = ("morf", "lerf", "both")
FILLS = ("noise", "mean", "blur", "road")
SCORES = ("softmax", "logit")
BATCH_AT_224 = {"cpu": 16, "cuda": 128}
"""Images of 224 x 224 pixels at once where nothing is said, and as many pixels of others: larger batches are hardly
faster and only take memory."""
CONTROLS = ("random", "gradient", "gradient-times-input", "edges")
MEASURES = ("perturbation", "localisation", "ground-truth", "class", "kept", "focus", "randomise", "complexity")
LARGEST_SEED = 2**32 - 1
"""What torch and NumPy both take."""
USUAL = ("perturbation", "kept", "complexity")
"""Measures where none is named: kept and complexity cost nothing beside the maps."""


@dataclass(frozen=True)
class PerturbationSettings:
    """How images are perturbed and scored; docs/evaluation.md has the formulas. UsageError for an unknown value.

    `region` is the side of a region in pixels of the model's grid, None for 9 at 227 and in proportion. `steps` is cut
    to the number of regions. `repeats` draws the noise and the random orders so many times; the curves are averaged.
    """

    region: int | None = setting(
        None, metavar="PIXELS", least=1, shown_default="9 at 227, and in proportion",
        help="Side of a region on the model's grid.",
    )  # fmt: skip
    steps: int = setting(100, help="Regions that are replaced, one after the other.", metavar="N", least=1)
    order: str = setting(
        "both", metavar="morf|lerf|both", choices=ORDERS,
        help="Most relevant first, least relevant first, or both, which takes twice as long.",
    )  # fmt: skip
    fill: str = setting(
        "noise", metavar="noise|mean|blur|road", choices=FILLS,
        help="What replaces a region: uniform noise, the image's mean colour, the blurred image, or what the pixels "
        "around it say (ROAD).",
    )  # fmt: skip
    score: str = setting(
        "softmax", help="What is recorded of the predicted class.", metavar="softmax|logit", choices=SCORES
    )
    repeats: int = setting(1, help="Draw noise and random orders so many times and average.", metavar="N", least=1)
    seed: int = setting(0, help="Of noise, random orders and --images.", metavar="N", least=0, most=LARGEST_SEED)

    def __post_init__(self) -> None:
        require_choices(self)
        for name in ("region", "steps", "repeats"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} must be at least 1, not {value}.")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise UsageError(f"--seed must lie in 0..{LARGEST_SEED}, not {self.seed}.")

    @property
    def orders(self) -> tuple[str, ...]:
        """The orders in which each config's regions are replaced."""
        return ("morf", "lerf") if self.order == "both" else (self.order,)


@dataclass(frozen=True)
class EvaluationSettings:
    """Which configs are compared, on which measures, and how.

    Every config is measured under every LRN rule of `lrn`, or under its own where none is named. `controls` may be
    ("none",) for none. `measures` empty stands for USUAL; `all_measures` for all that the images and the model allow.
    UsageError if there is no config, if one is named twice, or if a control or the precision is
    unknown.
    """

    configs: tuple[str, ...] = setting(
        (DEFAULT_CONFIG,), flags=("--config",), metavar="NAME|FILE",
        help="A config to measure; can be given several times, and the first is what the others are compared to.",
    )  # fmt: skip
    lrn: tuple[str, ...] = setting(
        (), metavar="RULE", shown_default="each config's own",
        help="Measure every config with this rule in its LRN layers; can be given several times.",
    )  # fmt: skip
    controls: tuple[str, ...] = setting(
        ("random",), flags=("--control",), metavar="NAME",
        help="What to compare the configs to: random, gradient, gradient-times-input, edges, or none; can be given "
        "several times.",
    )  # fmt: skip
    perturbation: PerturbationSettings = field(default_factory=PerturbationSettings)
    decode: DecodePolicy = field(default_factory=DecodePolicy)
    device: str = FlowSettings.device
    batch_size: int | None = setting(
        None, flags=("-b", "--batch-size"), metavar="N", least=1,
        shown_default=f"as many as make {BATCH_AT_224['cpu']} at 224 x 224; {BATCH_AT_224['cuda']} on a GPU",
        help="Perturbed images at once.",
    )  # fmt: skip
    precision: str = setting("float32", help="{choices}.", metavar="TYPE", choices=PRECISIONS)
    measures: tuple[str, ...] = setting(
        (), flags=("--measure",), metavar="NAME", choices=MEASURES,
        shown_default=f"{', '.join(USUAL)}, localisation with --boxes, ground-truth with --masks",
        help="What to measure: {choices}; can be given several times.",
    )  # fmt: skip
    all_measures: bool = setting(False, flags=("--all",), help="Every measure that the images and the model allow.")

    def __post_init__(self) -> None:
        if not self.configs:
            raise UsageError("No config is given to evaluate. Name at least one with --config.")
        if "none" in self.controls and len(self.controls) > 1:
            raise UsageError("--control none stands alone; it cannot be given together with other controls.")
        if self.controls == ("none",):
            object.__setattr__(self, "controls", ())
        if self.all_measures and self.measures:
            raise UsageError("--all takes every measure; it cannot be given together with --measure.")
        several = {"config": self.configs, "lrn": self.lrn, "control": self.controls, "measure": self.measures}
        for option, given in several.items():
            for name in given:
                if given.count(name) > 1:
                    raise UsageError(f"--{option} {name} is given twice. Name it once.")
        for control in self.controls:
            require_one_of("control", control, CONTROLS)
        require_choices(self)


@dataclass(frozen=True)
class EvaluationRunSettings:
    """One whole run of `lrp evaluate` into `folder`."""

    folder: Path
    model: ModelSettings = field(default_factory=ModelSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    flow: FlowSettings = field(default_factory=FlowSettings)
    images: int | None = setting(
        None, help="Measure N of the images, drawn at random.", metavar="N", least=1, shown_default="all"
    )
    boxes: str | None = setting(
        None, metavar="FILE",
        help="CSV with the columns file, x1, y1, x2, y2 in pixels of the photo: measures localisation too.",
    )  # fmt: skip
    masks: str | None = setting(
        None, metavar="DIR",
        help="A picture for each image under its name, not zero on the object: measures ground-truth too.",
    )  # fmt: skip
