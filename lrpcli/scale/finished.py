"""Runs of which everything is done already, found without loading a net: what was asked for is what was asked before.

What an engine was asked for is written down beside the description of the run, as a hash of the settings, of the files
that they name and of the installation. Where anything is unclear, the net is loaded and says.
"""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from lrpcli.errors import LrpError, StoppedError
from lrpcli.images.find import Source
from lrpcli.models import is_name, names_code
from lrpcli.pipeline.finished import NetFacts
from lrpcli.records.description import RunDescription, read_description
from lrpcli.records.folder import FOLDER, read_file, shown
from lrpcli.records.identity import SAME, compare
from lrpcli.records.index import Index
from lrpcli.records.journal import OK
from lrpcli.records.json_values import as_fields
from lrpcli.records.record import Record
from lrpcli.records.segments import forget
from lrpcli.records.store import put_whole
from lrpcli.records.tars import Tars
from lrpcli.scale import Assignment
from lrpcli.scale.row_worker import LoadedRun

if TYPE_CHECKING:
    from lrpcli.pipeline.expected_size import KindSize

PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow")
"""What may make another net of the same name and file, or other pixels of the same photo."""
SELF_CONTAINED = (".caffemodel", ".safetensors")
"""Model files that no other file belongs to."""


@dataclass(frozen=True)
class Request:
    """What was asked for once, and is done.

    `key` stands for it, `run` is the fingerprint that it had, `facts` is what was known of the net; `results` are the
    hashes of files that were made of all images together.
    """

    key: str
    run: str
    facts: NetFacts
    results: dict[str, str]

    def write(self, assignment: Assignment) -> None:
        """Writes it down. ImageError or OutputError if that is not possible."""
        content = json.dumps(asdict(self)).encode() + b"\n"
        owner = assignment.files.owner(assignment.shard.name)
        put_whole(assignment.folder, {_name(assignment): content}, owner)

    @classmethod
    def read(cls, assignment: Assignment) -> "Request | None":
        """The one that was written down last; None if there is none that can be read."""
        with suppress(OSError, ValueError, RecursionError):
            fields = as_fields(json.loads(read_file(assignment.folder, _name(assignment), 1 << 16)))
            results = fields.inner("results")
            facts = NetFacts.from_json(fields.inner("facts"))
            return cls(
                fields.text("key"), fields.text("run"), facts, {name: results.text(name) for name in results.values}
            )
        return None


def _name(assignment: Assignment) -> str:
    return f"{FOLDER}/{assignment.files.journals}.request.json"


def note_request(assignment: Assignment, run: LoadedRun, results: Sequence[str]) -> None:
    """Writes down that what is asked for is done; `results` are files that were made of all images together.

    Where that cannot be written the next run loads a net, and finds the same.
    """
    key = request_key(assignment)
    with suppress(LrpError, OSError):
        if key is not None:
            hashes = {name: _hash_of(assignment.disk / name) for name in results}
            Request(key, run.description.fingerprint, run.facts, hashes).write(assignment)


def request_key(assignment: Assignment) -> str | None:
    """What stands for everything that results depend on; None where that cannot be known without loading the net."""
    settings = asdict(assignment.job.arguments[0])
    for unimportant in ("folder", "flow"):
        del settings[unimportant]
    model = settings["model"]
    try:
        files = [*_model_files(model["name"], model["weights"]), *_named_files(settings)]
        if settings.get("check_class") or any(file is None for file in files):
            return None
        contents = {os.fspath(file): _hash_of(file) for file in files if file is not None}
        text = json.dumps([settings, contents, _installation()], sort_keys=True, default=str)
    except (LrpError, OSError, ValueError):
        return None
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def _model_files(name: str, weights: str | None) -> Iterator[Path | None]:
    """The files of a model; None for code, and for formats that may have parts elsewhere."""
    if names_code(name):
        yield None
    elif not is_name(name):
        yield Path(name) if Path(name).suffix in SELF_CONTAINED else None
    elif weights is None:
        from lrpcli.models.zoo import find_entry

        file = find_entry(name).weights
        yield file.path() if file.state() in ("bundled", "cached") else None


