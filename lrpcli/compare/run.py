"""A run of `lrp compare`: the models and their engines, what the results depend on, and one scale for all images."""

from dataclasses import asdict, dataclass, replace

import torch

import lrpcli
from lrpcli.compare.records import Compared
from lrpcli.compare.scales import Scales, largest, shared
from lrpcli.compare.settings import CompareRunSettings
from lrpcli.compare.sheets import SheetMaker
from lrpcli.compare.stage import ColumnMap, Comparing, PreparationForModels, Way
from lrpcli.compare.variants import MOST, Variant
from lrpcli.compare.write import SheetWriter
from lrpcli.errors import UsageError
from lrpcli.lrp.explainer import Explainer
from lrpcli.models import load_model
from lrpcli.models.model import Model
from lrpcli.pictures.drawing import load_matplotlib
from lrpcli.pipeline.agenda import Agenda
from lrpcli.pipeline.expected_size import KindSize
from lrpcli.pipeline.explain import Engine
from lrpcli.pipeline.explain_run import labels_hash
from lrpcli.pipeline.first_pass import first_pass, is_common, look_again
from lrpcli.pipeline.row import Whole
from lrpcli.pipeline.run import Run
from lrpcli.pipeline.settings import BATCH
from lrpcli.pipeline.shard import WHOLE, Shard
from lrpcli.pipeline.stages import Stages
from lrpcli.pipeline.targets import choose_targets
from lrpcli.records.description import COMPARE_FILES, RunDescription
from lrpcli.records.resume import Resume

CompareStages = Stages[list[ColumnMap], Compared]
PHOTOS = ((375, 500), (640, 427))
"""Sizes of photos by which it is found whether two models look at the same part of them."""


@dataclass(frozen=True)
class CompareRun(Run[list[ColumnMap], Compared]):
    """A run that compares; with a `common_scale` its sheets get one for each unit, which a first pass finds."""

    common_scale: bool = False

    def ready(self, whole: Whole, resume: Resume[Compared]) -> CompareStages:
        """See Run."""
        load_matplotlib(self.disk)  # before threads read and write: it leaves the current folder for that
        stages = super().ready(whole, resume)
        resume.still_fits = writer_of(stages).fits
        return stages

    def sizes(self) -> list[KindSize]:
        """What the files of one image will take."""
        writer = writer_of(self.stages)
        side, maps = writer.settings.overlay_size, sum(len(way.columns) for way in writer.ways)
        cells = sum(len(way.columns) * _cells(writer.models[way.model]) for way in writer.ways)
        return [
            KindSize("sheets", 2.0 * side * side * (maps + 1) * 0.75, "at 2 bytes a pixel"),
            KindSize("maps", 4.0 * cells + 3 * side * side * 0.75, "with photos of 4 : 3"),
        ]

    def agree(self, agenda: Agenda[list[ColumnMap], Compared]) -> None:
        """See Run."""
        if not self.common_scale:
            return
        writer = replace(writer_of(agenda.stages), scales=_largest_scales(agenda))
        agenda.stages = replace(agenda.stages, write=writer)
        agenda.resume.still_fits = writer.fits
        look_again(agenda)


def _cells(model: Model) -> int:
    _, height, width = model.input_shape
    return height * width


def _largest_scales(agenda: Agenda[list[ColumnMap], Compared]) -> Scales:
    """The largest scale of each unit over all images."""
    stages = agenda.stages
    silent = replace(writer_of(stages), silent=True)
    blind = replace(stages, decode=replace(stages.decode, pictures=False), write=silent)
    found: dict[tuple[str, tuple[int, int]], float] = {}
    for record in first_pass(agenda, blind):
        if isinstance(record, Compared):
            found = largest([*found.items(), *((one.unit, one.scale) for one in record.maps)])
    return found


def writer_of(stages: CompareStages) -> SheetWriter:
    """What writes the files of a run's images."""
    assert isinstance(stages.write, SheetWriter)
    return stages.write


def prepare_run(settings: CompareRunSettings, shard: Shard = WHOLE) -> CompareRun:
    """Loads the models and checks that every setting fits them. Raises LrpError; nothing has been written then."""
    common_scale = is_common(settings.sheet.scale, shard)
    models = tuple(load_model(model.name, **model.keywords()) for model in settings.models)
    preprocessing = [model.known_preprocessing() for model in models]
    ways = _ways(settings, models)
    _check(settings, models, ways)
    device = ways[0].engine.explainer.device
    return CompareRun(
        settings.folder,
        COMPARE_FILES,
        Compared,
        _describe(settings, models, ways),
        Stages(
            PreparationForModels(
                settings.decode, preprocessing[0], settings.sheet.overlay_size, pictures=True,
                others=tuple(preprocessing[1:]),
            ),
            Comparing(ways),
            SheetWriter(
                settings.folder, models, ways, settings.sheet, SheetMaker(settings.sheet, _settled(settings, models)),
                COMPARE_FILES.owner(shard.name),
            ),
            settings.batch_size or BATCH.get(device.type, BATCH["cpu"]),
            settings.flow.jobs or 1,
        ),
        shard,
        settings.flow.force,
        common_scale,
    )  # fmt: skip


