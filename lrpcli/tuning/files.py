"""The files of a tuning: tuned.toml, table.csv and tune.json. The same settings and images give the same bytes."""

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import lrpcli
from lrpcli.errors import ImageError, OutputError, UsageError
from lrpcli.evaluation.evaluator import Evaluator
from lrpcli.lrp.composites.composite import Composite
from lrpcli.records.json_values import json_path
from lrpcli.records.record import Record
from lrpcli.records.store import remove_leftovers, write_whole
from lrpcli.records.text import for_spreadsheets, json_text
from lrpcli.tuning.candidates import Candidate
from lrpcli.tuning.guards import GUARDS, Scores
from lrpcli.tuning.notes import notes_on
from lrpcli.tuning.report import guards, verdict
from lrpcli.tuning.run import Tuned, TuningRun
from lrpcli.tuning.space import point_as_json, space_as_json
from lrpcli.tuning.toml_text import toml_text

CONFIG, TABLE, SUMMARY = "tuned.toml", "table.csv", "tune.json"
FILES = (TABLE, SUMMARY, CONFIG)
"""In the order in which they are written: the config is there when all of it is."""
OWNER = "tune"
FORMAT = 1
MEASURES = ("cosine", "kept", "wrong_sign", "morf", "random", "lerf", "abpc")
COLUMNS = (
    "candidate", "split", "lower", "epsilon", "first", "lrn", "start", "part", "round", "images", "steps",
    *MEASURES, "unsound", "failed",
)  # fmt: skip


def require_room(folder: Path, *, force: bool) -> None:
    """UsageError if the folder holds a tuning, unless that may be replaced; OutputError where none can ever lie."""
    for path in (folder / name for name in FILES):
        if path.is_dir():
            raise OutputError(
                f"{str(path)!r} is a folder, where a file is to be written. Choose another output folder."
            )
    before = [name for name in FILES if os.path.lexists(folder / name)]
    if before and not force:
        raise UsageError(
            f"The output folder {str(folder)!r} holds a tuning already ({', '.join(before)}). Choose another output "
            "folder, or replace it with --force."
        )


def try_to_write(folder: Path) -> None:
    """OutputError if nothing can be written there, which should be known before minutes of work; makes the folder."""
    trial = folder / f".lrp-{OWNER}-trial"
    _write(trial, b"", folder)
    _remove(trial)
    remove_leftovers(folder, OWNER)


def write_files(run: TuningRun, tuned: Tuned, failed: list[Record]) -> dict[str, object]:
    """Writes the three files, each whole or not at all, and gives the content of tune.json."""
    summary = summary_of(run, tuned, failed)
    contents = {
        TABLE: table_text(run, tuned),
        SUMMARY: json_text(json.dumps(summary, indent=1, ensure_ascii=False)) + "\n",
        CONFIG: config_text(run.evaluator, tuned),
    }
    folder = run.settings.folder
    _remove(folder / CONFIG)  # one of before would not belong to the other files
    for name in FILES:
        _write(folder / name, contents[name].encode("utf-8", "surrogateescape"), folder)
    return summary


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"The file {str(path)!r} cannot be replaced: {error.strerror or error}.") from error


def _write(path: Path, content: bytes, folder: Path) -> None:
    try:
        write_whole(path, content, OWNER, folder)
    except ImageError as error:  # it is this one name, but no image's
        raise OutputError(str(error)) from error


def config_text(evaluator: Evaluator, tuned: Tuned) -> str:
    """The content of tuned.toml."""
    comments = ["Made by lrp tune; table.csv and tune.json beside it have the search that led here.", verdict(tuned)]
    comments += [f"Guard {sentence}" for sentence in guards(tuned)]
    return toml_text(_described(evaluator, tuned), [*comments, *notes_on(tuned)])


def _described(evaluator: Evaluator, tuned: Tuned) -> Composite:
    """The chosen composite with where it comes from."""
    model, chosen = evaluator.model, tuned.chosen
    composite = chosen.composite
    built_in = f" It is the built-in config {chosen.name} ({composite.source})." if chosen.point is None else ""
    search, held_out = len(tuned.division.search), tuned.chosen_scores.images
    source = (
        f"Tuned by lrp {lrpcli.__version__} on the net {model.name} (sha256 of the weights: "
        f"{model.weights_sha256 or 'not known'}), {search} images searched and {held_out} held out.{built_in}"
    )
    return replace(composite, source=source)


