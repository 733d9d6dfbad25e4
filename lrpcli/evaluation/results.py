"""The files of an evaluation: results.json, results.csv, profile.png, curves.png and strip.png."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from lrpcli.evaluation.filmstrip import filmstrip_picture
from lrpcli.evaluation.measurement import Measurement
from lrpcli.evaluation.metrics import METRICS
from lrpcli.evaluation.plots import curves_picture
from lrpcli.evaluation.profile import profile_picture
from lrpcli.evaluation.run import EvaluationRun
from lrpcli.evaluation.summary import Results, Summary
from lrpcli.images.find import Source
from lrpcli.pictures.drawing import plain_matplotlib
from lrpcli.pipeline.decode import Prepared
from lrpcli.pipeline.stream import prepare_one
from lrpcli.pipeline.workers import Workers
from lrpcli.records.division import ended_images
from lrpcli.records.ended import ended_record, is_clash
from lrpcli.records.index import Index
from lrpcli.records.record import Record
from lrpcli.records.store import write_whole
from lrpcli.records.text import for_spreadsheets, json_text, printable


class Collected:
    """What was measured so far: the summary, the images in its order, and how many have `ended`, failed or not."""

    def __init__(self, run: EvaluationRun) -> None:
        self.run, evaluator = run, run.evaluator
        self.summary = Summary(evaluator.methods, evaluator.settings.perturbation.seed, evaluator.left_out)
        self.images: list[Source] = []
        self.ended = 0

    def passing(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, each added on its way."""
        for record in records:
            self._add(record)
            yield record

    def _add(self, record: Record) -> None:
        self.ended += 1
        if isinstance(record, Measurement):
            self.summary.add(record)
            self.images.append(Source(record.input, record.name))

    def add_journaled(self, sources: Sequence[Source]) -> None:
        """Adds what the journals of all shards say of these images, where the files have not changed since."""
        with closing(Index(self.run.disk, self.run.files, self.run.description.fingerprint)) as index:
            for source in sources:
                known = index.of(source.name)
                record = ended_record(known, source.path, Measurement)
                if record is None:
                    self.ended += is_clash(known, source.path)
                elif not isinstance(record, Measurement) or self.run.evaluator.fits(record, source.path):
                    self._add(replace(record, input=source.path))

    def add_ended(self, sources: Sequence[Source]) -> int:
        """Adds what the journals say as soon as all shards have ended; how many images have.

        Before that only the journals' last lines are read: each of n shards asks, and one needs the answer.
        """
        ended = ended_images(self.run.disk, self.run.files, self.run.description.fingerprint, len(sources))
        if ended < len(sources):
            return ended
        self.add_journaled(sources)
        return self.ended

    def write(self, workers: Workers) -> Results | None:
        """Writes results.json, results.csv and pictures, and gives the content of the first.

        curves.png and strip.png show perturbation; those of earlier results are removed where it is not measured. None
        if nothing was measured. Some images are read again for the strip. OutputError if the folder cannot be written.
        """
        if not self.images:
            return None
        run = self.run

        def decode(source: Source) -> Prepared | None:
            prepared = prepare_one(source, run.stages, workers)
            return prepared if isinstance(prepared, Prepared) else None

        results: Results = {"settings": run.description.as_json(), **self.summary.results()}
        with plain_matplotlib(run.disk):
            files: dict[str, bytes | None] = {
                "results.json": json_text(json.dumps(results, indent=1)).encode() + b"\n",
                "results.csv": csv_bytes(self.summary),
                "profile.png": profile_picture(results),
            }
            if run.evaluator.perturbs:
                files["curves.png"] = curves_picture(results)
                files["strip.png"] = filmstrip_picture(run.evaluator, self.images, decode)
        for name, content in files.items():
            if content is not None:
                write_whole(run.disk / name, content, run.owner, run.disk)
        if not run.evaluator.perturbs:
            for name in ("curves.png", "strip.png"):
                (run.disk / name).unlink(missing_ok=True)
        return results


def write_results(
    run: EvaluationRun, workers: Workers, sources: Sequence[Source], whole: bool
) -> tuple[Results | None, int]:
    """Writes the results by what the journals say, once all images have ended, and says how many have.

    With `whole` it is known that all have. For a run that is loaded in another process.
    """
    collected = Collected(run)
    if whole:
        collected.add_journaled(sources)
    ended = len(sources) if whole else collected.add_ended(sources)
    return collected.write(workers) if ended == len(sources) else None, ended


def csv_bytes(summary: Summary) -> bytes:
    """A row per image and method; empty where something was not measured."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["input", "config", "lrn", "control", "target", "label", "score", *METRICS, "box_area", "mask_area"])
    for image, metrics in zip(summary.images, summary.metrics, strict=True):
        for method in summary.methods:
            numbers = [metrics[method.name][metric] for metric in METRICS]
            name = method.name if method.control else method.config
            config, lrn = (for_spreadsheets(part or "") for part in (name, method.lrn))
            table.writerow(
                [for_spreadsheets(image.input), config, lrn, int(method.control), image.target,
                 for_spreadsheets(printable(image.label)), image.score, *numbers, image.area, image.mask_area]
            )  # fmt: skip
    return text.getvalue().encode("utf-8", "surrogateescape")
