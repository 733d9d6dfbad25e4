"""A few images on their path, as a picture: what the net still sees after some steps."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lrpcli.evaluation.curves import class_scores
from lrpcli.evaluation.evaluator import Evaluator
from lrpcli.evaluation.plots import plain, png
from lrpcli.images.find import Source
from lrpcli.images.preprocess import Preprocessing
from lrpcli.pipeline.decode import Prepared

STEPS = (0, 10, 25, 50, 100)
IMAGES = 4
Decode = Callable[[Source], Prepared | None]
"""Gives an image, or None if it cannot be read any more."""


def filmstrip_picture(evaluator: Evaluator, sources: Sequence[Source], decode: Decode) -> bytes | None:
    """A PNG with a row for each of four images spread over `sources`, under the first config, at steps 0 to 100.

    A shorter path ends with its last step. Each picture has the score of the class that was predicted at first. None
    if no image can be read any more.
    """
    chosen = np.unique(np.linspace(0, len(sources) - 1, min(IMAGES, len(sources))).round().astype(int))
    rows = [_row(evaluator, item) for place in chosen if (item := decode(sources[place])) is not None]
    return _figure(evaluator, rows) if rows else None


Picture = tuple[NDArray[np.uint8], int, float]
"""Pixels (h, w, 3), how many regions are replaced, score."""


@torch.no_grad()
def _row(evaluator: Evaluator, item: Prepared) -> tuple[str, list[Picture]]:
    x = evaluator.as_input([item])
    target = evaluator.maps.predict(x).argmax(1)
    perturbation = evaluator.perturb(x, evaluator.maps(x, target))
    last = min(evaluator.steps, STEPS[-1])
    steps = torch.tensor([*(step for step in STEPS if step < last), last], device=x.device)
    images = perturbation.along(0, perturbation.paths[0], steps)
    scores = class_scores(evaluator.maps.predict(images), target.expand(len(steps)), evaluator.score)
    pictures = [as_picture(image, evaluator.preprocessing) for image in images.float().cpu().numpy()]
    return evaluator.model.label(int(target)), list(zip(pictures, steps.tolist(), scores.tolist(), strict=True))


def as_picture(pixels: NDArray[np.float32], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """RGB (h, w, 3) of a model's input (C, h, w)."""
    black, white = preprocessing.pixel_range()
    planes = (pixels - black) / (white - black) * 255
    if preprocessing.channel_order == "BGR":
        planes = planes[::-1]
    rounded = np.rint(planes).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    return rounded if rounded.shape[2] == 3 else np.repeat(rounded, 3, axis=2)


def _figure(evaluator: Evaluator, rows: list[tuple[str, list[Picture]]]) -> bytes:
    from matplotlib.figure import Figure

    columns = len(rows[0][1])
    figure = Figure(figsize=(2 * columns + 0.4, 2.25 * len(rows) + 0.4), dpi=100, layout="constrained")
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for line, (label, pictures) in zip(panels, rows, strict=True):
        for panel, (pixels, step, score) in zip(line, pictures, strict=True):
            panel.imshow(pixels, interpolation="nearest")
            panel.set_title(f"step {step}: {score:.2f}", fontsize=9)
            panel.set_xticks([])
            panel.set_yticks([])
        line[0].set_ylabel(plain(label), fontsize=9)
    order = {"morf": "most", "lerf": "least"}[evaluator.settings.perturbation.orders[0]]
    name = plain(evaluator.methods[0].name)
    size = evaluator.grid.size
    between = "\n" if columns < 4 else ", "
    figure.suptitle(f"{name}{between}{order} relevant regions of {size} x {size} pixels first", fontsize=10)
    return png(figure)
