"""What the study of benchmarks.evaluation_study found: tables in Markdown, from the results of `lrp evaluate`."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrpcli.evaluation.limits import LARGEST_COSINE, LEAST_KEPT, MOST_WRONG
from lrpcli.evaluation.summary import paired_intervals
from lrpcli.lrp.composites.composite import builtin_names
from lrpcli.lrp.composites.default import DEFAULT_CONFIG

CANDIDATES = tuple(name for name in builtin_names() if not name.startswith(("gradient", "identity")))
REFERENCES = ("epsilon-1", "beta-1", "composite", "epsilon-plus")
"""Go through region perturbation whatever the guards say: from the paper, or the default of earlier versions."""
FILLS = ("noise", "blur", "road")

Results = dict[str, Any]


@dataclass(frozen=True)
class Net:
    """A net of the study, the images that it is measured on, and how many of them a stage takes.

    `regions` are options of perturbation for a stage, `references` configs that go through it whatever the guards say;
    `taylor_alone` are the fills with which LRN `identity` is left out.
    """

    name: str
    title: str
    images: str
    model: tuple[str, ...]
    counts: dict[str, int]
    regions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    references: tuple[str, ...] = REFERENCES
    taylor_alone: tuple[str, ...] = ()


def read(out: Path, net: Net, stage: str) -> Results | None:
    """results.json of a stage, None where it has not run."""
    path = out / f"{net.name}-{stage}" / "results.json"
    return json.loads(path.read_text()) if path.exists() else None


def mean(method: Results, metric: str) -> float | None:
    found = method["metrics"][metric]
    return None if found is None else found["mean"]


def failed_guards(method: Results) -> list[str]:
    """Those of a method of the guards' stage."""
    cosine, kept, wrong = mean(method, "class_second"), method["quantiles"]["kept"], mean(method, "wrong_sign")
    assert cosine is not None and kept is not None and wrong is not None
    found = [] if cosine < LARGEST_COSINE else ["class"]
    found += [] if kept["median"] > LEAST_KEPT else ["kept"]
    return found + ([] if wrong <= MOST_WRONG else ["wrong sign"])


def passing(every: list[Net], out: Path) -> list[str]:
    """Candidates that fail fewest guards, over the nets whose guards were measured."""
    failed = dict.fromkeys(CANDIDATES, 0)
    for net in every:
        for method in (read(out, net, "guards") or {"methods": []})["methods"]:
            if method["name"] in failed:
                failed[method["name"]] += len(failed_guards(method))
    return [name for name, count in failed.items() if count == min(failed.values())]


def tables(every: list[Net], out: Path) -> Iterator[str]:
    """Markdown: guards, perturbation for each net and fill, the mean ABPC over nets, LRN rules, localisation."""
    yield from guard_table(every, out)
    yield from ranking(every, out)
    yield from default_table(every, out)
    yield from lrn_table(every, out)
    for stage in FILLS:
        for net in every:
            if (results := read(out, net, stage)) is not None:
                yield from perturbation_table(net, stage, results)
    for net in every:
        if (results := read(out, net, "boxes")) is not None:
            yield from localisation_table(net, results)


def guard_table(every: list[Net], out: Path) -> Iterator[str]:
    """Cosine, median kept share and wrong signs of every candidate on every net; what fails a guard is bold."""
    measured = [(net, results) for net in every if (results := read(out, net, "guards")) is not None]
    yield from ("### Guards", "", "Cosine with the second class, median kept share, totals of the wrong sign.", "")
    heads = [f"{net.title}, {results['images']} images" for net, results in measured]
    yield f"| config | {' | '.join(heads)} |"
    yield f"| --- |{' --- |' * len(measured)}"
    rows = [{method["name"]: method for method in results["methods"]} for _, results in measured]
    for name in CANDIDATES:
        cells = [guard_cell(row[name]) if name in row else "-" for row in rows]
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""


def guard_cell(method: Results) -> str:
    failed = failed_guards(method)
    texts = {
        "class": f"{mean(method, 'class_second'):.2f}",
        "kept": f"{method['quantiles']['kept']['median']:.2f}",
        "wrong sign": f"{mean(method, 'wrong_sign'):.0%}",
    }
    return ", ".join(f"**{text}**" if guard in failed else text for guard, text in texts.items())


def ranking(every: list[Net], out: Path) -> Iterator[str]:
    """Mean ABPC of every method over the nets, where all have it, and where MoRF < random < LeRF does not hold."""
    yield from ("### Mean ABPC over the nets", "", f"| method | {' | '.join(FILLS)} | mean | in order |")
    yield f"| --- |{' --- |' * (len(FILLS) + 2)}"
    found: dict[str, dict[str, list[float]]] = {}
    disordered: dict[str, list[str]] = {}
    for stage in FILLS:
        for net in every:
            results = read(out, net, stage)
            for method in results["methods"] if results else []:
                if (abpc := mean(method, "abpc")) is not None:
                    found.setdefault(method["name"], {}).setdefault(stage, []).append(abpc)
                    if not in_order(results, method):
                        disordered.setdefault(method["name"], []).append(f"{net.name} {stage}")
    means = {name: {fill: sum(values) / len(values) for fill, values in fills.items() if len(values) == len(every)}
             for name, fills in found.items()}  # fmt: skip
    whole = {name: sum(fills.values()) / len(FILLS) for name, fills in means.items() if len(fills) == len(FILLS)}
    for name in sorted(means, key=lambda name: -whole.get(name, 0.0)):
        order = ", ".join(f"not {where}" for where in disordered.get(name, [])) or "yes"
        numbers = " | ".join(number(means[name].get(fill)) for fill in FILLS)
        yield f"| {name} | {numbers} | {number(whole.get(name))} | {order} |"
    yield ""


