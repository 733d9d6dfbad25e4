"""A composite as the text of a TOML file, which load_composite reads back."""

import json
from collections.abc import Iterable

from lrpcli.lrp.composites.composite import Composite
from lrpcli.lrp.composites.entries import TABLES, Entry
from lrpcli.lrp.operation import Setting
from lrpcli.records.text import one_line


def toml_text(composite: Composite, comments: Iterable[str] = ()) -> str:
    """The text: comments, what holds for the whole config, and its tables.

    >>> import lrpcli
    >>> from lrpcli.tuning.toml_text import toml_text
    >>> print(toml_text(lrpcli.load_composite({"kind": {"convolution": "z-plus"}}), ["Mine."]), end="")
    # Mine.
    <BLANKLINE>
    bias = "absorb"
    target = "top"
    start = "logit"
    <BLANKLINE>
    [kind]
    "convolution" = { rule = "z-plus" }
    """
    lines = [f"# {one_line(comment)}".rstrip() for comment in comments]
    lines += [""] if lines else []
    words = {"description": composite.description, "source": composite.source}
    lines += [f"{key} = {_value(one_line(text))}" for key, text in words.items() if text]
    lines += [f"bias = {_value(composite.bias)}"]
    lines += [f"target = {_value(composite.target)}", f"start = {_value(composite.start)}"]
    for table in TABLES:
        entries = [entry for entry in composite.entries if entry.table == table]
        if entries:
            lines += ["", f"[{table}]", *map(_line, entries)]
    return "\n".join(lines) + "\n"


def _line(entry: Entry) -> str:
    content = {"rule": entry.rule, **dict(entry.parameters)}
    return f"{_value(entry.key)} = {{ {', '.join(f'{key} = {_value(value)}' for key, value in content.items())} }}"


def _value(value: Setting) -> str:
    """A text or number; JSON's texts are TOML's, where no control character is in them."""
    return json.dumps(value, ensure_ascii=False)
