"""One image on its way out: maps and pictures written, and the row that reports it."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrpcli.models.model import Model
from lrpcli.pictures.picture import draw, picture_scale, png_bytes
from lrpcli.pipeline.decode import Prepared
from lrpcli.pipeline.explain import Explained, Explanation
from lrpcli.pipeline.settings import OutputSettings
from lrpcli.pipeline.targets import Targets
from lrpcli.records.store import npy_bytes, npz_bytes, write_whole

SUFFIXES = {"overlay": ".png", "heatmap": ".heatmap.png", "map": ".npy", "layers": ".layers.npz"}
Row = dict[str, Any]
"""What is told of one image: the object that --json prints, and with more detail the journal's line."""


@dataclass(frozen=True)
class Finisher:
    """Writes what `settings` asks for; `owner` is in the names of temporary files, see write_whole."""

    model: Model
    targets: Targets
    settings: OutputSettings
    owner: str = "0"

    def __call__(self, item: Prepared, explained: Explained, seconds: float) -> Row:
        """Row of a finished image, its outputs by their paths below the folder; `seconds` is what the computation took.

        ImageError if this image's files cannot be written, OutputError if no file can.
        """
        started = time.perf_counter()
        parts = [
            self._one(item, explanation, self.targets.suffix(place, explanation.target))
            for place, explanation in enumerate(explained.explanations)
        ]
        first = parts[0]
        row: Row = {
            "type": "image", "input": item.source.path, "name": item.source.name, "status": "ok",
            "outputs": first["outputs"],
            "target": first["target"], "label": first["label"], "score": first["score"],
            "top": [[index, self.model.label(index), round(score, 6)] for index, score in explained.top],
            "relevance": first["relevance"], "scale": first["scale"],
        }  # fmt: skip
        if len(parts) > 1:
            row["explanations"] = parts
        row["placement"] = item.placement.as_dict()
        if item.note:
            row["note"] = item.note
        row["seconds"] = round(item.seconds + seconds + time.perf_counter() - started, 4)
        return row

    def _one(self, item: Prepared, explanation: Explanation, suffix: str) -> Row:
        """Files and facts of one class. Order: maps, then pictures, so that a picture stands for a finished image."""
        summed = explanation.relevance.sum(0, dtype=np.float64).astype(np.float32)
        scale = self._scale(summed)
        outputs: dict[str, str] = {}
        for kind in sorted(self.settings.save, key=list(SUFFIXES).index, reverse=True):
            name = item.source.name + suffix + SUFFIXES[kind]
            content = self._content(kind, item, explanation, summed, scale)
            write_whole(Path(self.settings.folder, name), content, self.owner)
            outputs[kind] = name
        return {
            "outputs": {kind: outputs[kind] for kind in self.settings.save},
            "target": explanation.target,
            "label": self.model.label(explanation.target),
            "score": round(explanation.score, 6),
            "relevance": {
                "total": float(explanation.relevance.sum(dtype=np.float64)),
                "start": explanation.start,
                "min": float(summed.min()),
                "max": float(summed.max()),
            },
            "scale": scale,
        }

    def _scale(self, summed: NDArray[np.float32]) -> float:
        if isinstance(self.settings.scale, str):
            return picture_scale(summed, self.settings.picture)
        return self.settings.scale

    def _content(
        self, kind: str, item: Prepared, explanation: Explanation, summed: NDArray[np.float32], scale: float
    ) -> bytes:
        if kind == "map":
            return npy_bytes(self._map(item, explanation.relevance if self.settings.channels == "keep" else summed))
        if kind == "layers":
            return npz_bytes({name: values.astype(self.settings.dtype) for name, values in explanation.layers.items()})
        assert item.photo is not None
        style = replace(self.settings.picture, style="heatmap") if kind == "heatmap" else self.settings.picture
        return png_bytes(draw(item.photo, summed, item.box, style, scale))

    def _map(self, item: Prepared, relevance: NDArray[np.float32]) -> NDArray[Any]:
        if self.settings.map_space == "image":
            relevance = item.placement.to_image(relevance)
        return relevance.astype(self.settings.dtype)