def default_table(every: list[Net], out: Path) -> Iterator[str]:
    """ABPC of every config with Taylor for each fill, less that of the default in brackets; * where not in order."""
    for stage in FILLS:
        measured = [(net, results) for net in every if (results := read(out, net, stage)) is not None]
        if not measured:
            continue
        yield from (f"### ABPC, {stage}; less the default's [95 %]; * MoRF < random < LeRF does not hold", "")
        heads = [f"{net.title}, {results['images']}" for net, results in measured]
        yield f"| config | {' | '.join(heads)} |"
        yield f"| --- |{' --- |' * len(measured)}"
        scores = [abpc_of(out / f"{net.name}-{stage}" / "results.csv") for net, _ in measured]
        ordered = [{method["name"]: in_order(results, method) for method in results["methods"]}
                   for _, results in measured]  # fmt: skip
        for name in sorted({name for found in scores for name in found}):
            cells = [default_cell(found, name, order[name]) if name in found else "-"
                     for found, order in zip(scores, ordered, strict=True)]  # fmt: skip
            yield f"| {name} | {' | '.join(cells)} |"
        yield ""


def abpc_of(path: Path) -> dict[str, NDArray[np.float64]]:
    """ABPC of each image by method, (N,): configs with Taylor, and controls that have one."""
    found: dict[str, list[float]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["lrn"] in ("taylor", "") and row["abpc"]:
                name = f"{row['config']}/{row['lrn']}" if row["lrn"] else row["config"]
                found.setdefault(name, []).append(float(row["abpc"]))
    return {name: np.array(values) for name, values in found.items()}


def default_cell(found: dict[str, NDArray[np.float64]], name: str, ordered: bool) -> str:
    """The mean, and in brackets the difference to the default's with its paired interval."""
    star = "" if ordered else "*"
    default = f"{DEFAULT_CONFIG}/taylor"
    if name == default:
        return f"{found[name].mean():.3f}{star}"
    difference = found[name] - found[default]
    (low,), (high,) = paired_intervals(difference[:, None])
    return f"{found[name].mean():.3f}{star} ({difference.mean():+.3f} [{low:+.3f}, {high:+.3f}])"


def in_order(results: Results, method: Results) -> bool:
    """Whether MoRF < random < LeRF in mean AUC."""
    random = next(mean(other, "auc") for other in results["methods"] if other["name"] == "random")
    morf, lerf = mean(method, "auc"), mean(method, "lerf_auc")
    return morf is not None and lerf is not None and random is not None and morf < random < lerf


def lrn_table(every: list[Net], out: Path) -> Iterator[str]:
    """`identity` less `taylor` in AUC and ABPC for each fill."""
    for metric, better in (("auc", "above 0"), ("abpc", "below 0")):
        for stage in FILLS:
            measured = [(net, results) for net in every if (results := read(out, net, stage)) is not None]
            if not measured:
                continue
            yield from (f"### {metric.upper()}, {stage}: `identity` less `taylor` ({better}: Taylor is better)", "")
            yield f"| config | {' | '.join(net.title for net, _ in measured)} |"
            yield f"| --- |{' --- |' * len(measured)}"
            for config in dict.fromkeys(row["config"] for _, results in measured for row in results["lrn"]):
                rows = [[row for row in results["lrn"] if row["config"] == config] for _, results in measured]
                yield f"| {config} | {' | '.join(interval(row[0][metric]) if row else '-' for row in rows)} |"
            yield ""


def perturbation_table(net: Net, stage: str, results: Results) -> Iterator[str]:
    yield from (f"### {net.title}, {stage}", "", f"{results['images']} images, mean score {results['score']:.3f}.", "")
    yield from (
        "| method | AUC | LeRF AUC | ABPC | ABPC less the first's | MoRF < random < LeRF |",
        "| --- | --- | --- | --- | --- | --- |",
    )
    for method in results["methods"]:
        numbers = " | ".join(number(mean(method, key)) for key in ("auc", "lerf_auc", "abpc"))
        ordered = "-" if method["name"] == "random" else "yes" if in_order(results, method) else "no"
        yield f"| {method['name']} | {numbers} | {interval(method['difference']['abpc'])} | {ordered} |"
    yield ""


def localisation_table(net: Net, results: Results) -> Iterator[str]:
    yield from (f"### {net.title}, localisation", "", f"{results['images_with_boxes']} images with boxes; the boxes "
                f"cover {results['box_area']:.3f} of the image.", "")  # fmt: skip
    yield from ("| method | pointing game | share inside | share less the first's |", "| --- | --- | --- | --- |")
    for method in results["methods"]:
        numbers = " | ".join(number(mean(method, key)) for key in ("pointing", "share"))
        yield f"| {method['name']} | {numbers} | {interval(method['difference']['share'])} |"
    yield ""


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def interval(entry: Results | None) -> str:
    if entry is None or entry["low"] is None:
        return "-"
    return f"{entry['mean']:+.3f} [{entry['low']:+.3f}, {entry['high']:+.3f}]"
