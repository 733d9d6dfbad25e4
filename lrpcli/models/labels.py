"""Names of a model's outputs: given, or read from a file with one line per output."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lrpcli.errors import ModelError
from lrpcli.models.reading import read_text_file

SYNSET = re.compile(r"(n\d{8})\s+(.+)")


@dataclass(frozen=True)
class Label:
    """One output's names: `text` as the file has it, without the WordNet synset id, which is kept beside it."""

    text: str
    synset: str | None = None

    @property
    def synonyms(self) -> tuple[str, ...]:
        """The names separated by commas."""
        return tuple(name.strip() for name in self.text.split(","))

    @property
    def name(self) -> str:
        """The name to show: the first synonym."""
        return self.synonyms[0]


def choose_labels(given: str | Path | Sequence[str] | None, outputs: int | None) -> tuple[str, ...] | None:
    """One label per output from a label file, or from its lines; None where nothing is given.

    Raises ModelError as read_labels does, or if there are not `outputs` of them (None: nobody knows how many).
    """
    if given is None or isinstance(given, (str, Path)):
        return None if given is None else read_labels(given, outputs)
    if outputs is not None and len(given) != outputs:
        raise ModelError(f"There are {len(given)} labels for a model with {outputs} outputs. Give one per output.")
    return tuple(given)


def read_labels(path: str | Path, outputs: int | None = None) -> tuple[str, ...]:
    """The lines of a UTF-8 label file, the first for output 0; parse_label takes one apart.

    Raises ModelError if the file cannot be read, is empty or has an empty line, or not `outputs` lines.
    """
    lines = read_text_file(Path(path), "label file").rstrip().splitlines()
    if not lines:
        raise ModelError(f"The label file {str(path)!r} is empty. Give a file with one line per output.")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise ModelError(
                f"Line {number} of the label file {str(path)!r} is empty; line n names output n - 1, without gaps."
            )
    if outputs is not None and len(lines) != outputs:
        raise ModelError(
            f"The label file {str(path)!r} has {len(lines)} lines, but the model has {outputs} outputs. "
            "Give a file with one line per output."
        )
    return tuple(line.strip() for line in lines)


def parse_label(line: str) -> Label:
    """The label in one line of a label file; "n01440764 tench, Tinca tinca" carries a synset id and two names."""
    matched = SYNSET.fullmatch(line.strip())
    return Label(matched[2], matched[1]) if matched else Label(line.strip())
