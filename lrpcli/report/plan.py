"""Which small pictures a report needs, and of which files: overlays first, maps where there are none, and photos."""

import os
from collections.abc import Iterator, Mapping
from functools import partial

from lrpcli.pictures.style import PictureStyle
from lrpcli.records.identity import FileState, read_content
from lrpcli.records.json_values import Fields
from lrpcli.report.drawing import MapLook, picture_style, small_map, small_picture
from lrpcli.report.rows import MISSING, NO_PICTURE, ImageRow, MapRow, ReportedRun
from lrpcli.report.thumbnails import Settled, Wanted, file_time, picture_name

RASTER = (".png", ".webp", ".jpg", ".jpeg")
"""Suffixes of pictures that are shown as they are; of others, such as PDF, the page has links alone."""
PICTURES = ("overlay", "heatmap")


def wanted_pictures(rows: list[ImageRow], runs: list[ReportedRun], side: int) -> Iterator[tuple[Wanted, Settled]]:
    """A small picture for each map and each photo that has a file, and what is to be called once it is made or not.

    Of those that have none, the rows say so at once.
    """
    styles = [picture_style(run) for run in runs]
    for row in rows:
        for one in row.maps:
            wanted = _of_map(row, one, runs[one.run], styles[one.run], side)
            if wanted is not None:
                yield wanted, partial(setattr, one, "picture")
        wanted = _of_photo(row, side) if row.maps else None
        if wanted is not None:
            yield wanted, partial(setattr, row, "photo")


def shown_kind(paths: Mapping[str, str]) -> str | None:
    """The kind of the picture among an image's files that stands for the map; None if no browser shows any of them."""
    return next((kind for kind in PICTURES if paths.get(kind, "").lower().endswith(RASTER)), None)


def linked_files(one: MapRow) -> Mapping[str, str]:
    """The files of a map that the page can lead to: those that are files of their own."""
    return one.outputs.paths if one.outputs.packed is None else {}


def _of_map(row: ImageRow, one: MapRow, run: ReportedRun, style: PictureStyle, side: int) -> Wanted | None:
    name, folder = picture_name(row.name, f"{run.key}{one.place}"), os.fspath(run.folder)
    kinds = [kind for kind in (shown_kind(one.outputs.paths), "map") if kind is not None and kind in one.outputs.paths]
    one.picture = MISSING if kinds else NO_PICTURE
    for kind in kinds:
        source = one.outputs.stored(folder, kind)
        time = file_time(source.container)
        if time is None:
            continue
        if kind == "map":
            look = MapLook(style, _scale(row, one, run))
            return Wanted(name, source.shown, time, small_map, (source, look, side))
        return Wanted(name, source.shown, time, small_picture, (source, side))
    return None


def _scale(row: ImageRow, one: MapRow, run: ReportedRun) -> float:
    """The full colour's relevance per value of the stored map, which has the photo's pixels with --map-space image."""
    if not on_photo(run):
        return one.scale
    left, top, right, bottom = row.box
    area = (right - left) * (bottom - top)
    return one.scale * row.grid[0] * row.grid[1] / area if area > 0 else one.scale


def on_photo(run: ReportedRun) -> bool:
    """Whether the stored maps of a run lie on the pixels of the photo."""
    return output_setting(run, "map_space") == "image"


def output_setting(run: ReportedRun, name: str) -> object:
    """One of the settings of a run's files; None where it is not known."""
    output = None if run.description is None else run.description.settings.get("output")
    return output.get(name) if isinstance(output, dict) else None


def _of_photo(row: ImageRow, side: int) -> Wanted | None:
    """The photo, if the file is still the one that was explained."""
    if row.file is None or not os.path.isabs(row.file.path):  # noqa: PTH117
        return None
    row.photo = MISSING
    time = file_time(row.file.path)
    if time is None:
        return None
    row.changed = not _is_same(row, row.file)
    if row.changed:
        return None
    return Wanted(picture_name(row.name, "p"), row.file.path, time, small_picture, (row.file.path, side))


def _is_same(row: ImageRow, file: FileState) -> bool:
    if FileState.of(file.path) == file:
        return True
    content = None if row.content is None else read_content(file.path)
    return content is not None and content.hash == row.content


def geometry(run: ReportedRun) -> str:
    """What the pictures of a run show: the whole "photo", the model's "grid", the part "seen"; "" where not known.

    With it the page lays a picture over its photo.
    """
    output = {} if run.description is None else run.description.settings.get("output")
    if not isinstance(output, dict):
        return ""
    save = output.get("save")
    if isinstance(save, list) and not any(kind in save for kind in PICTURES):
        return "photo" if on_photo(run) else "grid"
    picture = output.get("picture")
    if not isinstance(picture, dict) or Fields(picture).get("style") not in ("overlay", "heatmap", "contour"):
        return ""
    if output.get("overlay_size") is None:
        return "grid"
    return "seen" if picture.get("outside") == "crop" else "photo"
