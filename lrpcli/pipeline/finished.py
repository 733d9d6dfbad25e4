"""What can be known of a finished explanation without its net."""

from dataclasses import dataclass

from lrpcli.pipeline.settings import RunSettings
from lrpcli.records.description import RunDescription
from lrpcli.records.explained import Explained
from lrpcli.records.json_values import Fields


@dataclass(frozen=True)
class NetFacts:
    """What was known of a net when it was loaded: its classes, None if they are not known, and the maps of an image."""

    classes: int | None
    maps: int = 1

    @classmethod
    def from_json(cls, fields: Fields) -> "NetFacts":
        """What dataclasses.asdict wrote; ValueError for anything else."""
        return cls(None if fields.get("classes") is None else fields.whole("classes"), fields.whole("maps"))

    def have(self, *classes: int) -> bool:
        """Whether the net has these classes."""
        return all(one >= 0 and (self.classes is None or one < self.classes) for one in classes)


def read_finished(
    fields: Fields, settings: RunSettings, description: RunDescription, facts: NetFacts
) -> Explained | None:
    """The record in a journal's line if it is whole, with the maps and files that are asked for; see Writer.fits.

    None where only the net can say. ValueError if the line is damaged.
    """
    record = Explained.from_json(fields)
    named = (path for outputs in record.outputs for path in outputs.paths.values())
    whole = (
        len(record.classes) == facts.maps
        and bool(record.top)
        and facts.have(*(one.target for one in record.classes), *(one.target for one in record.top))
        and all(tuple(outputs.paths) == settings.output.save for outputs in record.outputs)
        and all(path.startswith(record.name) for path in named)
    )
    return record if whole else None
