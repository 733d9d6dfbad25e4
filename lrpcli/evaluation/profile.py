"""All measures of all methods side by side, as a picture: what one looks at to choose."""

from typing import Any

from lrpcli.evaluation.limits import LARGEST_COSINE
from lrpcli.evaluation.metrics import METRICS, Metric
from lrpcli.evaluation.plots import plain, png, styles_of
from lrpcli.evaluation.summary import FEWEST, MethodResult, Results

COLUMNS = 4
LIMITS = {
    "class_second": (LARGEST_COSINE, f"guard: below {LARGEST_COSINE}"),
    "class_random": (LARGEST_COSINE, f"guard: below {LARGEST_COSINE}"),
    "focus": (0.5, "chance: 0.5; higher is better →"), "kept": (1.0, "guard; at 1 nothing is lost"),
    "wrong_sign": (0.0, "guard: 0"), "entropy": (0.0, "guard: above 0"), "last_layer": (1.0, "guard: below 1"),
}  # fmt: skip
"""What a metric is compared to, as a line, and what that is."""
ARROWS = {"higher": "higher is better →", "lower": "← lower is better", "": "0: even, 1: a single pixel"}
TITLES = {
    "auc": "AUC", "aopc": "AOPC", "lerf_auc": "LeRF AUC", "abpc": "ABPC (SRG)", "pointing": "pointing game",
    "share": "relevance inside boxes", "mass": "relevance in masks", "rank": "top pixels in masks",
    "focus": "focus (mosaics)", "class_second": "cosine with the second class",
    "class_random": "cosine with a random class", "kept": "kept share, 10 to 90 %",
    "wrong_sign": "totals of the wrong sign", "entropy": "entropy gained, all reset",
    "last_layer": "rank correlation, last layer reset", "gini": "Gini index",
}  # fmt: skip
"""Metrics that have a panel, in the order of the panels."""
HALF = 1.96
SAME, WIDE = 1e-6, 0.05
"""Values this close are one, and what a panel then shows on either side of it."""


def profile_picture(results: Results) -> bytes:
    """A PNG with a small panel for each metric, from the content of results.json; a line in it for each method.

    Points are means with 95 % intervals of the mean, none for fewer than FEWEST images; the kept share has its median
    with 10 and 90 % quantiles. Dashed lines are the limit of a guard, or chance.
    """
    from matplotlib.figure import Figure

    methods = results["methods"]
    metrics = [METRICS[name] for name in TITLES if any(method["metrics"].get(name) for method in methods)]
    rows, columns = -(-len(metrics) // COLUMNS), min(COLUMNS, len(metrics))
    height = 0.9 + 0.24 * len(methods)
    figure = Figure(figsize=(2.9 * columns + 1.8, rows * height + 0.5), dpi=120, layout="constrained")
    panels = list(figure.subplots(rows, columns, sharey=True, squeeze=False).flat)
    for panel, metric in zip(panels, metrics, strict=False):
        _draw(panel, metric, methods, interval=results["images"] >= FEWEST)
    for panel in panels[len(metrics) :]:
        panel.set_axis_off()
    figure.suptitle(f"{results['images']} image{'' if results['images'] == 1 else 's'}", fontsize=10)
    return png(figure)


def _draw(panel: Any, metric: Metric, methods: list[MethodResult], *, interval: bool) -> None:
    for place, (method, style) in enumerate(zip(methods, styles_of(methods), strict=True)):
        found = _point(metric, method, interval=interval)
        if found is not None:
            middle, low, high = found
            panel.plot([low, high], [place, place], color=style["color"], linewidth=1.6, alpha=0.7)
            panel.plot([middle], [place], "D" if method["control"] else "o", color=style["color"], markersize=5)
    limit, meaning = LIMITS.get(metric.name, (None, ARROWS[metric.better]))
    if limit is not None:
        panel.axvline(limit, color="grey", linestyle="--", linewidth=0.9, zorder=0)
    panel.set_title(TITLES[metric.name], fontsize=9)
    panel.set_xlabel(meaning, fontsize=7.5)
    panel.set_yticks(range(len(methods)), [plain(method["name"]) for method in methods], fontsize=8)
    panel.set_ylim(len(methods) - 0.4, -0.6)  # the first method on top
    panel.tick_params(axis="x", labelsize=7.5)
    panel.locator_params(axis="x", nbins=5)
    panel.margins(x=0.12)
    left, right = panel.get_xlim()
    if right - left < SAME:
        panel.set_xlim((left + right) / 2 - WIDE, (left + right) / 2 + WIDE)
    panel.grid(axis="x", alpha=0.3)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _point(metric: Metric, method: MethodResult, *, interval: bool) -> tuple[float, float, float] | None:
    """The middle and the ends of a method's line."""
    spread = method["quantiles"].get(metric.name)
    if spread is not None:
        return spread["median"], spread["low"], spread["high"]
    entry = method["metrics"][metric.name]
    if entry is None:
        return None
    half = HALF * entry["standard_error"] if interval else 0.0
    return entry["mean"], entry["mean"] - half, entry["mean"] + half
