"""A whole run: settings and sources in; files, journal and rows out."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import lrpcli
from lrpcli.images.find import Source
from lrpcli.lrp.explainer import Explainer
from lrpcli.models import load_model
from lrpcli.models.model import Model
from lrpcli.output.journal import Journal, write_description
from lrpcli.pipeline.compute import Engine
from lrpcli.pipeline.finish import Finisher, Row
from lrpcli.pipeline.prepare import Preparation
from lrpcli.pipeline.settings import RunSettings
from lrpcli.pipeline.shard import Shard, run_shard
from lrpcli.pipeline.targets import choose_targets

BATCH = {"cpu": 16, "cuda": 64}
"""Images at once where nothing is said: larger batches are hardly faster and only take memory."""


@dataclass(frozen=True)
class Run:
    """A run that is ready to begin: the model is loaded, and every setting fits it."""

    settings: RunSettings
    model: Model
    shard: Shard

    @property
    def description(self) -> dict[str, Any]:
        """What the results depend on, as JSON values."""
        settings = self.settings
        return {
            "version": lrpcli.__version__,
            "model": self.model.name,
            "weights_sha256": self.model.weights_sha256,
            "preprocessing": self.model.preprocessing.fingerprint(),
            "explain": asdict(settings.explain),
            "rules": {
                assignment.layer.name: f"{assignment.rule_name} {assignment.parameters}".strip()
                for assignment in self.shard.engine.explainer.assignments[1:]
            },
            "output": {key: value for key, value in asdict(settings.output).items() if key != "folder"},
        }

    def rows(self, sources: Sequence[Source]) -> Iterator[Row]:
        """Explains the sources; a row for each, in order. StoppedError ends the run."""
        output = self.settings.output.folder
        shard = self._with_common_scale(sources) if self.settings.output.scale == "run" else self.shard
        write_description(output, self.description)
        with Journal(output, "journal-1-of-1.jsonl") as journal:
            for row in run_shard(sources, shard):
                journal.append({**row, **_state(row["input"])})
                yield row

    def _with_common_scale(self, sources: Sequence[Source]) -> Shard:
        """The shard with one scale for all pictures: the largest of those of all images, which a first pass finds."""
        shard, output = self.shard, self.settings.output
        silent = replace(shard.finisher, settings=replace(output, save=(), scale="image"))
        blind = replace(shard.preparation, pictures=False)
        rows = run_shard(sources, replace(shard, preparation=blind, finisher=silent))
        scales = (part["scale"] for row in rows if "scale" in row for part in row.get("explanations", [row]))
        common = replace(output, scale=max(scales, default=0.0))
        return replace(shard, finisher=replace(shard.finisher, settings=common))


def prepare_run(settings: RunSettings) -> Run:
    """Loads the model and checks that every setting fits it. Raises LrpError; nothing has been written then."""
    model = load_model(settings.model.name, **settings.model.keywords())
    explainer = Explainer(
        model,
        settings.explain.config,
        lrn=settings.explain.lrn,
        start=settings.explain.start,
        dtype=getattr(torch, settings.explain.precision),
        device=settings.device,
    )
    targets = choose_targets(model, settings.explain.targets, str(explainer.composite.target))
    output = settings.output
    shard = Shard(
        Preparation(settings.decode, model.preprocessing, output.overlay_size, bool(output.pictures)),
        Engine(explainer, targets, "layers" in output.save),
        Finisher(model, targets, output),
        settings.batch_size or BATCH.get(explainer.device.type, BATCH["cpu"]),
        settings.jobs,
    )
    return Run(settings, model, shard)


def _state(path: str) -> dict[str, int]:
    """Size in bytes and time of change (ns) of a source, by which a later run knows whether it is still the same."""
    try:
        state = Path(path).stat()
    except (OSError, ValueError):
        return {}
    return {"size": state.st_size, "mtime_ns": state.st_mtime_ns}
