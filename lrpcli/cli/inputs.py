"""Which images a command reads: options, and what they become."""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lrpcli.cli.options import grouped, options_of_settings
from lrpcli.errors import UsageError
from lrpcli.images.formats import DecodePolicy
from lrpcli.setting import setting

if TYPE_CHECKING:
    from lrpcli.images.find import Source


@dataclass(frozen=True)
class InputSettings:
    """Where images are looked for beside the INPUTs, and what counts as one."""

    files_from: str | None = setting(None, help="Read a list of images, one path a line.", metavar="FILE|-")
    null: bool = setting(False, flags=("-0", "--null"), help="Paths in that list end with NUL.")
    all_files: bool = setting(False, help="Try every file in a folder, whatever its suffix.")
    follow: bool = setting(False, help="Enter folders that are links.")


input_options = grouped(options_of_settings(InputSettings), options_of_settings(DecodePolicy))


def find_sources(
    inputs: tuple[str, ...], output: Path, settings: InputSettings, policy: DecodePolicy, *, unique_names: bool = True
) -> "tuple[Sequence[Source], str]":
    """Every image to read, before any work starts, and what was skipped; only a list of images may be empty.

    UsageError if INPUTs hold no image, or if two would have one name in OUTPUT; without `unique_names`, an image that
    is named twice is read once.
    """
    from lrpcli.images.find import STDIN, Discovery, sources_from_list
    from lrpcli.images.formats import image_suffixes
    from lrpcli.images.sources import require_unique_names

    if sys.stdin is None and STDIN in (*inputs, settings.files_from):
        raise UsageError("Standard input is closed, so that '-' cannot be read. Name a file, or send something there.")
    found = Discovery(
        inputs, output=str(output), all_files=settings.all_files, follow=settings.follow,
        suffixes=image_suffixes(policy.formats),
    )  # fmt: skip
    with nullcontext() if settings.files_from is None else _opened(settings.files_from) as stream:
        every = chain(sources_from_list(stream, null=settings.null) if stream else (), found)
        sources: Sequence[Source] = (
            require_unique_names(every) if unique_names else list({source.path: source for source in every}.values())
        )
    if inputs and not sources:
        raise UsageError(found.empty_reason())
    return sources, found.skipped()


def require_folder(output: str) -> Path:
    """The output folder; UsageError if it is a file."""
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"The output {output!r} is a file. Name a folder; it is made if it does not exist.")
    return folder


def _opened(listed: str) -> BinaryIO:
    if listed == "-":
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    try:
        return Path(listed).open("rb")
    except OSError as error:
        raise UsageError(f"The list {listed!r} cannot be read: {error.strerror}.") from error
