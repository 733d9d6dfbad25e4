"""The results as text for people, on terminals of any width."""

import textwrap
from collections.abc import Callable

from lrpcli.evaluation.limits import LARGEST_COSINE
from lrpcli.evaluation.metrics import (
    CLASS,
    COMPLEXITY,
    FOCUS,
    GROUND_TRUTH,
    KEPT,
    LOCALISATION,
    MAIN,
    METRICS,
    PERTURBATION,
    RANDOMISE,
    Metric,
    in_group,
)
from lrpcli.evaluation.summary import FEWEST, Interval, MeanOf, MethodResult, Results, interval_of
from lrpcli.records.text import one_line

NUMBER = 7
GAP = "  "
Cell = tuple[str, Callable[[MethodResult], float | None]]
"""A column: its heading, and its number for a method."""
RANKING = "Ranked by ABPC (symmetric relevance gain, SRG): "


def results_table(results: Results, width: int) -> str:
    """The content of results.json as tables at most `width` wide, one for each measure, below each other.

    Where that is narrow, names stand above numbers.
    """
    warnings = [textwrap.fill(one_line(warning), width) for warning in results["warnings"]]
    parts = [_heading(results), *warnings]
    for group, heading in HEADINGS.items():
        if _measured(results["methods"], group):
            few = _counted(results, group) < FEWEST
            text = "\n".join(textwrap.fill(line, max(width, 20)) for line in heading(results).splitlines())
            parts.append(f"{text}\n{_table(results['methods'], group, width, few=few)}")
            parts += _comparisons(results, width, few=few) if group == PERTURBATION else []
    return "\n\n".join(part for part in parts if part)


def _heading(results: Results) -> str:
    return _images(results["images"]) + _with_score(results)


def _images(count: int) -> str:
    return f"{count} image" + ("" if count == 1 else "s")


def _with_score(results: Results) -> str:
    settings = results["settings"]
    if not _measured(results["methods"], PERTURBATION):
        return "."
    return (
        f", {settings['steps']} steps, regions of {settings['region']} x {settings['region']} pixels, fill "
        f"{settings['fill']}, {settings['score']} score."
    )


def _counted(results: Results, group: str) -> int:
    """How many images a measure was taken on."""
    counts = {LOCALISATION: results["images_with_boxes"], GROUND_TRUTH: results["images_with_masks"]}
    return counts.get(group, results["images"])


def _of_masks(results: Results) -> str:
    return (
        f"ground-truth: {_images(results['images_with_masks'])} with masks, which cover "
        f"{results['mask_area'] or 0:.3f} of what the net sees: chance for both. {_notes(GROUND_TRUTH)}"
    )


def _of_boxes(results: Results) -> str:
    return (
        f"localisation: {_images(results['images_with_boxes'])} with boxes, which cover {results['box_area'] or 0:.3f} "
        f"of what the net sees: chance for both. {_notes(LOCALISATION)}"
    )


def _noted(group: str, more: str) -> Callable[[Results], str]:
    return lambda results: f"{group}: {_notes(group)} {more}"


HEADINGS: dict[str, Callable[[Results], str]] = {
    PERTURBATION: lambda results: f"perturbation: {_directions(in_group(PERTURBATION))}",
    LOCALISATION: _of_boxes,
    GROUND_TRUTH: _of_masks,
    FOCUS: _noted(FOCUS, "Higher is better; chance: 0.5."),
    CLASS: _noted(CLASS, f"A guard: below {LARGEST_COSINE}."),
    KEPT: _noted(KEPT, "A guard."),
    RANDOMISE: _noted(RANDOMISE, "A guard, never a ranking."),
    COMPLEXITY: _noted(COMPLEXITY, "It says how focused a map is, right or wrong."),
}
"""Measure -> what stands above its table, in the order of the tables."""


def _measured(methods: list[MethodResult], group: str) -> bool:
    return any(method["metrics"][metric.name] is not None for method in methods for metric in in_group(group))


def _directions(metrics: list[Metric]) -> str:
    """Which way is better, such as "AUC: lower is better. AOPC and ABPC: higher is better."."""
    sentences = []
    for better in dict.fromkeys(metric.better for metric in metrics):
        *first, last = [metric.heading for metric in metrics if metric.better == better]
        sentences.append(f"{', '.join(first)} and {last}" if first else last)
        sentences[-1] += f": {better} is better."
    return " ".join(sentences)


