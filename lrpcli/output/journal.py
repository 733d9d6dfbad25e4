"""What became of each image: append-only JSON lines in OUTPUT/.lrp/, and the run's own description beside them."""

import base64
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from lrpcli.output.files import output_error, write_whole

FOLDER = ".lrp"


def json_path(path: str) -> str | dict[str, str]:
    """A path for JSON: itself, or {"bytes": base64} where its bytes are not UTF-8."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return {"bytes": base64.b64encode(os.fsencode(path)).decode("ascii")}
    return path


def json_line(row: dict[str, Any]) -> str:
    """A row as one line of JSON without the line's end; paths among the inputs and outputs may be any bytes."""
    return json.dumps(_with_json_paths(row), ensure_ascii=False, separators=(", ", ": "))


def _with_json_paths(row: dict[str, Any]) -> dict[str, Any]:
    result = dict(row)
    if "input" in row:
        result["input"] = json_path(row["input"])
    if "outputs" in row:
        result["outputs"] = {kind: json_path(path) for kind, path in row["outputs"].items()}
    if "explanations" in row:
        result["explanations"] = [_with_json_paths(part) for part in row["explanations"]]
    if "error" in row:
        message = row["error"]["message"].encode("utf-8", "backslashreplace").decode("utf-8")
        result["error"] = {**row["error"], "message": message}
    return result


class Journal:
    """One append-only file of JSON lines; a line is written in one piece, and is the commit of its image.

    Raises OutputError if it cannot be written.
    """

    def __init__(self, output: Path, name: str) -> None:
        self.path = output / FOLDER / name
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise output_error(error, self.path) from error

    def append(self, row: dict[str, Any]) -> None:
        """Writes one line."""
        try:
            self._file.write(json_line(row).encode("utf-8") + b"\n")
        except OSError as error:
            raise output_error(error, self.path) from error

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def write_description(output: Path, description: dict[str, Any]) -> None:
    """Writes OUTPUT/.lrp/run.json, which says what the maps in OUTPUT were made with."""
    text = json.dumps(description, indent=2, ensure_ascii=False, default=str)
    write_whole(output / FOLDER / "run.json", text.encode("utf-8", "backslashreplace") + b"\n")
