"""A run of `lrp evaluate`: the measuring stage on the same stream as `lrp explain`, and the results over all images."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

import lrpcli
from lrpcli.errors import ModelError
from lrpcli.evaluation.classes import ClassFolders, folder_of
from lrpcli.evaluation.curves import Progress
from lrpcli.evaluation.evaluator import Evaluator, Measuring
from lrpcli.evaluation.localisation import read_boxes
from lrpcli.evaluation.masks import Masks
from lrpcli.evaluation.measurement import Measurement
from lrpcli.evaluation.settings import EvaluationRunSettings, EvaluationSettings
from lrpcli.images.find import Source
from lrpcli.models import load_model
from lrpcli.models.model import Model
from lrpcli.pipeline.decode import Prepared
from lrpcli.pipeline.finished import NetFacts
from lrpcli.pipeline.row import Whole
from lrpcli.pipeline.run import Run
from lrpcli.pipeline.shard import WHOLE, Shard
from lrpcli.pipeline.stages import Stages
from lrpcli.records.description import EVALUATE_FILES, RunDescription
from lrpcli.records.json_values import JsonObject
from lrpcli.records.resume import Resume


class EvaluationDescription(RunDescription):
    """What measured numbers depend on."""

    def differences(self, before: RunDescription) -> str:
        """See RunDescription; where other measures were taken, or other methods measured, only their names."""
        taken = [_texts(side.settings, "measures") for side in (before, self)]
        if taken[0] and taken[0] != taken[1]:
            return f"it took the measures {', '.join(taken[0])}, not {', '.join(taken[1])}"
        names = [", ".join(_method_names(side.settings)) for side in (before, self)]
        if names[0] != names[1]:
            return f"it measured {names[0]}, not {names[1]}"
        return super().differences(before)


def _texts(settings: JsonObject, key: str) -> list[str]:
    found = settings.get(key)
    return list(map(str, found)) if isinstance(found, (list, tuple)) else []


def _method_names(settings: JsonObject) -> list[str]:
    methods = settings.get("methods")
    found = methods if isinstance(methods, (list, tuple)) else ()
    return [str(method.get("name")) for method in found if isinstance(method, dict)]


@dataclass(frozen=True)
class EvaluationRun(Run[Measurement, Measurement]):
    """A run that measures images by its evaluator."""

    evaluator: Evaluator

    def ready(self, whole: Whole, resume: Resume[Measurement]) -> Stages[Measurement, Measurement]:
        """See Run; what an earlier run wrote down counts if it is whole."""
        resume.still_fits = lambda measurement, path, name: self.evaluator.fits(measurement, path)
        return super().ready(whole, resume)

    @property
    def facts(self) -> NetFacts:
        """See Run."""
        return NetFacts(self.evaluator.model.outputs)

    def reporting(self, progress: Progress) -> "EvaluationRun":
        """The same, with `progress` told of the images that go through the net."""
        return replace(self, stages=replace(self.stages, work=Measuring(self.evaluator, progress)))


def prepare_run(
    settings: EvaluationRunSettings, sources: Sequence[Source], shard: Shard = WHOLE, masks: Masks | None = None
) -> EvaluationRun:
    """The model is loaded; LrpError for a setting that does not fit it or the images. Nothing has been written then.

    `masks` are those that find_masks found in `settings.masks`, by the names that the sources have below their INPUTs.
    """
    boxes = read_boxes(settings.boxes) if settings.boxes else None
    if boxes:
        boxes.require_any((source.path for source in sources), str(settings.boxes))
    model = load_model(settings.model.name, **settings.model.keywords())
    evaluation = replace(settings.evaluation, device=settings.flow.device)
    evaluator = Evaluator(model, evaluation, boxes, _class_folders(model, evaluation, sources), masks)
    stages = Stages(
        evaluator.preparation, Measuring(evaluator), _keep, evaluator.images_at_once, settings.flow.jobs or 1
    )
    return EvaluationRun(
        settings.folder, EVALUATE_FILES, Measurement, describe(evaluator), stages, shard, settings.flow.force, evaluator
    )


def passes_per_image(run: EvaluationRun, workers: object) -> int:
    """See Evaluator.passes_per_image; for a run that is loaded in another process."""
    return run.evaluator.passes_per_image


def _class_folders(model: Model, settings: EvaluationSettings, sources: Sequence[Source]) -> ClassFolders | None:
    """Which images show which class, where that is asked for: by the names of their folders, as models know classes."""
    if not (settings.all_measures or "focus" in settings.measures):
        return None
    by_folder: dict[str, int] = {}
    for folder in dict.fromkeys(folder_of(source.path) for source in sources):
        with suppress(ModelError):
            by_folder[folder] = model.find_class(folder)
    return ClassFolders.of(sources, by_folder, settings.perturbation.seed)


def _keep(item: Prepared, measurement: Measurement, seconds: float) -> Measurement:
    """The record of an image is what was measured, and what the decoder printed; no file is written for it."""
    return replace(measurement, note=item.note)


def describe(evaluator: Evaluator) -> RunDescription:
    """What the numbers depend on: an evaluation goes on only if all of it is the same."""
    settings, model = evaluator.settings, evaluator.model
    rules = {
        method: [f"{rule.layer.name} {rule.rule_name} {rule.parameters}" for rule in explainer.assignments[1:]]
        for method, explainer in evaluator.maps.explainers.items()
    }
    return EvaluationDescription(
        model.name,
        model.weights_sha256,
        model.known_preprocessing().fingerprint(),
        {
            **model.choices(),
            **asdict(settings.perturbation),
            "region": evaluator.grid.size,
            "steps": evaluator.steps,
            "precision": settings.precision,
            "measures": list(evaluator.measures),
            "methods": [asdict(method) for method in evaluator.methods],
            "rules": rules,
            "decode": asdict(settings.decode),
            "boxes_sha256": evaluator.boxes.sha256 if evaluator.boxes else None,
        },
        lrpcli.__version__,
    )
