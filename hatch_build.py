"""The README as a package index shows it; hatchling runs this file when it builds.

An index shows the README alone, so links to other files of the project have to lead to where those can be read: below
`Source` of [project.urls] in pyproject.toml, at the tag of the version. Without a `Source` they are text, and pictures
are left out: a link that leads nowhere is worse than none.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\((?!\w+:|#)([^)\s]+)\)")
"""A link or picture of the project's own files: mark, text and target."""


class CustomMetadataHook(MetadataHookInterface):
    """Gives the package its readme."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Adds the readme to the metadata of the project."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source", "")
        metadata["readme"] = {"content-type": "text/markdown", "text": for_index(text, source, metadata["version"])}


def for_index(text: str, source: str, version: str) -> str:
    """A page of Markdown whose links lead out of an index: to the files of a version below `source`, or are text."""

    def link(found: re.Match[str]) -> str:
        mark, said, target = found.groups()
        if not source:
            return "" if mark else said
        return f"{mark}[{said}]({source.rstrip('/')}/{'raw' if mark else 'blob'}/v{version}/{target})"

    return LINK.sub(link, text)
