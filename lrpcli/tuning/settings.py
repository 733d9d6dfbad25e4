"""What a tuning is asked to do, as plain data; options take their defaults from here. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path

from lrpcli.evaluation.settings import LARGEST_SEED, EvaluationSettings
from lrpcli.pipeline.settings import FlowSettings, ModelSettings
from lrpcli.setting import setting

FEWEST_IMAGES = 8
"""Images of which a tuning can be made: half of them are searched, half are held out."""


@dataclass(frozen=True)
class SearchSettings:
    """How long and how widely is searched; docs/tuning.md describes the space and the plan.

    `images` are drawn at random where there are more; None for all. `candidates` are drawn from the space; the
    built-in configs come on top.
    """

    minutes: float = setting(
        10.0, metavar="N", least=0.01, most=100_000,
        help="Time for the search and the held-out check, for which a quarter is kept.",
    )  # fmt: skip
    candidates: int = setting(
        128, metavar="N", least=1, most=100_000,
        help="Configs that are drawn from the space; all built-in ones are tried beside them.",
    )  # fmt: skip
    images: int | None = setting(
        200, metavar="N", least=FEWEST_IMAGES,
        help="Of more images so many are drawn at random; half of them are held out.",
    )  # fmt: skip
    seed: int = setting(
        0,
        metavar="N",
        least=0,
        most=LARGEST_SEED,
        help="Of the draws of images and candidates, of noise, random orders and intervals.",
    )


@dataclass(frozen=True)
class TuningRunSettings:
    """One whole run of `lrp tune` into `folder`.

    Of `evaluation` the device, the sizes and the perturbation count.
    """

    folder: Path
    model: ModelSettings = field(default_factory=ModelSettings)
    search: SearchSettings = field(default_factory=SearchSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    flow: FlowSettings = field(default_factory=FlowSettings)
