"""Material beside the project that some tests use and none may need."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared(path: str) -> Path:
    """A file or folder of the shared material; skips the test where it does not lie beside the project."""
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"needs shared/{path}, which does not lie beside the project")
    return found
