"""The mean curves as a picture."""

import io
from typing import Any

import numpy as np

from lrpcli.evaluation.summary import MeanCurve, MethodResult, Results

TITLES = {"morf": "most relevant first (lower is better)", "lerf": "least relevant first (higher is better)"}
WIDE = 1.96
"""Half width of a band in standard errors: 95 %."""
DASHES = ("-", "--", ":", "-.")


def curves_picture(results: Results) -> bytes:
    """A PNG with a panel per order, from the content of results.json; bands are 95 % of the mean.

    A config has one colour, an LRN rule one kind of line; the controls are grey.
    """
    from matplotlib.figure import Figure

    methods = results["methods"]
    orders = [order for order in TITLES if any(order in method["curves"] for method in methods)]
    figure = Figure(figsize=(5.2 * len(orders) + 3.2, 4.8), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(orders), sharey=True, squeeze=False)[0]
    for panel, order in zip(panels, orders, strict=True):
        for method, style in zip(methods, _styles(methods), strict=True):
            curve = method["curves"].get(order) or method["curves"]["random"]
            _draw(panel, curve, plain(method["name"]), style)
        panel.set_title(TITLES[order], fontsize=10)
        panel.set_xlabel("regions replaced")
        panel.grid(alpha=0.3)
    score = results["settings"]["score"]
    if score == "softmax":
        panels[0].set_ylim(-0.02, 1.02)  # a band may go further, a score may not
    panels[0].set_ylabel(f"{score} score of the predicted class, mean of {results['images']} images")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", fontsize=8, frameon=False)
    return png(figure)


def _draw(panel: Any, curve: MeanCurve, label: str, style: dict[str, Any]) -> None:
    mean, error = np.array(curve["mean"]), np.array(curve["standard_error"])
    steps = np.arange(len(mean))
    panel.plot(steps, mean, label=label, linewidth=1.4, **style)
    panel.fill_between(steps, mean - WIDE * error, mean + WIDE * error, color=style["color"], alpha=0.12, linewidth=0)


def _styles(methods: list[MethodResult]) -> list[dict[str, Any]]:
    from matplotlib import colormaps

    configs = list(dict.fromkeys(method["config"] for method in methods if not method["control"]))
    rules = list(dict.fromkeys(method["lrn"] for method in methods if not method["control"]))
    colours = colormaps["tab10" if len(configs) < 10 else "tab20"].colors  # type: ignore[attr-defined]
    palette = [colour for colour in colours if len(set(colour)) > 1]  # grey is for the controls
    greys = iter(("black", "dimgrey", "darkgrey"))
    return [
        {"color": next(greys), "linestyle": ":"}
        if method["control"]
        else {
            "color": palette[configs.index(method["config"]) % len(palette)],
            "linestyle": DASHES[rules.index(method["lrn"]) % len(DASHES)],
        }
        for method in methods
    ]


def plain(text: str) -> str:
    """Text that matplotlib shows as it is: no formulas, nothing that is no Unicode."""
    return text.encode("utf-8", "backslashreplace").decode().replace("$", r"\$")


def png(figure: Any) -> bytes:
    """A figure as the content of a PNG file."""
    import warnings

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font lacks
        figure.savefig(buffer, format="png")
    return buffer.getvalue()
