"""What became of one image: the fields that every kind of work shares, to and from JSON."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

from lrpcli.errors import ImageError
from lrpcli.records.folder import RunFolder, is_file, leads_inside
from lrpcli.records.identity import FileState, recorded_content
from lrpcli.records.json_values import Fields, json_path, path_from_json
from lrpcli.records.packed import Packed, StoredFile, tar_size
from lrpcli.remote import Remote

FORMAT = 1
"""Of records and journals: raised when older ones can no longer be read as they are."""
OK, SKIPPED, FAILED = "ok", "skipped", "failed"
"""Status of an image: done by this run, found done, failed."""
CLASH = "clash"
"""Kind of failure of an image whose name belongs to the finished result of another."""
PRINTED = ("overlay", "heatmap", "map", "layers", "layer-table")
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
class Outputs:
    """Paths of an image's files by their kind, such as overlay and map; `packed` is where in a tar they lie, if so."""

    paths: Mapping[str, str] = field(default_factory=dict)
    packed: Packed | None = None

    def below(self, folder: str) -> "Outputs":
        """The same files as paths that begin with a folder; in a tar, with the tar's path before the member's name."""
        if self.packed is None:
            return Outputs({kind: os.path.join(folder, path) for kind, path in self.paths.items()})  # noqa: PTH118
        tar = os.path.join(folder, self.packed.tar)  # noqa: PTH118
        paths = {kind: os.path.join(tar, self.packed.member(path)) for kind, path in self.paths.items()}  # noqa: PTH118
        return Outputs(paths, replace(self.packed, tar=tar))

    def stored(self, folder: str | Remote, kind: str) -> StoredFile:
        """The file of a kind in an output folder."""
        path, packed = self.paths[kind], self.packed
        if packed is None:
            return StoredFile(folder, path)
        return StoredFile(folder, path, packed.tar, packed.member(path), *packed.places[kind])

    def exist_in(self, folder: RunFolder) -> bool:
        """Whether all of them are there, and files, or in a tar that reaches so far."""
        if self.packed is not None:
            tar = tar_size(folder, self.packed.tar)
            return tar is not None and self.packed.end <= tar[0]
        return all(is_file(folder, path) for path in self.paths.values())

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
        """What as_json wrote; ValueError for anything else, also for paths that lead out of the output folder."""
        paths = {kind: path_from_json(value) for kind, value in fields.values.items()}
        if not all(map(leads_inside, paths.values())):
            raise ValueError("'outputs' lead out of the output folder")
        return cls(paths)

    @classmethod
    def of_class(cls, fields: Fields) -> "Outputs":
        """The files of an object that describes a class, "outputs" and "pack" in it; ValueError for anything else."""
        files = cls.from_json(fields.inner("outputs"))
        if fields.get("pack") is None:
            return files
        return replace(files, packed=Packed.from_json(fields.inner("pack"), files.paths))


@dataclass(frozen=True, kw_only=True)
class Record:
    """What became of one image, whatever the work was; a failed image is a Record, a finished one a subclass.

    `input` is the path that was opened, `name` what identifies the image in OUTPUT, `seconds` what it took, `file` the
    state of its file when it was read, `content` the hash of the bytes that were decoded, where it is known.
    """

    input: str
    name: str
    status: str = OK
    failure: Failure | None = None
    seconds: float | None = None
    file: FileState | None = None
    content: str | None = None

    SHOWN: ClassVar[tuple[str, ...]] = ("type", "input", "status", "error", "seconds")
    """The fields that --json prints, in this order; the journal has them all."""

    @classmethod
    def failed(cls, path: str, name: str, error: ImageError) -> "Record":
        """The record of an image that failed."""
        return Record(input=path, name=name, status=FAILED, failure=Failure(error.kind, str(error)))

    def as_skipped(self: R, path: str, name: str) -> R:
        """The same as found in an earlier run, for the image that is now at `path` and called `name`."""
        return replace(self, input=path, name=name, status=SKIPPED)

    @property
    def outputs(self) -> tuple[Outputs, ...]:
        """The files of each of its maps."""
        return ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the summary of a run shall say of it, as the end of a sentence; counted over all images."""
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
        if self.content is not None:
            values["content"] = self.content
        return values

    def as_shown(self) -> dict[str, object]:
        """What --json prints of it."""
        values = self.as_json()
        return {key: values[key] for key in self.SHOWN if key in values}

    @classmethod
    def from_json(cls, fields: Fields) -> "Record":
        """What as_json wrote, with the file's state beside it. ValueError for anything else."""
        status, failed = fields.text("status"), fields.get("error") is not None
        if status not in (OK, SKIPPED, FAILED) or failed != (status == FAILED):
            raise ValueError("'status' is not what became of an image")
        return Record(
            input=fields.path("input"),
            name=fields.path("name"),
            status=status,
            failure=Failure.from_json(fields.inner("error")) if failed else None,
            seconds=None if fields.get("seconds") is None else fields.number("seconds"),
            file=FileState.from_json(fields),
            content=recorded_content(fields),
        )