def table_text(run: TuningRun, tuned: Tuned) -> str:
    """The content of table.csv: a row for each candidate and round, and for each candidate of the held-out check.

    A candidate that no round reached has a row without numbers.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(COLUMNS)
    measured = set()
    for number, found in enumerate(tuned.rounds, 1):
        for candidate, scores in found.scores:
            measured.add(candidate.name)
            table.writerow(_row(candidate, "search", number, found.round.steps, scores))
    for candidate in tuned.candidates.others:
        if candidate.name not in measured:
            table.writerow([*_place(candidate), "not reached"])
    pairs = {tuned.candidates.default: tuned.held_out.default, tuned.best: tuned.held_out.best}
    for candidate, scores in pairs.items():
        table.writerow(_row(candidate, "held-out", "", run.evaluator.steps, scores))
    return text.getvalue()


def _place(candidate: Candidate) -> list[object]:
    """Name and dimensions of a candidate; of a built-in config the start."""
    values = {"start": candidate.composite.start} if candidate.point is None else point_as_json(candidate.point)
    return [for_spreadsheets(candidate.name), *(values.get(key, "") for key in COLUMNS[1:7])]


def _row(candidate: Candidate, part: str, number: object, steps: int, scores: Scores) -> list[object]:
    measures = scores_as_json(scores)
    numbers = [measures[key] for key in MEASURES]
    unsound = int(scores.unsound.sum())
    return [*_place(candidate), part, number, scores.images, steps, *numbers, unsound, " ".join(scores.failed)]


def scores_as_json(scores: Scores) -> dict[str, float | None]:
    """The means over images, by the names of the columns; None for what was not measured."""
    morf, random, lerf = scores.areas
    return {
        "cosine": scores.cosine, "kept": scores.median_kept, "wrong_sign": scores.wrong_sign, "morf": morf,
        "random": random, "lerf": lerf, "abpc": scores.abpc,
    }  # fmt: skip


def summary_of(run: TuningRun, tuned: Tuned, failed: list[Record]) -> dict[str, object]:
    """The content of tune.json; docs/tuning.md describes it."""
    evaluator, settings = run.evaluator, run.settings
    model, division = evaluator.model, tuned.division
    gain = tuned.held_out.gain
    return {
        "format": FORMAT,
        "version": lrpcli.__version__,
        "model": model.name,
        "weights_sha256": model.weights_sha256,
        "preprocessing": model.known_preprocessing().fingerprint(),
        "settings": {
            **model.choices(), **asdict(settings.search), **asdict(settings.evaluation.perturbation),
            "region": evaluator.grid.size, "steps": evaluator.steps, "precision": evaluator.settings.precision,
            "guards": list(GUARDS),
        },
        "space": space_as_json(tuned.limits),
        "images": {
            "search": list(map(json_path, division.search.paths)),
            "held_out": list(map(json_path, division.held_out.paths)),
            "copies": list(map(json_path, division.copies)),
            "failed": [record.as_shown() for record in failed],
        },
        "candidates": list(_candidates(tuned)),
        "unfit": tuned.candidates.unfit,
        "best": tuned.best.name,
        "chosen": tuned.chosen.name,
        "held_out": {
            "images": tuned.held_out.best.images,
            "available": tuned.held_out.available,
            "best": {**scores_as_json(tuned.held_out.best), "failed": list(tuned.held_out.best.failed)},
            "default": {**scores_as_json(tuned.held_out.default), "failed": list(tuned.held_out.default.failed)},
            "gain": None if gain is None else asdict(gain),
        },
        "verdict": verdict(tuned),
        "notes": notes_on(tuned),
    }  # fmt: skip


def _candidates(tuned: Tuned) -> Iterator[dict[str, object]]:
    """Every candidate with what each round found; no round where none reached it."""
    for candidate in (tuned.candidates.default, *tuned.candidates.others):
        yield {
            "name": candidate.name,
            "built_in": candidate.point is None,
            "point": None if candidate.point is None else point_as_json(candidate.point),
            "start": candidate.composite.start,
            "same_as": list(candidate.same_as),
            "config": toml_text(candidate.composite),
            "rounds": list(_rounds_of(candidate, tuned)),
        }


def _rounds_of(candidate: Candidate, tuned: Tuned) -> Iterator[dict[str, object]]:
    for number, found in enumerate(tuned.rounds, 1):
        for other, scores in found.scores:
            if other is candidate:
                yield {
                    "round": number, "images": scores.images, "steps": found.round.steps, **scores_as_json(scores),
                    "unsound": int(scores.unsound.sum()), "failed": list(scores.failed),
                }  # fmt: skip
