"""What became of one image: the fields that every kind of work shares, to and from JSON."""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from lrpcli.errors import ImageError
from lrpcli.records.json_values import Fields, json_path, path_from_json

FORMAT = 1
"""Of records and journals: raised when older ones can no longer be read as they are."""
OK, SKIPPED, FAILED = "ok", "skipped", "failed"
"""Status of an image: done by this run, found done, failed."""
STANDARD_INPUT = "-"
"""What the path of an image says that came from there; a file of that name has the path "./-"."""
PRINTED = ("overlay", "heatmap", "map", "layers")
"""Kinds of files by which one stands for the image on standard output, whatever the order they were asked for in."""
R = TypeVar("R", bound="Record")


@dataclass(frozen=True)
class Failure:
    """Why an image failed; `kind` as in errors.ImageError."""

    kind: str
    message: str

    def as_json(self) -> dict[str, object]:
        """An object; bytes of the message that are not text become escapes."""
        return {"kind": self.kind, "message": self.message.encode("utf-8", "backslashreplace").decode("utf-8")}

    @classmethod
    def from_json(cls, fields: Fields) -> "Failure":
        """What as_json wrote; ValueError for anything else."""
        return cls(fields.text("kind"), fields.text("message"))


@dataclass(frozen=True)
class FileState:
    """Size in bytes and time of change in nanoseconds, by which a later run knows whether a file is the same."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: str) -> "FileState | None":
        """The state of a file; None where there is none, as for pipes and standard input ("-")."""
        if path == STANDARD_INPUT:
            return None
        try:
            state = os.stat(path)  # noqa: PTH116 - a Path costs more, and there may be millions
        except (OSError, ValueError):
            return None
        return cls(state.st_size, state.st_mtime_ns) if stat.S_ISREG(state.st_mode) else None

    @classmethod
    def from_json(cls, fields: Fields) -> "FileState | None":
        """The state in a journal's line; None where it holds none."""
        return cls(fields.whole("size"), fields.whole("mtime_ns")) if fields.get("size") is not None else None

    def as_json(self) -> dict[str, object]:
        """Two whole numbers."""
        return {"size": self.size, "mtime_ns": self.mtime_ns}


@dataclass(frozen=True)
class Outputs:
    """Paths of an image's files by their kind, such as overlay and map."""

    paths: Mapping[str, str] = field(default_factory=dict)

    def below(self, folder: str) -> "Outputs":
        """The same files as paths that begin with a folder."""
        return Outputs({kind: os.path.join(folder, path) for kind, path in self.paths.items()})  # noqa: PTH118

    def exist_in(self, folder: Path) -> bool:
        """Whether all of them are there."""
        return all((folder / path).exists() for path in self.paths.values())

    @property
    def first(self) -> str | None:
        """The file that stands for the image on standard output, in the order of PRINTED; None if there is none."""
        kinds = sorted(self.paths, key=lambda kind: PRINTED.index(kind) if kind in PRINTED else len(PRINTED))
        return self.paths[kinds[0]] if kinds else None

    def as_json(self) -> dict[str, object]:
        """Kind -> path."""
        return {kind: json_path(path) for kind, path in self.paths.items()}

    @classmethod
    def from_json(cls, fields: Fields) -> "Outputs":
        """What as_json wrote; ValueError for anything else."""
        return cls({kind: path_from_json(value) for kind, value in fields.values.items()})


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of one image, whatever the work was; a failed image is a Record, a finished one a subclass.

    `input` is the path that was opened, `name` what identifies the image in OUTPUT, `seconds` what it took, `file` the
    state of its file when it was read.
    """

    input: str
    name: str
    status: str = OK
    failure: Failure | None = None
    seconds: float | None = None
    file: FileState | None = None

    SHOWN: ClassVar[tuple[str, ...]] = ("type", "input", "status", "error", "seconds")
    """The fields that --json prints, in this order; the journal has them all."""

    @classmethod
    def failed(cls, path: str, name: str, error: ImageError) -> "Record":
        """The record of an image that failed."""
        return Record(input=path, name=name, status=FAILED, failure=Failure(error.kind, str(error)))

    def as_skipped(self: R, path: str) -> R:
        """The same as found in an earlier run, for the image that is now at `path`."""
        return replace(self, input=path, status=SKIPPED)

    @property
    def outputs(self) -> tuple[Outputs, ...]:
        """The files of each of its maps."""
        return ()

    @classmethod
    def outputs_of(cls, fields: Fields) -> "Iterable[Outputs]":  # noqa: ARG003 - subclasses read them
        """The files that a journal's line names, without reading the rest. ValueError for anything else."""
        return ()

    def below(self: R, folder: str) -> R:
        """The same with its files as paths that begin with a folder."""
        return self

    def as_json(self) -> dict[str, object]:
        """Every field that a later run or a reader needs, apart from the file's state."""
        values: dict[str, object] = {
            "type": "image", "input": json_path(self.input), "name": json_path(self.name), "status": self.status,
        }  # fmt: skip
        if self.failure is not None:
            values["error"] = self.failure.as_json()
        if self.seconds is not None:
            values["seconds"] = self.seconds
        return values

    def as_shown(self) -> dict[str, object]:
        """What --json prints of it."""
        values = self.as_json()
        return {key: values[key] for key in self.SHOWN if key in values}

    @classmethod
    def from_json(cls, fields: Fields) -> "Record":
        """What as_json wrote, with the file's state beside it. ValueError for anything else."""
        failure, seconds = fields.get("error"), fields.get("seconds")
        return Record(
            input=fields.path("input"),
            name=fields.path("name"),
            status=fields.text("status"),
            failure=None if failure is None else Failure.from_json(fields.inner("error")),
            seconds=None if seconds is None else fields.number("seconds"),
            file=FileState.from_json(fields),
        )
