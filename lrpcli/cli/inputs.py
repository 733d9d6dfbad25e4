"""Which images a command reads: options, and what they become."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from lrpcli.cli.options import grouped
from lrpcli.errors import UsageError

input_options = grouped(
    click.option("--files-from", metavar="FILE|-", help="Read a list of images, one path a line."),
    click.option("-0", "--null", is_flag=True, help="Paths in that list end with NUL."),
    click.option("--all-files", is_flag=True, help="Try every file in a folder, whatever its suffix."),
    click.option("--follow", is_flag=True, help="Enter folders that are links."),
    click.option("--allow-format", "formats", multiple=True, metavar="FORMAT",
                 help="Decode only these formats.  [default: JPEG, PNG, WEBP, GIF, BMP, TIFF, PPM, AVIF]"),
    click.option("--max-pixels", type=click.IntRange(min=1), metavar="N",
                 help="Refuse larger images.  [default: 89478485]"),
    click.option("--truncated", default="refuse", show_default=True, metavar="refuse|accept",
                 help="What to do with images that are cut off."),
)  # fmt: skip


def find_sources(
    inputs: tuple[str, ...], output: Path, values: dict[str, Any], *, unique_names: bool = True
) -> tuple[list[Any], str]:
    """Every image to read, before any work starts, and what was skipped; only a list of images may be empty.

    `values` are those of input_options; all but the decoding policy are taken out. UsageError if INPUTs hold no image,
    or if two would have one name in OUTPUT; without `unique_names`, an image that is named twice is read once.
    """
    from lrpcli.images.find import Discovery, require_unique_names, sources_from_list
    from lrpcli.images.formats import DEFAULT_FORMATS, DecodePolicy, image_suffixes

    listed, null = values.pop("files_from"), values.pop("null")
    all_files, follow = values.pop("all_files"), values.pop("follow")
    sources: list[Any] = []
    if listed is not None:
        with _opened(listed) as stream:
            sources += sources_from_list(stream, null=null)
    formats = DecodePolicy(formats=values["formats"]).formats if values["formats"] else DEFAULT_FORMATS
    suffixes = image_suffixes(formats)
    found = Discovery(inputs, output=str(output), all_files=all_files, follow=follow, suffixes=suffixes)
    sources += found
    if inputs and not sources:
        raise UsageError(found.empty_reason())
    if unique_names:
        return require_unique_names(sources), found.skipped()
    return list({source.path: source for source in sources}.values()), found.skipped()


def decode_policy(values: dict[str, Any]) -> Any:
    """DecodePolicy from the values of input_options, which are taken out of `values`."""
    from lrpcli.images.formats import DecodePolicy

    policy = {key: values.pop(key) for key in ("formats", "max_pixels", "truncated")}
    return DecodePolicy(**{key: value for key, value in policy.items() if value})


def _opened(listed: str) -> Any:
    if listed == "-":
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    try:
        return Path(listed).open("rb")
    except OSError as error:
        raise UsageError(f"The list {listed!r} cannot be read: {error.strerror}.") from error