def _ways(settings: CompareRunSettings, models: tuple[Model, ...]) -> tuple[Way, ...]:
    """A way for each variant; those of one model share its weights. UsageError if two make the same maps."""
    explainers: dict[int, Explainer] = {}
    ways: list[Way] = []
    for variant in settings.compare.variants:
        first = explainers.get(variant.model)
        if first is None:
            explainer = explainers[variant.model] = Explainer(
                models[variant.model], variant.config, lrn=variant.lrn, start=variant.start,
                dtype=getattr(torch, settings.compare.precision), device=settings.flow.device,
            )  # fmt: skip
        else:
            explainer = first.with_config(variant.config, lrn=variant.lrn, start=variant.start)
        wanted = () if variant.target is None else (variant.target,)
        targets = choose_targets(models[variant.model], wanted, str(explainer.composite.target))
        ways.append(Way(variant.model, Engine(explainer, targets), _columns(variant, targets.count)))
    return tuple(ways)


def _columns(variant: Variant, count: int) -> tuple[str, ...]:
    """The names of a variant's columns, one for each class."""
    if count == 1:
        return (variant.name,)
    return tuple(", ".join(filter(None, (variant.name, f"top {place}"))) for place in range(1, count + 1))


def _check(settings: CompareRunSettings, models: tuple[Model, ...], ways: tuple[Way, ...]) -> None:
    """UsageError for maps that are the same, too many, or cannot be shown as asked."""
    count = sum(len(way.columns) for way in ways)
    if count > MOST:
        raise UsageError(f"These configs ask for {count} maps of each image, and a sheet has room for {MOST}.")
    names = [column for way in ways for column in way.columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"Two columns are called {twice!r}, as they are asked for twice. Leave one out.")
    _require_different(settings, ways)
    units = [(way.engine.explainer.start, models[way.model].input_shape[1:]) for way in ways]
    if not isinstance(settings.sheet.scale, str) and not shared(units):
        raise UsageError(
            f"--scale {settings.sheet.scale} is in one unit, and these maps have several: relevance is measured in "
            "that of the start, per pixel of the model's grid. Take --scale image, map or run."
        )
    if settings.sheet.difference:
        _require_same_grid(models, shared(units))


def _require_different(settings: CompareRunSettings, ways: tuple[Way, ...]) -> None:
    seen: dict[object, str] = {}
    for variant, way in zip(settings.compare.variants, ways, strict=True):
        explainer, targets = way.engine.explainer, way.engine.targets
        rules = tuple((one.layer.name, one.rule_name, str(one.parameters)) for one in explainer.assignments[1:])
        key = (way.model, rules, explainer.start, targets.text, targets.classes)
        if key in seen:
            raise UsageError(
                f"The columns {seen[key]!r} and {variant.name!r} are the same: every layer of "
                f"{targets.model.name!r} has the same rule in both, and they explain the same class. Leave one out."
            )
        seen[key] = variant.name


def _require_same_grid(models: tuple[Model, ...], one_unit: bool) -> None:
    if not one_unit:
        raise UsageError(
            "--difference subtracts maps of one unit, and these have several: relevance is measured in that of the "
            "start, per pixel of the model's grid. Leave --difference out."
        )
    for height, width in PHOTOS:
        boxes = {model.known_preprocessing().placement(height, width).box for model in models}
        if len(boxes) > 1:
            raise UsageError(
                "--difference subtracts maps pixel by pixel, and these models look at different parts of a photo. "
                "Leave --difference out."
            )


def _settled(settings: CompareRunSettings, models: tuple[Model, ...]) -> str:
    """What all columns have in common, for people."""
    compare = settings.compare
    parts = [
        f"model {models[0].name}" if len(models) == 1 else "",
        f"config {compare.configs[0]}" if len(compare.configs) == 1 else "",
        f"LRN {compare.lrn[0]}" if len(compare.lrn) == 1 else "",
        f"start {compare.starts[0]}" if len(compare.starts) == 1 else "",
    ]
    return ", ".join(filter(None, parts))


def _describe(settings: CompareRunSettings, models: tuple[Model, ...], ways: tuple[Way, ...]) -> RunDescription:
    sheet = asdict(settings.sheet)
    del sheet["per_page"]  # of the sheet of all, which is made anew each time
    compare = asdict(settings.compare)
    del compare["models"]  # paths, which may change
    return RunDescription(
        ", ".join(model.name for model in models),
        models[0].weights_sha256,
        models[0].known_preprocessing().fingerprint(),
        {
            "models": [_describe_model(model) for model in models],
            "compare": compare,
            "columns": [column for way in ways for column in way.columns],
            "rules": {
                " / ".join(way.columns): [
                    f"{one.layer.name} {one.rule_name} {one.parameters}".strip()
                    for one in way.engine.explainer.assignments[1:]
                ]
                for way in ways
            },
            "sheet": sheet,
        },
        lrpcli.__version__,
    )


def _describe_model(model: Model) -> dict[str, object]:
    return {
        "name": model.name, "weights_sha256": model.weights_sha256, **model.choices(),
        "preprocessing": model.known_preprocessing().fingerprint(), "labels_sha256": labels_hash(model.labels),
    }  # fmt: skip
