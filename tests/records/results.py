"""Output folders made of records alone, as if a run had written them."""

from dataclasses import replace

from lrpcli.errors import ImageError
from lrpcli.records.description import EXPLAIN_FILES, RunDescription
from lrpcli.records.explained import Explained, ExplainedClass, RelevanceRange, TopClass
from lrpcli.records.journal import Journal, RunLine
from lrpcli.records.record import Outputs, Record

PLACEMENT = {"image_size": [40, 48], "box": [0.0, 1.5, 40.0, 41.5], "size": [32, 32]}


def explained(name, targets=(281,), label="tabby", **changes):
    """The record of an image that was explained for some classes."""
    classes = tuple(
        ExplainedClass(
            Outputs({"overlay": f"{name}.{target}.png", "map": f"{name}.{target}.npy"}), target, label, 0.75,
            RelevanceRange(1.25, 2.5, -0.5, 0.75, kept=0.5, positive=1.75, negative=-0.5), 0.125,
        )
        for target in targets
    )  # fmt: skip
    top = (TopClass(281, label, 0.75), TopClass(285, "Egyptian cat", 0.125))
    record = Explained(input=f"in/{name}", name=name, seconds=0.25, classes=classes, top=top, placement=PLACEMENT)
    return replace(record, **changes)


def failed(name, kind="decode", message="It cannot be decoded."):
    """The record of an image that failed."""
    return Record.failed(f"in/{name}", name, ImageError(kind, message))


def description(**settings):
    return RunDescription("net", None, {}, {"output": {"save": ["overlay", "map"]}, **settings}, "1.0")


def write(output, *lines, journal="journal-1-of-1.jsonl", run=None, time=100.0):
    """Appends lines to a journal, each a second later: records, RunLines, and anything else as it is."""
    run = description().fingerprint if run is None else run
    with Journal(output, journal) as opened:
        for line in lines:
            fields = line
            if isinstance(line, Record):
                fields = {**line.as_json(), "type": "done"}
            elif isinstance(line, RunLine):
                fields = line.as_json()
            opened.append({"run": run, "time": time, **fields})
            time += 1


def begin(count, number=1, of=1, share=None):
    """The line of a run that begins."""
    return RunLine(number, of, count, count if share is None else share)


def start(name):
    return {"type": "start", "name": name}


def describe(output):
    description().write(output, EXPLAIN_FILES)
