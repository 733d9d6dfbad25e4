"""The mean curves as a picture."""

import io
from typing import Any

import numpy as np

from lrpcli.evaluation.summary import FEWEST, MeanCurve, MethodResult, Results
from lrpcli.records.text import one_line

TITLES = {"morf": "most relevant first (lower is better)", "lerf": "least relevant first (higher is better)"}
WIDE = 1.96
"""Half width of a band in standard errors: 95 %."""
LONGEST = 60
"""Characters of a name in a picture."""
DASHES = ("-", "--", ":", "-.")


def curves_picture(results: Results) -> bytes:
    """A PNG with a panel per order, from the content of results.json; bands are 95 % of the mean.

    Of fewer than FEWEST images there are no bands. A config has one colour, an LRN rule one kind of line; the controls
    are grey.
    """
    from matplotlib.figure import Figure

    methods = results["methods"]
    orders = [order for order in TITLES if any(order in method["curves"] for method in methods)]
    figure = Figure(figsize=(5.2 * len(orders) + 3.2, 4.8), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(orders), sharey=True, squeeze=False)[0]
    for panel, order in zip(panels, orders, strict=True):
        for method, style in zip(methods, styles_of(methods), strict=True):
            curve = method["curves"].get(order) or method["curves"]["random"]
            _draw(panel, curve, plain(method["name"]), style, band=results["images"] >= FEWEST)
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


def _draw(panel: Any, curve: MeanCurve, label: str, style: dict[str, Any], *, band: bool) -> None:
    mean, error = np.array(curve["mean"]), np.array(curve["standard_error"])
    steps = np.arange(len(mean))
    panel.plot(steps, mean, label=label, linewidth=1.4, **style)
    if band:
        low, high = mean - WIDE * error, mean + WIDE * error
        panel.fill_between(steps, low, high, color=style["color"], alpha=0.12, linewidth=0)


def styles_of(methods: list[MethodResult]) -> list[dict[str, Any]]:
    """Colour and kind of line of each method: a config has one colour, an LRN rule one kind; the controls are grey."""
    from matplotlib import colormaps

    configs = list(dict.fromkeys(method["config"] for method in methods if not method["control"]))
    rules = list(dict.fromkeys(method["lrn"] for method in methods if not method["control"]))
    colours = colormaps["tab10" if len(configs) < 10 else "tab20"].colors  # type: ignore[attr-defined]
    palette = [colour for colour in colours if len(set(colour)) > 1]  # grey is for the controls
    greys = iter(("black", "dimgrey", "darkgrey", "silver"))
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
    r"""Text that matplotlib shows as it is, in one line and shortened: no formulas, nothing that is no Unicode.

    >>> from lrpcli.evaluation.plots import plain
    >>> print(plain("US$"), plain("two\nlines"))
    US\$ two\nlines
    """
    line = one_line(text)
    if len(line) > LONGEST:
        line = line[: LONGEST - 3] + "..."
    return (" " if line.startswith("_") else "") + line.replace("$", r"\$")  # legends leave out names with "_"


def png(figure: Any) -> bytes:
    """A figure as the content of a PNG file."""
    import warnings

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the font lacks
        figure.savefig(buffer, format="png")
    return buffer.getvalue()
