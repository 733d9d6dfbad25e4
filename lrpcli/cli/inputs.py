"""Which images a command reads: options, and what they become."""

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from io import BufferedReader
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from lrpcli.cli.options import grouped, options_of_settings
from lrpcli.cli.terminal import note
from lrpcli.errors import OutputError, UsageError
from lrpcli.images.formats import DecodePolicy
from lrpcli.paths import STDIN, local_path
from lrpcli.records.text import one_line
from lrpcli.setting import setting

if TYPE_CHECKING:
    from lrpcli.images.find import Source
    from lrpcli.records.folder import RunFolder


@dataclass(frozen=True)
class InputSettings:
    """Where images are looked for beside the INPUTs, and what counts as one."""

    files_from: str | None = setting(None, help="Read a list of images, one path a line.", metavar="FILE|-")
    null: bool = setting(False, flags=("-0", "--null"), help="Paths in that list end with NUL.")
    all_files: bool = setting(False, help="Try every file in a folder, whatever its suffix.")
    follow: bool = setting(False, help="Enter folders that are links.")
    base: str | None = setting(
        None, help="Name results after the path below this folder, loose files too.", metavar="DIR", urls=True
    )


input_options = grouped(options_of_settings(InputSettings), options_of_settings(DecodePolicy))


def find_sources(
    inputs: tuple[str, ...],
    output: "RunFolder",
    settings: InputSettings,
    policy: DecodePolicy,
    *,
    unique_names: bool = True,
    urls: bool = False,
) -> "tuple[Sequence[Source], str]":
    """Every image to read, before any work starts, and what was skipped; only a list of images may be empty.

    With `urls` a list may name some. UsageError if INPUTs hold no image, if two would have one name in OUTPUT, or if a
    stream is named twice; without `unique_names`, an image that is named twice is read once.
    """
    from lrpcli.images.find import Discovery
    from lrpcli.images.formats import image_suffixes
    from lrpcli.images.lists import sources_from_list
    from lrpcli.images.sources import named_below, require_unique_names
    from lrpcli.records.folder import shown

    _check_streams([*inputs, *([settings.files_from] if settings.files_from else [])])
    found = Discovery(
        inputs, output=shown(output), all_files=settings.all_files, follow=settings.follow,
        suffixes=image_suffixes(policy.formats),
    )  # fmt: skip
    with nullcontext() if settings.files_from is None else _opened(settings.files_from) as stream:
        every: Iterable[Source] = chain(
            sources_from_list(stream, null=settings.null, urls=urls) if stream else (), found
        )
        if settings.base is not None:
            every = named_below(every, settings.base)
        sources: Sequence[Source] = (
            require_unique_names(every) if unique_names else list({source.path: source for source in every}.values())
        )
    if inputs and not sources:
        raise UsageError(found.empty_reason())
    if sources and policy.truncated == "refuse":
        _tell_if_unchecked()
    return sources, found.skipped()


def require_place(output: str) -> "RunFolder":
    """The output folder, or what lies below a URL. UsageError or ModelError for one that cannot be used here."""
    from lrpcli.records.folder import run_folder

    return require_folder(output) if local_path(output) is not None else run_folder(output)


def require_folder(output: str) -> Path:
    """The output folder, which need not be there. OutputError if it is a file or cannot be made."""
    folder = Path(output)
    place = next(place for place in (folder, *folder.parents) if os.path.lexists(place))
    if place.is_dir():
        try:
            folder.stat()
        except FileNotFoundError:
            pass  # it is made with its first file
        except OSError as error:
            raise _no_output(output, error.strerror or str(error)) from error
        return folder
    if not place.exists():
        raise _no_output(output, f"{str(place)!r} is a link to nothing")
    raise _no_output(output, f"{str(place)!r} is not a folder")


def _no_output(output: str, reason: str) -> OutputError:
    return OutputError(f"The output folder {output!r} cannot be made: {reason}. Name another.")


def _check_streams(paths: Sequence[str]) -> None:
    """UsageError if a stream is closed, or named more than once."""
    from lrpcli.images.streams import is_open, stream_of

    streams = [stream for path in paths if (stream := stream_of(path))]
    for stream in streams:
        what = "Standard input" if stream == STDIN else f"The stream {stream!r}"
        if not is_open(stream):
            raise UsageError(f"{what} is closed, so nothing can be read from it. Name a file, or pipe one in.")
        if streams.count(stream) > 1:
            raise UsageError(f"{what} is named twice, but can be read only once.")


def _tell_if_unchecked() -> None:
    """One line on standard error where JPEGs cannot be checked for damage."""
    from lrpcli.images.jpeg import why_unchecked

    reason = why_unchecked()
    if reason is not None:
        note(one_line(f"Warning: JPEGs that are damaged inside are not recognised here: {reason}."))


def _opened(listed: str) -> BufferedReader:
    from lrpcli.images.streams import stream_of

    if stream_of(listed) == STDIN:
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    try:
        return Path(listed).open("rb")
    except OSError as error:
        raise UsageError(f"The list {listed!r} cannot be read: {error.strerror}.") from error
