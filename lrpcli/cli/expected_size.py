"""What is said before a run whose results take much room: how much, and whether the disk has it."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrpcli.cli.quantities import size
from lrpcli.records.text import one_line

if TYPE_CHECKING:
    from lrpcli.pipeline.expected_size import KindSize
    from lrpcli.records.folder import RunFolder

LARGE = 10_000
"""What more images than these take is said before they are begun."""


def expected_size(
    images: int, sizes: "Sequence[KindSize]", folder: "RunFolder", smaller: str = "--save, --dtype and --overlay-size"
) -> str:
    """What so many images will take in a folder, in all and by kind of file; a second line where it will not fit.

    `smaller` names the options by which they would take less.
    """
    from lrpcli.records.folder import shown

    whole = images * sum(kind.bytes for kind in sizes)
    about = "about " if any(kind.estimated_by for kind in sizes) else ""
    parts = ", ".join(_part(kind, images) for kind in sizes) or "no files"
    count = f"{images:,} image{'' if images == 1 else 's'}"
    said = f"The results of {count} will take {about}{size(whole)} in {one_line(shown(folder))}: {parts}."
    free = free_space(folder)
    if free is None or whole <= free:
        return said
    return (
        f"{said}\nWarning: {size(free)} are free there, so that the run will stop on a full disk. Free some space, "
        f"choose another output folder, or see {smaller}."
    )


def _part(kind: "KindSize", images: int) -> str:
    how = f" {kind.estimated_by}" if kind.estimated_by else ""
    return f"{kind.kind} {size(images * kind.bytes)}{how}"


def free_space(folder: "RunFolder") -> int | None:
    """Bytes that can be written into a folder, which need not be there yet; None if nobody knows."""
    if not isinstance(folder, Path):
        return None
    place = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    try:
        return shutil.disk_usage(os.fspath(place)).free
    except OSError:
        return None
