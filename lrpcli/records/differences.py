"""How the descriptions of two runs differ, for the message that refuses to mix their results."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

SHOWN = 6
"""Differences that a message names; the rules of a large net differ in dozens of layers."""


def describe_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, with what it was and is; empty if nothing does.

    The `rules` of the layers follow from the rest, and are named only where that is the same.
    """
    told = list(_differences(_without_rules(before), _without_rules(now))) or list(_differences(before, now))
    more = f"; and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return "; ".join(told[:SHOWN]) + more


def _without_rules(description: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in description.items() if key != "rules"}


def _differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """Each value that differs: its place in the description, then what it was and is."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *(key for key in before if key not in now)]:
            yield from _differences(before.get(key), now.get(key), f"{place}.{key}" if place else key)
    elif before != now:
        yield f"{place} was {_short(before)} and is now {_short(now)}"


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
