"""What became of each image: append-only JSON lines in OUTPUT/.lrp/, and the run's own description beside them."""

import base64
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from lrpcli.errors import OutputError, UsageError
from lrpcli.records.store import translate_os_error, write_whole
from lrpcli.records.text import json_text

FOLDER = ".lrp"
RUN_FILE = "run.json"


def json_path(path: str) -> str | dict[str, str]:
    """A path for JSON: itself, or {"bytes": base64} where its bytes are not UTF-8."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return {"bytes": base64.b64encode(os.fsencode(path)).decode("ascii")}
    return path


def path_from_json(value: str | dict[str, str]) -> str:
    """The path that json_path wrote."""
    return value if isinstance(value, str) else os.fsdecode(base64.b64decode(value["bytes"]))


def row_from_json(row: dict[str, Any]) -> dict[str, Any]:
    """A row that json_line wrote, with its paths as such."""
    paths: dict[str, Any] = {key: path_from_json(row[key]) for key in ("input", "name") if key in row}
    result = {**row, **paths}
    return map_outputs(result, path_from_json)


def map_outputs(row: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    """The row with each of its outputs changed, those of several explanations too."""
    result = dict(row)
    if "outputs" in row:
        result["outputs"] = {kind: change(path) for kind, path in row["outputs"].items()}
    if "explanations" in row:
        result["explanations"] = [map_outputs(part, change) for part in row["explanations"]]
    return result


def json_line(row: dict[str, Any]) -> str:
    """A row as one line of JSON without the line's end; paths among the inputs and outputs may be any bytes."""
    return json_text(json.dumps(_with_json_paths(row), ensure_ascii=False, separators=(", ", ": ")))


def _with_json_paths(row: dict[str, Any]) -> dict[str, Any]:
    paths: dict[str, Any] = {key: json_path(row[key]) for key in ("input", "name") if key in row}
    result = {**row, **paths}
    if "error" in row:
        message = row["error"]["message"].encode("utf-8", "backslashreplace").decode("utf-8")
        result["error"] = {**row["error"], "message": message}
    return map_outputs(result, json_path)


class Journal:
    """One append-only file of JSON lines; a line is written in one piece, and is the commit of its image.

    With `alone`, no other process may have it open so at the same time. Raises OutputError if it cannot be written,
    UsageError if somebody else has it.
    """

    def __init__(self, output: Path, name: str, *, alone: bool = False) -> None:
        self.path = output / FOLDER / name
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b", buffering=0)
            if alone and not locked(self._file.fileno()):
                self._file.close()
                raise UsageError(
                    f"Another run is at work on {os.fspath(output)!r} (it holds {name}). Wait for it, or give each run "
                    "its own --shard i/n."
                )
            self._end_torn_line()
        except OSError as error:
            raise translate_os_error(error, self.path) from error

    def _end_torn_line(self) -> None:
        """A run that was killed, or a full disk, may have left a line without its end."""
        size = self._file.seek(0, os.SEEK_END)
        if size and os.pread(self._file.fileno(), 1, size - 1) != b"\n":
            self._file.write(b"\n")

    def append(self, row: dict[str, Any]) -> None:
        """Writes one line."""
        line = json_line(row).encode("utf-8", "backslashreplace") + b"\n"
        try:
            written = self._file.write(line)
        except OSError as error:
            raise translate_os_error(error, self.path) from error
        if written != len(line):
            raise OutputError(f"The journal {os.fspath(self.path)!r} cannot be written: the disk is full. Free some "
                              "space, then run the same command again.")  # fmt: skip

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def locked(descriptor: int) -> bool:
    """Locks an open file until it is closed; False if another process has done so."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks: nobody can be asked
    return True


def write_description(output: Path, description: dict[str, Any]) -> None:
    """Writes OUTPUT/.lrp/run.json, which says what the maps in OUTPUT were made with."""
    text = json.dumps(description, indent=2, ensure_ascii=False, default=str)
    write_whole(output / FOLDER / RUN_FILE, text.encode("utf-8", "backslashreplace") + b"\n")


def read_description(output: Path) -> dict[str, Any] | None:
    """What write_description wrote, or None. UsageError if it is damaged."""
    path = output / FOLDER / RUN_FILE
    try:
        description = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise translate_os_error(error, path) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{os.fspath(path)!r} is damaged, so that it is not known what the maps beside it were made "
                         "with. Make them anew with --force, or choose another output folder.") from error  # fmt: skip
    if not isinstance(description, dict):
        raise UsageError(f"{os.fspath(path)!r} is no description of a run. Choose another output folder.")
    return description
