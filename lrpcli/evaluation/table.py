"""The results as text for people, on terminals of any width."""

import textwrap

from lrpcli.evaluation.metrics import LOCALISATION, METRICS, PERTURBATION, Metric, in_group
from lrpcli.evaluation.summary import FEWEST, Interval, MeanOf, MethodResult, Results, interval_of
from lrpcli.records.text import one_line

NUMBER = 7
GAP = "  "


def results_table(results: Results, width: int) -> str:
    """The content of results.json as tables at most `width` wide; where that is narrow, names stand above numbers."""
    methods = results["methods"]
    main = "auc" if methods[0]["metrics"]["auc"] else "lerf_auc"
    warnings = [textwrap.fill(one_line(warning), width) for warning in results["warnings"]]
    few = results["images"] < FEWEST
    parts = [_heading(results), *warnings, _table(methods, PERTURBATION, main, width, few=few)]
    if results["lrn"]:
        parts += [
            f"{METRICS[main].heading} of an LRN rule less that of {results['lrn'][0]['to']}"
            + ("" if few else ", with 95 % interval"),
            _lines(
                [
                    (one_line(f"{row['config']}/{row['lrn']}"), _interval(interval_of(row, main)))
                    for row in results["lrn"]
                ],
                width,
            ),
        ]
    if results["images_with_boxes"]:
        parts += [
            f"{results['images_with_boxes']} images with boxes, which cover {results['box_area']:.3f} of what the net "
            f"sees: chance for both.\n{_notes(in_group(LOCALISATION))}",
            _table(methods, LOCALISATION, "share", width, few=results["images_with_boxes"] < FEWEST),
        ]
    return "\n\n".join(parts)


def _heading(results: Results) -> str:
    settings = results["settings"]
    images = f"{results['images']} image" + ("" if results["images"] == 1 else "s")
    return (
        f"{images}, {settings['steps']} steps, regions of {settings['region']} x {settings['region']} pixels, fill "
        f"{settings['fill']}, {settings['score']} score.\n"
        f"{_directions(in_group(PERTURBATION))}"
    )


def _directions(metrics: list[Metric]) -> str:
    """Which way is better, such as "AUC: lower is better. AOPC and ABPC: higher is better."."""
    sentences = []
    for better in dict.fromkeys(metric.better for metric in metrics):
        *first, last = [metric.heading for metric in metrics if metric.better == better]
        sentences.append(f"{', '.join(first)} and {last}" if first else last)
        sentences[-1] += f": {better} is better."
    return " ".join(sentences)


def _notes(metrics: list[Metric]) -> str:
    return " ".join(f"{metric.heading}: {metric.note}" for metric in metrics)


def _table(methods: list[MethodResult], group: str, main: str, width: int, *, few: bool) -> str:
    """A line per method: its metrics, and the difference of the main one to the first method.

    With `few` images that difference has no interval.
    """
    metrics = [metric for metric in in_group(group) if methods[0]["metrics"][metric.name]]
    last = f"{METRICS[main].heading} less the first's" + ("" if few else " [95 %]")
    rows = [("", GAP.join(f"{metric.heading:>{NUMBER}}" for metric in metrics) + GAP + last)]
    for place, method in enumerate(methods):
        found = [method["metrics"][metric.name] for metric in metrics]
        if all(entry is None for entry in found):
            continue
        difference = _interval(interval_of(method["difference"], main)) if place else ""
        rows.append((one_line(method["name"]), f"{GAP.join(map(_number, found))}{GAP}{difference}"))
    return _lines(rows, width)


def _lines(rows: list[tuple[str, str]], width: int) -> str:
    names = max(len(name) for name, _ in rows)
    if names + len(GAP) + max(len(text.rstrip()) for _, text in rows) <= width:
        return "\n".join(f"{name:{names}}{GAP}{text}".rstrip() for name, text in rows)
    return "\n".join((f"{name}\n{GAP}{text}" if name else f"{GAP}{text}").rstrip() for name, text in rows)


def _number(entry: MeanOf | None) -> str:
    return f"{'-':>{NUMBER}}" if entry is None else f"{entry['mean']:{NUMBER}.3f}"


def _interval(entry: Interval | None) -> str:
    if entry is None:
        return "-"
    if entry["low"] is None:
        return f"{entry['mean']:+.4f}"
    return f"{entry['mean']:+.4f} [{entry['low']:+.4f}, {entry['high']:+.4f}]"
