"""What an evaluation is asked to do, as plain data."""

from dataclasses import dataclass, field

from lrpcli.errors import UsageError, require_one_of
from lrpcli.images.decode import DecodePolicy

ORDERS = ("morf", "lerf", "both")
FILLS = ("noise", "mean", "blur")
SCORES = ("softmax", "logit")
PRECISIONS = ("float32", "float64")
CONTROLS = ("random", "gradient", "gradient-times-input")


@dataclass(frozen=True)
class PerturbationSettings:
    """How images are perturbed and scored; docs/evaluation.md has the formulas. UsageError for an unknown value.

    `region` is the side of a region in pixels of the model's grid, None for 9 at 227 and in proportion. `steps` is cut
    to the number of regions. `repeats` draws the noise and the random orders so many times; the curves are averaged.
    """

    region: int | None = None
    steps: int = 100
    order: str = "both"
    fill: str = "noise"
    score: str = "softmax"
    repeats: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        require_one_of("order", self.order, ORDERS)
        require_one_of("fill", self.fill, FILLS)
        require_one_of("score", self.score, SCORES)
        for name in ("region", "steps", "repeats"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name} must be at least 1, not {value}.")

    @property
    def orders(self) -> tuple[str, ...]:
        """The orders in which each config's regions are replaced."""
        return ("morf", "lerf") if self.order == "both" else (self.order,)


@dataclass(frozen=True)
class EvaluationSettings:
    """Which configs are compared, and how.

    Every config is measured under every LRN rule of `lrn`, or under its own where none is named. UsageError if there
    is no config, if one is named twice, or if a control or the precision is unknown.
    """

    configs: tuple[str, ...]
    lrn: tuple[str, ...] = ()
    controls: tuple[str, ...] = ("random",)
    perturbation: PerturbationSettings = field(default_factory=PerturbationSettings)
    decode: DecodePolicy = field(default_factory=DecodePolicy)
    device: str = "auto"
    batch_size: int | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        if not self.configs:
            raise UsageError("No config is given to evaluate. Name at least one with --config.")
        for option, given in (("config", self.configs), ("lrn", self.lrn), ("control", self.controls)):
            for name in given:
                if given.count(name) > 1:
                    raise UsageError(f"--{option} {name} is given twice. Name it once.")
        for control in self.controls:
            require_one_of("control", control, CONTROLS)
        require_one_of("precision", self.precision, PRECISIONS)
