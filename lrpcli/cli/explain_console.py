"""What `lrp explain` says: beside each path its class, and in the summary what makes maps doubtful."""

import sys
from array import array
from collections.abc import Sequence
from itertools import islice
from statistics import fmean, median
from typing import TYPE_CHECKING

from tqdm import tqdm

from lrpcli.cli.columns import padded, shortened, width
from lrpcli.cli.console import Console
from lrpcli.cli.doubts import doubts_of_shares
from lrpcli.cli.options import ConsoleSettings
from lrpcli.cli.terminal import BOLD, RED, YELLOW, Part, as_shown, columns, on_terminal, say_parts
from lrpcli.evaluation.limits import LARGEST_COSINE, LEAST_KEPT
from lrpcli.records.explained import Explained, ExplainedClass, RelevanceRange
from lrpcli.records.folder import RunFolder, shown
from lrpcli.records.record import Record
from lrpcli.records.text import one_line

if TYPE_CHECKING:
    from lrpcli.images.find import Source

LOW_SCORE = 0.2
"""A best class less likely than this is one that the net may not know."""
NAMED = 3
"""Images with low scores that the summary names."""
CLEAR = 0.01
"""A start that is a smaller part of the relevance for and against the class is close to zero."""
LOOKED_AT = 10_000
"""Images whose names say how long paths are."""
LONG = 50
"""Columns of a name that may have a line to itself, so that a few of them move nothing to the right."""
SUFFIX = len(".png")
SHARE, KEPT = len("100%"), len("kept -100%")
LEAST_LABEL, MOST_LABEL = 10, 24
"""Columns of a class."""
GAP = "  "


class ExplainConsole(Console):
    """A console that shows classes on a terminal, and sums up how far the maps can be trusted.

    `sources` are the images of the run, if they are known: what is said of a path begins behind the longest.
    """

    def __init__(
        self, total: int, output: RunFolder, skipped: str, settings: ConsoleSettings, sources: "Sequence[Source]" = ()
    ) -> None:
        super().__init__(total, output, skipped, settings)
        self.lined_up = self.end == b"\n" and not settings.as_json and on_terminal()
        names = [source.name for source in islice(sources, LOOKED_AT if self.lined_up else 0)]
        self.longest = width(as_shown(shown(output))) + 1 + usual_width(names) + SUFFIX
        self.scores, self.kept, self.cosines = array("d"), array("d"), array("d")
        self.clear = array("d")
        """The kept shares of scores that are not close to zero."""
        self.unclear = 0
        self.unknown: list[str] = []
        self.unclear_names: list[str] = []

    def show(self, record: Record) -> None:
        """See Console."""
        if isinstance(record, Explained):
            self.scores.extend([record.top[0].score] if record.top else [])
            if record.top and record.top[0].score < LOW_SCORE and len(self.unknown) < NAMED:
                self.unknown.append(one_line(record.name))
            self._show_kept(record)
            self.cosines.extend([] if record.class_cosine is None else [record.class_cosine])
        super().show(record)

    def _show_kept(self, record: Explained) -> None:
        for one in record.classes:
            if one.relevance.kept is None:
                continue
            self.kept.append(one.relevance.kept)
            if not _is_unclear(one.relevance):
                self.clear.append(one.relevance.kept)
                continue
            self.unclear += 1
            if self.unclear <= NAMED:
                self.unclear_names.append(f"{one_line(one.label)} in {one_line(record.name)}")

    def say_results(self, record: Record) -> None:
        """The paths, and on a terminal the class of each map behind it, its score and its kept share."""
        if not isinstance(record, Explained) or not self.lined_up:
            super().say_results(record)
            return
        for one in record.classes:
            if one.outputs.first is not None:
                with tqdm.external_write_mode(file=sys.stdout):
                    for line in class_lines(as_shown(one.outputs.first), one, self.longest, columns()):
                        say_parts(*line)

    def summary(self) -> str:
        """See Console."""
        return "\n".join([super().summary(), *self.checked(), *(f"Warning: {doubt}" for doubt in self.doubts())])

    def checked(self) -> list[str]:
        """What --check-class found, as a line; none where it was not asked for."""
        if not self.cosines:
            return []
        images = f"{len(self.cosines)} {'image' if len(self.cosines) == 1 else 'images'}"
        return [
            f"Class check: the maps of the best and the second class have a mean cosine of {fmean(self.cosines):.2f} "
            f"over {images} (sound up to {LARGEST_COSINE:g})."
        ]

    def doubts(self) -> list[str]:
        """What makes the maps of this run doubtful, a sentence each."""
        found = [*self.doubts_of_scores(), *doubts_of_shares(self.clear), *self.doubts_of_starts()]
        if self.cosines and fmean(self.cosines) > LARGEST_COSINE:
            found.append("these maps hardly depend on the class; see --start.")
        return found

    def doubts_of_scores(self) -> list[str]:
        """Images whose best class is unlikely: few may show what the net does not know, most speak against settings."""
        low = sum(score < LOW_SCORE for score in self.scores)
        if not low:
            return []
        said = f"in {low} of {len(self.scores)} images the best class has a probability under {LOW_SCORE:.0%}"
        if 2 * low > len(self.scores):
            return [
                f"{said}: the net may not know what they show, or preprocessing and labels are not the net's; see lrp "
                "models show."
            ]
        names = ", ".join(self.unknown) + (", ..." if low > NAMED else "")
        return [f"{said} ({names}): the net may not know what {'it shows' if low == 1 else 'they show'}."]

    def doubts_of_starts(self) -> list[str]:
        """Maps that share out next to nothing: what speaks for the class and against it cancels."""
        if not self.unclear:
            return []
        names = ", ".join(self.unclear_names) + (", ..." if self.unclear > NAMED else "")
        return [
            f"in {self.unclear} of {len(self.kept)} maps what speaks for the class and against it cancels ({names}): "
            "the score is close to zero, and the share of it that is kept says nothing."
        ]

    def totals(self) -> dict[str, object]:
        """See Console."""
        values = super().totals()
        if self.kept:
            values["kept"] = {"median": median(self.kept), "wrong_sign": sum(share < 0 for share in self.kept)}
        if self.cosines:
            values["class_cosine"] = fmean(self.cosines)
        return values


