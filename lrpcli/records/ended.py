"""What became of an image, by the journals of all shards."""

from contextlib import suppress

from lrpcli.records.identity import OTHER, SAME, relation
from lrpcli.records.index import Known
from lrpcli.records.journal import FAILED, OK
from lrpcli.records.record import R, Record


def ended_record(known: Known | None, path: str, kind: type[R]) -> R | Record | None:
    """The record of an image that is finished, which is one of this kind, or failed; None for others.

    An image that changed since counts as another; so does one whose line is damaged.
    """
    with suppress(ValueError):
        if known is None or known.code not in (OK, FAILED) or relation(known.line.fields, path) != SAME:
            return None
        return (kind if known.code == OK else Record).from_json(known.line.fields)
    return None


def is_clash(known: Known | None, path: str) -> bool:
    """Whether the name of an image belongs to the result of another."""
    with suppress(ValueError):
        return known is not None and known.finished is not None and relation(known.finished.fields, path) == OTHER
    return False
