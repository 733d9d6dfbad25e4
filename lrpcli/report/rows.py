"""What the page shows of each image: records, cut down to a few hundred bytes, as there may be 100,000."""

from dataclasses import dataclass, field
from pathlib import Path
from sys import intern

from lrpcli.records.description import RunDescription
from lrpcli.records.explained import Explained, ExplainedClass
from lrpcli.records.identity import FileState
from lrpcli.records.record import Outputs, Record
from lrpcli.records.text import one_line

OK, OUTDATED, FAILED, UNFINISHED, UNREADABLE = "ok", "other settings", "failed", "unfinished", "unreadable"
STATUSES = (OK, OUTDATED, FAILED, UNFINISHED, UNREADABLE)
"""Of an image: finished; finished by a run with other settings; failed; begun, and not ended; its record is damaged or
of a format that this version does not read."""
FAILURES = (FAILED, UNFINISHED, UNREADABLE)
MISSING, NO_PICTURE, SMALL, BROKEN = range(4)
"""Of the small picture of a map or photo: the file is not there; none was saved; it is made; it cannot be decoded."""
PLAIN = ("The file is missing.", "No picture was saved.", "", "The file cannot be read.")
"""What the page says in its place."""


@dataclass(slots=True)
class MapRow:
    """One map of one image: its run by number, its place among the image's maps in that run, and what it shows."""

    run: int
    place: int
    target: int
    label: str
    score: float
    kept: float | None
    total: float
    start: float
    least: float
    most: float
    scale: float
    exploded: bool
    outputs: Outputs
    picture: int = NO_PICTURE

    @classmethod
    def of(cls, one: ExplainedClass, run: int, place: int) -> "MapRow":
        """The row of a class in a record."""
        relevance = one.relevance
        return cls(
            run, place, one.target, intern(one_line(one.label)), one.score, relevance.kept, relevance.total,
            relevance.start, relevance.min, relevance.max, one.scale, relevance.exploded, one.outputs,
        )  # fmt: skip


@dataclass(slots=True)
class ImageRow:
    """One image: its name in the output folder, what became of it, its file, its best classes and its maps.

    `kind` and `message` are of a failure. `box` is where the model's grid lies on the photo of `size` (H, W), in pixels
    of the photo, and `grid` the grid's (h, w). `photo` says what is there of the photo.
    """

    name: str
    status: str
    run: int
    kind: str = ""
    message: str = ""
    file: FileState | None = None
    content: str | None = None
    seconds: float | None = None
    size: tuple[int, int] = (0, 0)
    box: tuple[float, ...] = ()
    grid: tuple[int, int] = (0, 0)
    top: tuple[tuple[int, str, float], ...] = ()
    note: str = ""
    maps: list[MapRow] = field(default_factory=list)
    photo: int = NO_PICTURE
    changed: bool = False
    true: str = ""
    """The class after which its folder is named, where it is."""

    @classmethod
    def of_failed(cls, record: Record, run: int) -> "ImageRow":
        """The row of an image that failed."""
        failure = record.failure
        kind, message = (intern(one_line(failure.kind)), one_line(failure.message)) if failure else ("unknown", "")
        return cls(record.name, FAILED, run, kind, message, record.file, seconds=record.seconds)

    @classmethod
    def of_finished(cls, record: Explained, run: int, status: str) -> "ImageRow":
        """The row of a finished image."""
        values = record.placement
        return cls(
            record.name, status, run, file=record.file, content=record.content, seconds=record.seconds,
            size=(int(values["image_size"][0]), int(values["image_size"][1])),
            box=tuple(float(edge) for edge in values["box"]),
            grid=(int(values["size"][0]), int(values["size"][1])),
            top=tuple((one.target, intern(one_line(one.label)), one.score) for one in record.top),
            note=one_line(record.note),
            maps=[MapRow.of(one, run, place) for place, one in enumerate(record.classes)],
        )  # fmt: skip


@dataclass
class ReportedRun:
    """One output folder in a report; `name` is how the page calls it.

    `description` is None where it cannot be read, and `problem` says why.
    """

    folder: Path
    name: str
    description: RunDescription | None
    problem: str = ""
    key: str = ""
    """Stands for the folder in the names of small pictures."""
