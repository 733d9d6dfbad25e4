"""One image on its way out: maps and pictures written, and the record of it."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrpcli.models.model import Model
from lrpcli.pictures.picture import picture_scale
from lrpcli.pipeline.decode import Prepared
from lrpcli.pipeline.explain import TOP, Answer, Explanation
from lrpcli.pipeline.kinds import KINDS, in_writing_order
from lrpcli.pipeline.settings import OutputSettings
from lrpcli.pipeline.targets import Targets
from lrpcli.records.explained import Explained, ExplainedClass, RelevanceRange, TopClass
from lrpcli.records.record import Outputs
from lrpcli.records.stores import NewFile, Store

SAME_SCALE = 1e-3
"""Two common scales this close draw the same picture: less than one step of colour."""


@dataclass(frozen=True)
class Product:
    """What a file of one class of one image is made of; `summed` is its relevance (h, w) with channels summed.

    `label` names the class, `start` what the backward pass began with, which is the unit of relevance.
    """

    item: Prepared
    explanation: Explanation
    summed: NDArray[np.float32]
    scale: float
    settings: OutputSettings
    label: str = ""
    start: str = "logit"


@dataclass(frozen=True)
class Writer:
    """Makes what `settings` asks for and gives it to `store`.

    `scale` is the relevance that gets the full colour, where it is not that of the settings or of each image. Images
    whose names are in `checked` are to have a class_cosine. `start` names what the backward pass begins with.
    """

    store: Store
    model: Model
    targets: Targets
    settings: OutputSettings
    scale: float | None = None
    checked: frozenset[str] = frozenset()
    start: str = "logit"

    def __call__(self, item: Prepared, answer: Answer, seconds: float) -> Explained:
        """Record of a finished image, its files by their paths below the folder; `seconds` is what the work took.

        ImageError if this image's files cannot be written, OutputError if no file can.
        """
        started = time.perf_counter()
        classes = tuple(
            self._one(item, explanation, self.targets.suffix(place, explanation.target))
            for place, explanation in enumerate(answer.explanations)
        )
        return Explained(
            input=item.source.path,
            name=item.source.name,
            classes=classes,
            top=tuple(TopClass(index, self.model.label(index), round(score, 6)) for index, score in answer.top),
            placement=item.placement.as_dict(),
            note=item.note,
            class_cosine=None if answer.class_cosine is None else round(answer.class_cosine, 4),
            seconds=round(item.seconds + seconds + time.perf_counter() - started, 4),
        )

    def fits(self, record: Explained, path: str, name: str) -> bool:
        """Whether a record has the classes asked of the image at a path, and files named after it."""
        same_scale = self.scale is None or abs(record.classes[0].scale - self.scale) <= SAME_SCALE * self.scale
        top = [one.target for one in record.top]
        return (
            same_scale
            and (name not in self.checked or record.class_cosine is not None)
            and 0 < len(top) <= TOP
            and self.targets.known(top)
            and self.targets.fit([one.target for one in record.classes], record.input, path)
            and all(
                one.outputs.paths == self._paths(name + self.targets.suffix(place, one.target))
                for place, one in enumerate(record.classes)
            )
        )

    def _paths(self, base: str) -> dict[str, str]:
        """The file of each kind, in the order of --save."""
        return {kind: base + KINDS[kind].ending(self.settings.picture_format) for kind in self.settings.save}

    def _one(self, item: Prepared, explanation: Explanation, suffix: str) -> ExplainedClass:
        """Makes the files of one class."""
        summed = explanation.summed
        label = self.model.label(explanation.target)
        product = Product(item, explanation, summed, self._scale(summed), self.settings, label, self.start)
        base = item.source.name + suffix
        paths = self._paths(base)
        self.store.put(
            item.source.name,
            base,
            (NewFile(kind.name, paths[kind.name], kind.make(product)) for kind in in_writing_order(self.settings.save)),
        )
        return ExplainedClass(
            Outputs(paths),
            explanation.target,
            label,
            round(explanation.score, 6),
            RelevanceRange(
                float(explanation.relevance.sum(dtype=np.float64)),
                explanation.start,
                float(summed.min()),
                float(summed.max()),
                explanation.exploded,
                None if explanation.kept is None else round(explanation.kept, 6),
                float(summed.sum(dtype=np.float64, where=summed > 0)),
                float(summed.sum(dtype=np.float64, where=summed < 0)),
            ),
            product.scale,
        )

    def _scale(self, summed: NDArray[np.float32]) -> float:
        if self.scale is not None:
            return self.scale
        if isinstance(self.settings.scale, str):
            return picture_scale(summed, self.settings.picture)
        return self.settings.scale
