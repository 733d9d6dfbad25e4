"""What the results of a run depend on."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrpcli.errors import UsageError
from lrpcli.records.differences import describe_differences
from lrpcli.records.journal import read_description


def fingerprint(description: Mapping[str, Any]) -> str:
    """A short name of everything that a description says."""
    text = json.dumps(description, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def require_same_run(output: Path, description: Mapping[str, Any]) -> None:
    """UsageError, saying what differs, if the results in `output` were made with another description."""
    before = read_description(output)
    if before is None:
        return
    told = describe_differences(before, json.loads(json.dumps(description, default=str)))
    if not told:
        return
    raise UsageError(
        f"The output folder {str(output)!r} holds results that were made otherwise: {told}. Choose another "
        "output folder, or compute everything anew with --force."
    )
