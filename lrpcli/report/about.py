"""What the page says of its runs: settings, model, scale and the key of the colours."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lrpcli.errors import UsageError
from lrpcli.pictures.colours import lookup_table
from lrpcli.pictures.encode import png_bytes
from lrpcli.records.json_values import Fields
from lrpcli.records.text import one_line
from lrpcli.report.rows import ReportedRun

LONGEST = 300
"""Characters of a value that are shown."""
SCALES = {"image": "of each picture its own", "run": "one for all pictures"}


@dataclass(frozen=True)
class About:
    """A run for people: its settings as names and values, the rule of each layer, a bar of its colours or nothing."""

    name: str
    problem: str
    settings: tuple[tuple[str, str], ...]
    rules: str
    colours: str
    scale: str


def about(run: ReportedRun) -> About:
    """What is said of a run."""
    folder = one_line(str(run.folder))
    if run.description is None:
        return About(run.name, run.problem, (("folder", folder),), "", "", "")
    settings = run.description.settings
    rules = settings.get("rules")
    others = {key: value for key, value in run.description.as_json().items() if key != "rules"}
    lines = [f"{layer}  {rule}" for layer, rule in rules.items()] if isinstance(rules, dict) else []
    return About(
        run.name, "", (("folder", folder), *_flat(others)), "\n".join(map(one_line, lines)), _colour_bar(settings),
        _scale(settings),
    )  # fmt: skip


def _flat(values: Mapping[str, object], before: str = "") -> Iterator[tuple[str, str]]:
    """Names and values; those of inner objects carry the outer name."""
    for key, value in values.items():
        name = f"{before}{one_line(key)}"
        if isinstance(value, dict):
            yield from _flat(value, f"{name} ")
        elif value is not None and value != []:
            yield name.replace("_", " "), _text(value)


def _text(value: object) -> str:
    if isinstance(value, list):
        text = ", ".join(part if isinstance(part, str) else json.dumps(part) for part in value)
    else:
        text = value if isinstance(value, str) else json.dumps(value)
    text = one_line(text)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _scale(settings: Mapping[str, object]) -> str:
    """The relevance that gets the full colour, in words."""
    output = settings.get("output")
    scale = output.get("scale") if isinstance(output, dict) else None
    if isinstance(scale, str):
        return SCALES.get(scale, "")
    return f"{scale:g}" if isinstance(scale, (int, float)) else ""


def _colour_bar(settings: Mapping[str, object]) -> str:
    """The colours from against to for, as the address of a picture; empty where they are not known."""
    try:
        table = lookup_table(Fields(settings).inner("output").inner("picture").text("cmap"))
    except (ValueError, UsageError):
        return ""
    bar = png_bytes(Image.fromarray(np.ascontiguousarray(table[None, ::2])))
    return "data:image/png;base64," + base64.b64encode(bar).decode("ascii")
