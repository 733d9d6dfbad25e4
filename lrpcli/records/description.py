"""What the results of a run depend on, written down in OUTPUT/.lrp/ so that no later run mixes its own with them."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lrpcli.errors import ImageError, OutputError, UsageError
from lrpcli.records.folder import FOLDER, names_in, open_regular
from lrpcli.records.json_values import Fields, as_fields
from lrpcli.records.record import FORMAT
from lrpcli.records.store import write_whole

RESULTS = 1
"""Raised when the same settings give other numbers than before."""
LEVELS = 40
"""So deep may a description be nested; what lrp writes has five levels."""
SHOWN = 6
"""Differences that a message names; the rules of a large net differ in dozens of layers."""


@dataclass(frozen=True)
class RunFiles:
    """Names in OUTPUT/.lrp/: the description's, what the names of the journals begin with.

    `owners` begins the names under which shards own temporary files; `at_top`: whether a run writes files into OUTPUT
    itself that belong to no image; `named`: whether files are named after images, so that a result belongs to a name.
    """

    description: str
    journals: str
    owners: str = ""
    at_top: bool = False
    named: bool = True

    def journal(self, shard: str) -> str:
        """The journal of a shard, such as "1-of-4"."""
        return f"{self.journals}-{shard}.jsonl"

    def shard(self, journal: str) -> str:
        """The shard that a journal belongs to."""
        return journal.removeprefix(f"{self.journals}-").removesuffix(".jsonl")

    def owner(self, shard: str) -> str:
        """What the names of a shard's temporary files hold, see store.write_whole."""
        return self.owners + shard

    def journals_in(self, output: Path) -> list[str]:
        """The names of the journals of an output folder, sorted. OutputError if it cannot be looked into."""
        try:
            names = names_in(output, FOLDER)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unreadable(output / FOLDER, error) from error
        return [name for name in names if name.startswith(f"{self.journals}-") and name.endswith(".jsonl")]


EXPLAIN_FILES = RunFiles("run.json", "journal")
EVALUATE_FILES = RunFiles("evaluate.json", "evaluate", "evaluate-", at_top=True, named=False)
COMPARE_FILES = RunFiles("compare.json", "compare", "compare-", at_top=True)


@dataclass(frozen=True)
class RunDescription:
    """The model by name, hash and preprocessing, and the `settings` of the work, all as JSON values.

    `version` of the tool is for people: another one goes on as long as all the rest is the same.
    """

    model: str
    weights_sha256: str | None
    preprocessing: Mapping[str, object]
    settings: Mapping[str, object]
    version: str
    results: int = RESULTS
    format: int = FORMAT

    def as_json(self) -> dict[str, object]:
        """One object, the settings among the other fields."""
        values = {
            "format": self.format, "results": self.results, "version": self.version, "model": self.model,
            "weights_sha256": self.weights_sha256, "preprocessing": self.preprocessing, **self.settings,
        }  # fmt: skip
        return dict(json.loads(json.dumps(values, default=str)))

    @classmethod
    def from_json(cls, fields: Fields) -> "RunDescription":
        """What as_json wrote; ValueError for anything else."""
        names = {"format", "results", "version", "model", "weights_sha256", "preprocessing"}
        return cls(
            fields.text("model"),
            None if fields.get("weights_sha256") is None else fields.text("weights_sha256"),
            fields.inner("preprocessing").values,
            {key: value for key, value in fields.values.items() if key not in names},
            fields.text("version"),
            fields.whole("results") if "results" in fields.values else 0,
            fields.whole("format") if "format" in fields.values else 0,
        )

    def depends_on(self) -> dict[str, object]:
        """All but the version."""
        return {key: value for key, value in self.as_json().items() if key != "version"}

    @property
    def fingerprint(self) -> str:
        """A short name of everything that the results depend on."""
        text = json.dumps(self.depends_on(), sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]

    def differences(self, before: "RunDescription") -> str:
        """What differs from an earlier run, for people; empty if nothing does."""
        return describe_differences(before.depends_on(), self.depends_on())

    def write(self, output: Path, files: RunFiles, owner: str = "0") -> None:
        """Writes it into OUTPUT/.lrp/; `owner` as in store.write_whole. OutputError if that is not possible."""
        text = json.dumps(self.as_json(), indent=2, ensure_ascii=False)
        content = text.encode("utf-8", "backslashreplace") + b"\n"
        try:
            write_whole(output / FOLDER / files.description, content, owner, output)
        except ImageError as error:  # it is this one name, but no image's
            raise OutputError(str(error)) from error


def read_description(output: Path, files: RunFiles) -> RunDescription | None:
    """The description of the results in an output folder, or None.

    UsageError if it is damaged, OutputError if it cannot be read.
    """
    path = output / FOLDER / files.description
    try:
        with os.fdopen(open_regular(output, FOLDER, files.description, os.O_RDONLY), "rb") as file:
            found = json.loads(file.read())
        _require_shallow(found)
        return RunDescription.from_json(as_fields(found))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{os.fspath(path)!r} is damaged, so that it is not known what the results beside it were made with. Start "
            "anew with --force, or choose another output folder."
        ) from error


def _require_shallow(value: object, levels: int = LEVELS) -> None:
    """ValueError if lists and objects lie deeper within each other than any that were written."""
    if levels == 0:
        raise ValueError("it is nested too deeply")
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            _require_shallow(inner, levels - 1)


def _unreadable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{os.fspath(path)!r} cannot be read: {error.strerror or error}. Mend that, or choose another output folder."
    )


def require_same_run(output: Path, files: RunFiles, description: RunDescription) -> None:
    """UsageError, saying what differs, if the results in `output` were made with another description."""
    before = read_description(output, files)
    differences = "" if before is None else description.differences(before)
    if differences:
        raise UsageError(
            f"The output folder {str(output)!r} holds results that were made otherwise: {differences}. Choose another "
            "output folder, or compute everything anew with --force."
        )


def describe_differences(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """What differs, with what it was and is; empty if nothing does.

    The `rules` of the layers follow from the rest, and are named only where that is the same.
    """
    found = list(_differences(_without_rules(before), _without_rules(now))) or list(_differences(before, now))
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more


def _without_rules(description: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in description.items() if key != "rules"}


def _differences(before: object, now: object, place: str = "") -> Iterator[str]:
    """Each value that differs: its place in the description, then what it was and is."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*now, *(key for key in before if key not in now)]:
            yield from _differences(before.get(key), now.get(key), f"{place}.{key}" if place else key)
    elif before != now:
        yield f"{place} was {_short(before)} and is now {_short(now)}"


def _short(value: object) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