def _named_files(value: object) -> Iterator[Path | None]:
    """The files that texts among the settings name; None for a folder, whose files are too many to be looked at."""
    if isinstance(value, str):
        path = Path(value)
        if path.is_file():
            yield path
        elif os.sep in value and path.is_dir():
            yield None
    elif isinstance(value, (dict, list, tuple)):
        inner = value.values() if isinstance(value, dict) else value
        yield from chain.from_iterable(map(_named_files, inner))


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _installation() -> list[object]:
    """The versions of packages, and every file of this one by its size and time: configs and code may be edited."""
    import lrpcli

    package = Path(lrpcli.__file__).parent
    files = chain(package.rglob("*.py"), package.rglob("*.toml"), (package.parent / "configs").glob("*.toml"))
    stamps = sorted((str(file), *_stamp(file)) for file in files)
    return [lrpcli.__version__, [_version(name) for name in PACKAGES], stamps]


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None


@dataclass
class FinishedExecution:
    """A run of which everything is done; see scale.Execution."""

    assignment: Assignment
    records_in: "RecordsIn"
    tars: Tars
    is_finished = True

    def records(
        self,
        stop: threading.Event,
        announce: Callable[[int], None] = lambda count: None,
        held: ExitStack | None = None,
    ) -> Generator[Record, None, None]:
        """See Run.records."""
        with self.assignment.opened_store(self.tars, rows=0):
            for source in self.assignment.share:
                if stop.is_set():
                    return
                record = self.records_in(source)
                if record is None:
                    raise StoppedError(
                        f"The results of {source.path!r} were changed just now. Run the same command again."
                    )
                yield record.as_skipped(source.path, source.name).below(shown(self.assignment.folder))

    def sizes(self) -> "list[KindSize]":
        """See ExplainRun.sizes."""
        return []

    def ask(self, function: str, *arguments: Any) -> Any:
        """See scale.Execution; there is nobody to be asked."""
        raise RuntimeError(f"{function} needs a net, and none is loaded")

    def note_done(self, results: Sequence[str] = ()) -> None:
        """See scale.Execution."""


RecordsIn = Callable[[Source], Record | None]
"""The record of an image that is whole and lies where it lay, unchanged, with all its files; else None."""


def find_finished(assignment: Assignment, held: ExitStack) -> FinishedExecution | None:
    """The execution of a run of which everything is done, None where a net has to be loaded; `held` closes it."""
    forget(assignment.folder)
    request = Request.read(assignment)
    if assignment.flow.force or request is None or request.key != request_key(assignment):
        return None
    with suppress(LrpError, OSError):
        description = read_description(assignment.folder, assignment.files)
        if description is None or description.fingerprint != request.run:
            return None
        if any(_hash_of(assignment.disk / name) != known for name, known in request.results.items()):
            return None
        tars = Tars(assignment.folder)
        index = held.enter_context(closing(Index(assignment.folder, assignment.files, request.run, seen=tars.see)))
        records_in = _records_in(assignment, request, description, index)
        if all(records_in(source) is not None for source in assignment.share):
            return FinishedExecution(assignment, records_in, tars)
    return None


def _records_in(assignment: Assignment, request: Request, description: RunDescription, index: Index) -> RecordsIn:
    settings, read = assignment.job.arguments[0], resolve_name(assignment.read_finished)

    def record_of(source: Source) -> Record | None:
        known = index.of(source.name)
        with suppress(ValueError):
            if known is not None and known.code == OK and compare(known.line.fields, source.path) == SAME:
                record: Record | None = read(known.line.fields, settings, description, request.facts)
                if record is not None and record.name == source.name:
                    return record if all(outputs.exist_in(assignment.folder) for outputs in record.outputs) else None
        return None

    return record_of
