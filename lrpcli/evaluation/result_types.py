"""The content of results.json, as types; docs/evaluation.md describes it."""

from typing import TypedDict


class MeanOf(TypedDict):
    """A mean over images with its standard error."""

    mean: float
    standard_error: float


class MeanCurve(TypedDict):
    """Means over images at steps 0..L with their standard errors."""

    mean: list[float]
    standard_error: list[float]


class Interval(TypedDict):
    """A mean difference with the ends of its 95 % interval, None for fewer than two images."""

    mean: float
    low: float | None
    high: float | None


Intervals = dict[str, Interval | None]
"""Metric -> interval, None where it was not measured."""


class MethodResult(TypedDict):
    """What came out for one method; `difference` is that to the first method, whose name is under "to"."""

    name: str
    config: str | None
    lrn: str | None
    control: bool
    metrics: dict[str, MeanOf | None]
    curves: dict[str, MeanCurve]
    difference: dict[str, Interval | str | None]


class SummaryResults(TypedDict):
    """What came out over all images; `lrn` has a row for each LRN rule of a config against the config's first one."""

    images: int
    images_with_boxes: int
    box_area: float | None
    score: float | None
    methods: list[MethodResult]
    lrn: list[dict[str, Interval | str | None]]


class Results(SummaryResults):
    """The whole file: `settings` is the description of the run."""

    settings: dict[str, object]


def interval_of(row: dict[str, Interval | str | None], metric: str) -> Interval | None:
    """The interval of a metric in a row of differences."""
    found = row.get(metric)
    return None if found is None or isinstance(found, str) else found
