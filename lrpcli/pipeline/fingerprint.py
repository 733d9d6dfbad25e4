"""What the results of a run depend on, and how two runs differ."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lrpcli.errors import UsageError
from lrpcli.output.journal import read_description

SHOWN = 6
"""Differences that a message names; the rules of a large net differ in dozens of layers."""


def fingerprint(description: Mapping[str, Any]) -> str:
    """A short name of everything that a description says."""
    text = json.dumps(description, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def require_same_run(output: Path, description: Mapping[str, Any]) -> None:
    """UsageError, saying what differs, if the results in `output` were made with another description."""
    before = read_description(output)
    if before is None:
        return
    now = json.loads(json.dumps(description, default=str))
    # The rules of the layers follow from the rest, and are worth naming only where that is the same.
    differing = list(differences(_without_rules(before), _without_rules(now))) or list(differences(before, now))
    if not differing:
        return
    shown = "; ".join(differing[:SHOWN])
    more = f"; and {len(differing) - SHOWN} more" if len(differing) > SHOWN else ""
    raise UsageError(
        f"The output folder {str(output)!r} holds results that were made otherwise: {shown}{more}. Choose another "
        "output folder, or compute everything anew with --force."
    )


def _without_rules(description: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in description.items() if key != "rules"}


def differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    """Each value that differs: its place in the description, then what it was and is."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *(key for key in before if key not in now)]:
            yield from differences(before.get(key), now.get(key), f"{place}.{key}" if place else key)
    elif before != now:
        yield f"{place} was {_short(before)} and is now {_short(now)}"


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
