"""A tuning as text for people: the table of the best candidates, the held-out check, and what it says."""

import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path

from lrpcli.records.text import one_line
from lrpcli.tuning.candidates import Candidate
from lrpcli.tuning.guards import SOUND, Scores, guards_in_words
from lrpcli.tuning.halving import Measured
from lrpcli.tuning.notes import notes_on
from lrpcli.tuning.run import Tuned
from lrpcli.tuning.space import SAME, size

WIDTH = 80
ROWS = 12
"""Candidates that the table shows."""
SHORT = {"softmax-gradient": "softmax", "contrastive": "contrast", "contrastive-positive": "contrast+"}
"""Starts as the table has them."""
COLUMNS = {"split": 5, "lower": 12, "eps": 5, "first": 8, "lrn": 8, "start": 9}
"""Column of the table -> its width."""
Row = tuple[int, Candidate, Scores]
"""The number of the last round in which a candidate was measured, and what that found."""


def report(tuned: Tuned, folder: Path, model_options: Sequence[str] = ()) -> str:
    """Everything that is printed at the end, at most WIDTH wide; the options are those that named the model."""
    parts = [_filled(_heading(tuned)), *([table(tuned)] if tuned.compared else []), *map(_filled, notes_on(tuned))]
    held = [f"Guards of {_subject(tuned)} on the held-out images:", *guards(tuned)]
    parts += [_filled(verdict(tuned)), "\n".join(map(_filled, held))]
    return "\n\n".join([*parts, f"To explain by tuned.toml:\n  {command(folder, model_options)}"])


def _filled(text: str) -> str:
    return textwrap.fill(one_line(text), WIDTH, break_on_hyphens=False, break_long_words=False)


def _heading(tuned: Tuned) -> str:
    search, held_out = len(tuned.division.search), len(tuned.division.held_out)
    candidates = [tuned.candidates.default, *tuned.candidates.others]
    points = sum(candidate.point is not None for candidate in candidates)
    return (
        f"{search + held_out} images: {search} searched, {held_out} held out. {len(candidates)} candidates: "
        f"{len(candidates) - points} built-in configs and {points} of a space of {size(tuned.limits)}."
    )


def table(tuned: Tuned) -> str:
    """The best candidates of the search, the default marked; a line each, beneath the names of the columns."""
    shown = [name for name in COLUMNS if name != "lrn" or tuned.limits.lrn]
    rows = [row for row in ranking(tuned.rounds) if row[2].ranked or row[1] is tuned.candidates.default]
    chosen = rows[:ROWS]
    default = tuned.candidates.default
    if all(candidate is not default for _, candidate, _ in chosen):
        chosen = [*rows[: ROWS - 1], *(row for row in rows if row[1] is default)]
    heading = " ".join(f"{name:{COLUMNS[name]}}" for name in shown)
    lines = [f"{heading}  {'ABPC':>6} {'r':1} fails"]
    for number, candidate, scores in chosen:
        name = _cells(candidate, default, shown)
        lines.append(f"{name:{len(heading)}}  {_number(scores.abpc):>6} {number} {_failed(scores)}".rstrip())
    return "\n".join(lines)


def ranking(rounds: Sequence[Measured[Candidate, Scores]]) -> list[Row]:
    """Every candidate that was measured, with the last round that has it: those of later rounds first, best first.

    A round in which the default alone was measured comes after the others.
    """
    found: dict[str, Row] = {}
    numbers = range(len(rounds), 0, -1)
    for number in sorted(numbers, key=lambda number: len(rounds[number - 1].scores) < 2):
        scores = dict(rounds[number - 1].scores)
        for candidate in rounds[number - 1].ranking:
            found.setdefault(candidate.name, (number, candidate, scores[candidate]))
    return list(found.values())


def _cells(candidate: Candidate, default: Candidate, shown: Sequence[str]) -> str:
    """The dimensions of a point in their columns, or the name of a built-in config across them."""
    point = candidate.point
    if point is None:
        return candidate.name + (" (the default)" if candidate is default else "")
    values = {
        "split": f"{point.split:g}",
        "lower": point.lower or "-",
        "eps": "-" if point.epsilon is None else f"{point.epsilon:g}",
        "first": point.first if point.first != SAME else "-",
        "lrn": point.lrn or "-",
        "start": SHORT.get(point.start, point.start),
    }
    return " ".join(f"{values[name]:{COLUMNS[name]}}" for name in shown)


def _failed(scores: Scores) -> str:
    if SOUND in scores.failed:
        return SOUND
    return "all guards" if len(scores.failed) > 2 else " ".join(scores.failed) or "-"


def verdict(tuned: Tuned) -> str:
    """What the best candidate gains over the default on the held-out images, and what tuned.toml therefore is."""
    held_out, best = tuned.held_out, tuned.best
    images = f"{held_out.best.images} held-out images"
    if not tuned.compared:
        return (
            "No candidate was compared with the default by ABPC in the time that there was, so that nothing is known "
            f"of a better one: tuned.toml holds the default's own rules, whose ABPC is "
            f"{_number(held_out.default.abpc)} on {images}."
        )
    if best is tuned.candidates.default:
        return (
            f"Nothing that was tried beats the default, whose ABPC is {_number(held_out.default.abpc)} on {images}: "
            "tuned.toml holds the default's own rules."
        )
    found = (
        f"Held-out check: ABPC {_number(held_out.best.abpc)} against the default's "
        f"{_number(held_out.default.abpc)}: {_gain(tuned)} on {images}."
    )
    return " ".join([found, *_meaning(tuned)])


def _gain(tuned: Tuned) -> str:
    gain = tuned.held_out.gain
    if gain is None:
        return "no difference can be computed"
    interval = "" if gain.low is None else f" [{gain.low:.3f}, {gain.high:.3f}]"
    return f"{gain.mean:+.3f}{interval}"


def _meaning(tuned: Tuned) -> list[str]:
    """What the numbers of the check mean, as sentences."""
    held_out = tuned.held_out
    lost, lost_by_default = len(held_out.best.failed), len(held_out.default.failed)
    meaning = []
    if lost != lost_by_default:
        meaning.append(f"The tuned rules fail {_guards(lost)}, the default {_guards(lost_by_default)}.")
    if not held_out.confirmed:
        return [*meaning, "What the search found is no better there: tuned.toml holds the default's own rules."]
    if held_out.gain is not None and held_out.gain.may_be_chance:
        meaning.append("The interval holds 0: the difference in ABPC may be chance.")
    if held_out.gain is not None and held_out.gain.mean <= 0:
        meaning.append("It is the guards that speak for the tuned rules, not ABPC.")
    return meaning


def _guards(count: int) -> str:
    return "no guard" if count == 0 else f"{count} guard{'' if count == 1 else 's'}"


def _subject(tuned: Tuned) -> str:
    return "the tuned rules" if tuned.held_out.confirmed else "the default"


def guards(tuned: Tuned) -> list[str]:
    """The guards of what tuned.toml holds, on the held-out images."""
    return guards_in_words(tuned.chosen_scores)


def command(folder: Path, model_options: Sequence[str]) -> str:
    """The command that explains images of the same model by what was found, for a shell."""
    words = ["lrp", "explain", *model_options, "--config", str(folder / "tuned.toml")]
    return one_line(f"{shlex.join(words)} INPUT... OUTPUT")


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.3g}"
