"""A run of `lrp explain`: the engine's stages, what the results depend on, and one colour scale for all pictures."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import torch

import lrpcli
from lrpcli.lrp.explainer import Explainer
from lrpcli.models import load_model
from lrpcli.models.model import Model
from lrpcli.pictures.drawing import load_matplotlib
from lrpcli.pictures.style import CROP
from lrpcli.pipeline.agenda import Agenda
from lrpcli.pipeline.decode import Preparation
from lrpcli.pipeline.expected_size import KindSize, kind_sizes
from lrpcli.pipeline.explain import Answer, Engine
from lrpcli.pipeline.finished import NetFacts
from lrpcli.pipeline.first_pass import first_pass, is_common, look_again
from lrpcli.pipeline.row import Whole
from lrpcli.pipeline.run import Run
from lrpcli.pipeline.settings import BATCH, OutputSettings, RunSettings
from lrpcli.pipeline.shard import WHOLE, Shard
from lrpcli.pipeline.stages import Stages
from lrpcli.pipeline.targets import choose_targets
from lrpcli.pipeline.threads import share_threads
from lrpcli.pipeline.write import Writer
from lrpcli.records.description import EXPLAIN_FILES, RunDescription
from lrpcli.records.explained import Explained
from lrpcli.records.resume import Resume
from lrpcli.records.stores import Store

ExplainStages = Stages[Answer, Explained]
ExplainAgenda = Agenda[Answer, Explained]


@dataclass(frozen=True)
class ExplainRun(Run[Answer, Explained]):
    """A run that explains images; with a `common_scale` its pictures get one, which a first pass finds.

    With `check_class` some of its images are checked for maps that depend on the class.
    """

    common_scale: bool = False
    check_class: bool = False

    def ready(self, whole: Whole, resume: Resume[Explained]) -> ExplainStages:
        """See Run; what an earlier run wrote down counts if it has the classes and files that are asked for."""
        stages = super().ready(whole, resume)
        if self.check_class:
            stages = _checking(stages, whole.sample)
        writer = _writer_of(stages)
        if writer.settings.figures:
            load_matplotlib(
                self.folder if isinstance(self.folder, Path) else Path.cwd()
            )  # before threads read and write: it leaves the current folder for that
        resume.still_fits = writer.fits
        return stages

    @property
    def facts(self) -> NetFacts:
        """See Run."""
        writer = _writer_of(self.stages)
        return NetFacts(writer.model.outputs, writer.targets.count)

    def of_shard(self, shard: Shard) -> Self:
        """See Run."""
        writer = _writer_of(self.stages)
        writer = replace(writer, store=writer.store.of_shard(shard.name))
        return replace(super().of_shard(shard), stages=replace(self.stages, write=writer))

    def share_processors(self, images: int) -> None:
        """See Run."""
        model, work = _writer_of(self.stages).model, self.stages.work
        assert isinstance(work, Engine)
        if work.explainer.device.type == "cpu":
            share_threads(model.module, model.input_shape, images)

    def store(self) -> Store:
        """See Run."""
        return _writer_of(self.stages).store

    def sizes(self) -> list[KindSize]:
        """What the files of one image will take, for each kind of them; those of all its maps together."""
        writer = _writer_of(self.stages)
        maps = writer.targets.count
        return [size._replace(bytes=maps * size.bytes) for size in kind_sizes(writer.settings, writer.model)]

    def agree(self, agenda: ExplainAgenda) -> None:
        """See Run."""
        if not self.common_scale:
            return
        agenda.stages = _with_scale(agenda.stages, _largest_scale(agenda))
        agenda.resume.still_fits = _writer_of(agenda.stages).fits
        look_again(agenda)


def _largest_scale(agenda: ExplainAgenda) -> float:
    """The largest of the scales that the images have by themselves; 0 if none can be explained."""
    stages = agenda.stages
    writer = _writer_of(stages)
    silent = replace(writer, settings=replace(writer.settings, save=()))
    blind = replace(stages, decode=replace(stages.decode, pictures=False), write=silent)
    largest = 0.0
    for record in first_pass(agenda, blind):
        if isinstance(record, Explained):
            largest = max(largest, *(one.scale for one in record.classes))
    return largest


def _with_scale(stages: ExplainStages, scale: float) -> ExplainStages:
    writer = _writer_of(stages)
    return replace(stages, write=replace(writer, scale=scale))


def _checking(stages: ExplainStages, names: frozenset[str]) -> ExplainStages:
    """The stages that check the images of these names, see class_check."""
    assert isinstance(stages.work, Engine)
    return replace(stages, work=replace(stages.work, checked=names), write=replace(_writer_of(stages), checked=names))


def _writer_of(stages: ExplainStages) -> Writer:
    assert isinstance(stages.write, Writer)
    return stages.write


def prepare_run(settings: RunSettings, shard: Shard = WHOLE) -> ExplainRun:
    """Loads the model and checks that every setting fits it. Raises LrpError; nothing has been written then."""
    common_scale = is_common(settings.output.scale, shard)
    store = settings.store(shard.name)
    model = load_model(settings.model.name, **settings.model.keywords())
    preprocessing = model.known_preprocessing()
    explainer = Explainer(
        model,
        settings.explain.config,
        lrn=settings.explain.lrn,
        start=settings.explain.start,
        dtype=getattr(torch, settings.explain.precision),
        device=settings.flow.device,
    )
    targets = choose_targets(model, settings.explain.targets, str(explainer.composite.target))
    output = settings.output
    return ExplainRun(
        settings.folder,
        EXPLAIN_FILES,
        Explained,
        _describe(settings, model, explainer),
        Stages(
            Preparation(
                settings.decode,
                preprocessing,
                output.overlay_size,
                bool(output.pictures),
                output.picture.outside == CROP,
            ),
            Engine(explainer, targets, output.layers),
            Writer(store, model, targets, output, start=explainer.start),
            settings.batch_size or BATCH.get(explainer.device.type, BATCH["cpu"]),
            settings.flow.jobs or 1,
        ),
        shard,
        settings.flow.force,
        common_scale,
        settings.check_class,
    )


def _describe(settings: RunSettings, model: Model, explainer: Explainer) -> RunDescription:
    return RunDescription(
        model.name,
        model.weights_sha256,
        model.known_preprocessing().fingerprint(),
        {
            **model.choices(),
            "labels_sha256": labels_hash(model.labels),
            "explain": asdict(settings.explain),
            "rules": {
                assignment.layer.name: f"{assignment.rule_name} {assignment.parameters}".strip()
                for assignment in explainer.assignments[1:]
            },
            "output": _described(settings.output),
        },
        lrpcli.__version__,
    )


def _described(output: OutputSettings) -> dict[str, object]:
    """What the files depend on; without packs it is what versions wrote down that knew none."""
    values = asdict(output)
    if output.pack is None:
        del values["pack"]
    return values


def labels_hash(labels: Sequence[str] | None) -> str | None:
    """What stands for the labels of a model in the description of a run."""
    return None if labels is None else hashlib.sha256("\n".join(labels).encode()).hexdigest()