def _notes(group: str) -> str:
    return " ".join(f"{metric.heading}: {metric.note}" for metric in in_group(group))


def _main(methods: list[MethodResult], group: str) -> str | None:
    """The metric by which the methods of a group are compared."""
    return next((name for name in MAIN.get(group, ()) if methods[0]["metrics"][name]), None)


def _cells(metric: Metric) -> list[Cell]:
    """The columns of a metric."""

    def mean(method: MethodResult) -> float | None:
        entry: MeanOf | None = method["metrics"][metric.name]
        return None if entry is None else entry["mean"]

    if not metric.spread:
        return [(metric.heading, mean)]

    def quantile(method: MethodResult, key: str) -> float | None:
        entry = method["quantiles"][metric.name]
        return None if entry is None else {"low": entry["low"], "median": entry["median"], "high": entry["high"]}[key]

    return [
        (metric.heading, lambda method: quantile(method, "median")),
        ("10 %", lambda method: quantile(method, "low")),
        ("90 %", lambda method: quantile(method, "high")),
    ]


def _table(methods: list[MethodResult], group: str, width: int, *, few: bool) -> str:
    """A line per method: its metrics, and where methods are compared the difference of the main one to the first.

    With `few` images that difference has no interval.
    """
    metrics = [metric for metric in in_group(group) if any(method["metrics"][metric.name] for method in methods)]
    cells = [cell for metric in metrics for cell in _cells(metric)]
    main = _main(methods, group)
    if main is not None and not any(interval_of(method["difference"], main) for method in methods[1:]):
        main = None
    last = "" if main is None else f"{GAP}{METRICS[main].heading} less the first's" + ("" if few else " [95 %]")
    rows = [("", GAP.join(f"{heading:>{NUMBER}}" for heading, _ in cells) + last)]
    for place, method in enumerate(methods):
        numbers = [number(method) for _, number in cells]
        if all(number is None for number in numbers):
            continue
        texts = [f"{_number(number):>{max(NUMBER, len(cell[0]))}}" for number, cell in zip(numbers, cells, strict=True)]
        difference = f"{GAP}{_interval(interval_of(method['difference'], main))}" if place and main else ""
        rows.append((one_line(method["name"]), f"{GAP.join(texts)}{difference}"))
    return _lines(rows, width)


def _comparisons(results: Results, width: int, *, few: bool) -> list[str]:
    """The configs by ABPC, and the LRN rules of each against the first."""
    main = _main(results["methods"], PERTURBATION)
    found = []
    ranked = sorted((method["place"], method["name"]) for method in results["methods"] if method["place"] is not None)
    if len(ranked) > 1:
        text = ", ".join(f"{place}. {one_line(name)}" for place, name in ranked)
        found.append(textwrap.fill(f"{RANKING}{text}.", max(width, 20), break_on_hyphens=False))
    if results["lrn"] and main is not None:
        pairs = [(f"{row['config']}/{row['lrn']}", interval_of(row, main)) for row in results["lrn"]]
        rows = [(one_line(name), _interval(interval)) for name, interval in pairs]
        found += [
            f"{METRICS[main].heading} of an LRN rule less that of {results['lrn'][0]['to']}"
            + ("" if few else ", with 95 % interval"),
            _lines(rows, width),
        ]
    return found


def _lines(rows: list[tuple[str, str]], width: int) -> str:
    names = max(len(name) for name, _ in rows)
    if names + len(GAP) + max(len(text.rstrip()) for _, text in rows) <= width:
        return "\n".join(f"{name:{names}}{GAP}{text}".rstrip() for name, text in rows)
    return "\n".join((f"{name}\n{GAP}{text}" if name else f"{GAP}{text}").rstrip() for name, text in rows)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.1e}"


def _interval(entry: Interval | None) -> str:
    if entry is None:
        return "-"
    if entry["low"] is None:
        return f"{entry['mean']:+.4f}"
    return f"{entry['mean']:+.4f} [{entry['low']:+.4f}, {entry['high']:+.4f}]"