def _is_unclear(relevance: RelevanceRange) -> bool:
    """Whether the start is close to zero beside the relevance for and against the class."""
    if relevance.positive is None or relevance.negative is None:
        return False
    return abs(relevance.start) < CLEAR * (relevance.positive - relevance.negative)


def usual_width(names: Sequence[str]) -> int:
    """The columns of the longest name; where that is over LONG, those of the longest but for a tenth of all."""
    widths = sorted(width(as_shown(name)) for name in names) or [0]
    return min(widths[-1], max(LONG, widths[(len(widths) - 1) * 9 // 10]))


def class_lines(path: str, one: ExplainedClass, longest: int, room: int) -> list[list[Part]]:
    """A path with its class, probability and kept share behind it, in columns: `longest` is that of the longest path.

    The path stays whole: where a line has no room for all, the class stands below it, in the column of the others.
    """
    taken = len(GAP) + SHARE + len(GAP) + KEPT
    label_room = max(LEAST_LABEL, min(MOST_LABEL, room // 5))
    column = max(0, min(longest, room - len(GAP) - label_room - taken))
    label = padded(shortened(as_shown(one.label), label_room), label_room)
    said = [Part(GAP), Part(label, BOLD), *_shares(one)]
    if width(path) <= column:
        return [[Part(padded(path, column)), *said]]
    return [[Part(path)], [Part(" " * column), *said]]


def _shares(one: ExplainedClass) -> list[Part]:
    """Probability and kept share, in colour where they speak against the map."""
    parts = [Part(GAP), Part(padded(f"{one.score:.0%}", SHARE, right=True), YELLOW if one.score < LOW_SCORE else "")]
    kept = one.relevance.kept
    if kept is not None:
        colour = RED if kept < 0 else YELLOW if kept < LEAST_KEPT or _is_unclear(one.relevance) else ""
        parts += [Part(GAP), Part(f"kept {padded(f'{kept:.0%}', KEPT - len('kept '), right=True)}", colour)]
    return parts
