"""What the results of a run depend on, written down in OUTPUT/.lrp/ so that no later run mixes its own with them."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lrpcli.errors import ImageError, OutputError, UsageError
from lrpcli.records.folder import FOLDER, RunFolder, names_in, read_file, shown
from lrpcli.records.json_values import Fields, as_fields
from lrpcli.records.record import FORMAT
from lrpcli.records.segments import SUFFIX
from lrpcli.records.store import put_whole, translate_remote_error
from lrpcli.remote import Remote

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

    def journals_in(self, output: RunFolder) -> list[str]:
        """The names of the journals of an output folder, sorted; see segments for those in pieces.

        OutputError if it cannot be looked into.
        """
        try:
            names = names_in(output, FOLDER)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unreadable(shown(output, FOLDER), error) from error
        whole = {name for name in names if name.startswith(f"{self.journals}-") and name.endswith(SUFFIX)}
        pieces = re.compile(re.escape(self.journals) + r"-\d+-of-\d+")
        return sorted(whole | {name + SUFFIX for name in names if pieces.fullmatch(name)}, key=os.fsencode)


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

    def write(self, output: RunFolder, files: RunFiles, owner: str = "0") -> None:
        """Writes it into OUTPUT/.lrp/; `owner` as in store.write_whole. OutputError if that is not possible."""
        try:
            put_whole(output, {f"{FOLDER}/{files.description}": self._content}, owner)
        except ImageError as error:  # it is this one name, but no image's
            raise OutputError(str(error)) from error

    def agree(self, output: RunFolder, files: RunFiles, owner: str = "0") -> None:
        """Writes it down for a run that goes on with what other runs with the same description did, see write.

        Below a URL two runs may begin at the same time: UsageError for the later one, if its description is another.
        """
        if not isinstance(output, Remote):
            self.write(output, files, owner)
            return
        path = f"{FOLDER}/{files.description}"
        try:
            made = output.create(path, self._content)
        except OSError as error:
            raise OutputError(str(translate_remote_error(error, output.url_of(path)))) from error
        if not made:
            require_same_run(output, files, self)

    @property
    def _content(self) -> bytes:
        """The file's content."""
        text = json.dumps(self.as_json(), indent=2, ensure_ascii=False)
        return text.encode("utf-8", "backslashreplace") + b"\n"


def read_description(output: RunFolder, files: RunFiles) -> RunDescription | None:
    """The description of the results in an output folder, or None.

    UsageError if it is damaged, OutputError if it cannot be read.
    """
    path = shown(output, f"{FOLDER}/{files.description}")
    try:
        found = json.loads(read_file(output, f"{FOLDER}/{files.description}"))
        _require_shallow(found)
        return RunDescription.from_json(as_fields(found))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path!r} is damaged, so that it is not known what the results beside it were made with. Start "
            "anew with --force, or choose another output folder."
        ) from error


def _require_shallow(value: object, levels: int = LEVELS) -> None:
    """ValueError if lists and objects lie deeper within each other than any that were written."""
    if levels == 0:
        raise ValueError("it is nested too deeply")
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            _require_shallow(inner, levels - 1)


def _unreadable(path: str, error: OSError) -> OutputError:
    return OutputError(
        f"{path!r} cannot be read: {error.strerror or error}. Mend that, or choose another output folder."
    )


def require_same_run(output: RunFolder, files: RunFiles, description: RunDescription) -> None:
    """UsageError, saying what differs, if the results in `output` were made with another description."""
    before = read_description(output, files)
    differences = "" if before is None else description.differences(before)
    if differences:
        raise UsageError(
            f"The output folder {shown(output)!r} holds results that were made otherwise: {differences}. Choose "
            "another output folder, or compute everything anew with --force."
        )


def require_same_settings(output: RunFolder, files: RunFiles, fingerprint: str) -> None:
    """OutputError if the folder holds the description of a run with other settings now."""
    now = read_description(output, files)
    if now is None or now.fingerprint != fingerprint:
        raise OutputError(
            f"Another run began to work on {shown(output)!r} with other settings, so that this one stopped. Give each "
            "an output folder of its own."
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
