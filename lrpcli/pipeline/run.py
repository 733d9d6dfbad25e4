"""A whole run: settings and sources in; files, journal and rows out."""

import hashlib
import os
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch

import lrpcli
from lrpcli.errors import UsageError
from lrpcli.images.find import Source
from lrpcli.lrp.explainer import Explainer
from lrpcli.models import load_model
from lrpcli.models.model import Model
from lrpcli.pipeline.decode import Preparation
from lrpcli.pipeline.explain import Engine
from lrpcli.pipeline.fingerprint import fingerprint, require_same_run
from lrpcli.pipeline.settings import RunSettings
from lrpcli.pipeline.shard import WHOLE, Part
from lrpcli.pipeline.stream import Shard, run_shard
from lrpcli.pipeline.targets import choose_targets
from lrpcli.pipeline.workers import Workers
from lrpcli.pipeline.write import Finisher, Row
from lrpcli.records.journal import map_outputs, write_description
from lrpcli.records.resume import Progress

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
            "labels_sha256": _labels_hash(self.model.labels),
            "explain": asdict(settings.explain),
            "rules": {
                assignment.layer.name: f"{assignment.rule_name} {assignment.parameters}".strip()
                for assignment in self.shard.engine.explainer.assignments[1:]
            },
            "output": {key: value for key, value in asdict(settings.output).items() if key != "folder"},
        }

    def rows(
        self,
        sources: Sequence[Source],
        workers: Workers,
        *,
        part: Part = WHOLE,
        force: bool = False,
        stop: threading.Event | None = None,
    ) -> Generator[Row, None, None]:
        """Explains the part's share of the sources; a row for each, in order. StoppedError ends the run.

        What an earlier run finished is skipped unless `force`; UsageError if that was made with other settings.
        """
        output, description = self.settings.output.folder, self.description
        if self.settings.output.scale == "run" and part != WHOLE:
            raise UsageError("--scale run needs all images in one run, so it does not go with --shard. Give a number.")
        if not force:
            require_same_run(output, description)
        with Progress(output, fingerprint(description), part.name, force=force) as progress:
            write_description(output, description)
            share = part.share(sources)
            progress.begin_run(part=[part.number, part.count], images=len(sources), share=len(share))
            shard = self._fitted(len(share), part)
            if self.settings.output.scale == "run":
                shard = _with_common_scale(shard, share, workers, stop)
                progress.scale = float(shard.finisher.settings.scale)
            with closing(_watched(share, shard, workers, progress, stop or threading.Event())) as rows:
                for row in rows:
                    progress.end(row)
                    yield map_outputs(row, lambda name: os.path.join(output, name))  # noqa: PTH118 - names are text

    def _fitted(self, images: int, part: Part) -> Shard:
        """The shard for so many images: batches all of one size, so that hardly any of them has to be filled up."""
        shard = self.shard
        batches = max(1, -(-images // shard.batch_size))
        size = max(1, -(-images // batches))
        return replace(
            shard,
            batch_size=size,
            engine=replace(shard.engine, size=size),
            finisher=replace(shard.finisher, owner=part.name),
        )


def _watched(
    sources: Iterable[Source], shard: Shard, workers: Workers, progress: Progress, stop: threading.Event
) -> Generator[Row, None, None]:
    """Rows of all sources: those known already in their places, those that ended a run with nothing beside them."""

    def begun(group: Iterable[tuple[Source, Row | None]], alone: bool) -> Iterator[Source | Row]:
        for source, known in group:
            if known is None:
                progress.begin(source, alone=alone)
            yield source if known is None else known

    looked = ((source, *progress.look(source)) for source in sources)
    for alone, stretch in groupby(looked, key=itemgetter(2)):
        items = ((source, known) for source, known, _ in stretch)
        for group in ([item] for item in items) if alone else [items]:
            if stop.is_set():
                return
            yield from run_shard(begun(group, alone), shard, workers, stop)


def _with_common_scale(
    shard: Shard, sources: Iterable[Source], workers: Workers, stop: threading.Event | None
) -> Shard:
    """The shard with one scale for all pictures: the largest of those of all images, which a first pass finds."""
    output = shard.finisher.settings
    silent = replace(shard.finisher, settings=replace(output, save=(), scale="image"))
    blind = replace(shard.preparation, pictures=False)
    rows = run_shard(sources, replace(shard, preparation=blind, finisher=silent), workers, stop)
    scales = (part["scale"] for row in rows if "scale" in row for part in row.get("explanations", [row]))
    common = replace(output, scale=max(scales, default=0.0))
    return replace(shard, finisher=replace(shard.finisher, settings=common))


def _labels_hash(labels: Sequence[str] | None) -> str | None:
    return None if labels is None else hashlib.sha256("\n".join(labels).encode()).hexdigest()


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
