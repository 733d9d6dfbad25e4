"""A whole evaluation: images in; a journal line, a row and a part of the summary for each out. Stopped runs go on."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lrpcli
from lrpcli.errors import ImageError, UsageError
from lrpcli.evaluation.curves import Progress
from lrpcli.evaluation.evaluator import Evaluator, Loaded
from lrpcli.evaluation.measurement import Measured
from lrpcli.images.find import Source, file_state
from lrpcli.records.differences import describe_differences
from lrpcli.records.journal import FOLDER, Journal, json_line, json_path
from lrpcli.records.store import translate_os_error, write_whole

JOURNAL, DESCRIPTION = "evaluate.jsonl", "evaluate.json"
Row = dict[str, Any]
Answer = tuple[Source, Measured | ImageError, bool]
"""An image, what came of it, and whether that was known from an earlier run."""


def choose_images(sources: Sequence[Source], count: int | None, seed: int) -> list[Source]:
    """`count` of the sources drawn at random, in their order; all of them if there are no more.

    With the same seed, more images are the fewer ones and others: a finished evaluation can be carried further.
    """
    if count is None or count >= len(sources):
        return list(sources)
    drawn = list(range(len(sources)))
    random.Random(seed).shuffle(drawn)
    return [sources[place] for place in sorted(drawn[:count])]


def describe(evaluator: Evaluator) -> dict[str, Any]:
    """What the numbers depend on, as JSON values: an evaluation goes on only if all of it is the same."""
    settings, model = evaluator.settings, evaluator.model
    perturbation = asdict(settings.perturbation)
    rules = {
        method.name: [f"{rule.layer.name} {rule.rule_name} {rule.parameters}" for rule in explainer.assignments[1:]]
        for method, explainer in zip(evaluator.maps.methods, evaluator.maps.explainers, strict=True)
    }
    description = {
        "version": lrpcli.__version__,
        "model": model.name,
        "weights_sha256": model.weights_sha256,
        "preprocessing": model.preprocessing.fingerprint(),
        **perturbation,
        "region": evaluator.grid.size,
        "steps": evaluator.steps,
        "precision": settings.precision,
        "methods": [asdict(method) for method in evaluator.methods],
        "rules": rules,
        "decode": asdict(settings.decode),
        "boxes_sha256": evaluator.boxes.sha256 if evaluator.boxes else None,
    }
    as_json: dict[str, Any] = json.loads(json.dumps(description))
    return as_json


class Record:
    """What OUTPUT knows of earlier runs. UsageError if they had other settings, unless `force` forgets them."""

    def __init__(self, output: Path, description: dict[str, Any], *, force: bool) -> None:
        self.output, self.description = output, description
        self.path = output / FOLDER / JOURNAL
        before = None if force else _read_description(output)
        if before is not None and before != description:
            raise UsageError(
                f"The evaluation in {str(output)!r} was made with other settings: {_differences(before, description)}. "
                "Choose another output folder, or start anew with --force."
            )
        self.lines = _whole_lines(self.path) if before is not None else []
        self.known = {_key(row["input"]): row for row in map(json.loads, self.lines)}

    def start(self) -> Journal:
        """The journal, open for more lines; what a killed run left of its last line is gone."""
        text = json.dumps(self.description, indent=2)
        write_whole(self.output / FOLDER / DESCRIPTION, text.encode() + b"\n")
        write_whole(self.path, b"".join(self.lines))
        return Journal(self.output, JOURNAL)

    def finished(self, source: Source) -> Measured | None:
        """What an earlier run measured, if the file has not changed since."""
        row = self.known.get(_key(json_path(source.path)))
        state = file_state(source.path)
        if row is None or not state or any(row.get(key) != value for key, value in state.items()):
            return None
        return Measured.from_row(source.path, row)


def run(evaluator: Evaluator, sources: Sequence[Source], record: Record, progress: Progress) -> Iterator[Answer]:
    """What is known or comes of each source, in order; every image that is measured is journaled at once."""
    with record.start() as journal:
        for group in _groups(evaluator, sources, record):
            loaded = [item for _, item in group if isinstance(item, Loaded)]
            measured = iter(evaluator(loaded, progress) if loaded else [])
            for source, item in group:
                if not isinstance(item, Loaded):
                    yield source, item, isinstance(item, Measured)
                    continue
                answer = next(measured)
                if isinstance(answer, Measured):
                    journal.append({**answer.as_row(), **file_state(source.path)})
                yield source, answer, False


def _groups(
    evaluator: Evaluator, sources: Sequence[Source], record: Record
) -> Iterator[list[tuple[Source, Loaded | ImageError | Measured]]]:
    """Sources with their pixels, in groups that are measured together; what is known or failed rides along."""
    group: list[tuple[Source, Loaded | ImageError | Measured]] = []
    for source in sources:
        group.append((source, record.finished(source) or _load(evaluator, source)))
        if sum(isinstance(item, Loaded) for _, item in group) in (0, evaluator.images_at_once):
            yield group
            group = []
    if group:
        yield group


def _load(evaluator: Evaluator, source: Source) -> Loaded | ImageError:
    try:
        return evaluator.load(source)
    except ImageError as error:
        return error


def failed_row(source: Source, error: ImageError) -> Row:
    """The row of an image that failed."""
    return {
        "type": "image",
        "input": source.path,
        "status": "failed",
        "error": {"kind": error.kind, "message": str(error)},
    }


def image_row(measured: Measured, *, skipped: bool) -> Row:
    """The row of an image that was measured: the numbers of each method, without the curves."""
    row = {key: value for key, value in measured.as_row().items() if key not in ("curves", "localisation")}
    methods = {method: measured.metrics(method) for method in measured.curves}
    return {**row, "status": "skipped" if skipped else "ok", "methods": methods}


def _key(path: Any) -> str:
    return json_line({"path": path})


def _whole_lines(path: Path) -> list[bytes]:
    """The lines of a journal that are complete, with their ends."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise translate_os_error(error, path) from error
    return [line for line in lines if line.endswith(b"\n") and _is_json(line)]


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _read_description(output: Path) -> dict[str, Any] | None:
    path = output / FOLDER / DESCRIPTION
    try:
        description = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{str(path)!r}, which says how an earlier evaluation was made, cannot be read: {error}. Start anew with "
            "--force."
        ) from error
    return dict(description)


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What has changed: the methods, or else what they were measured with."""
    if before.get("methods") == now["methods"]:
        return describe_differences(before, now)
    names = (", ".join(method["name"] for method in side.get("methods", [])) for side in (before, now))
    return f"it measured {next(names)}, not {next(names)}"
