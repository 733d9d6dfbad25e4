"""What journals say of the tar shards of an output folder, collected while they are read."""

from contextlib import suppress

from lrpcli.errors import OutputError
from lrpcli.records.explained import Explained
from lrpcli.records.folder import RunFolder, names_in, shown
from lrpcli.records.journal import FINISHED, Line
from lrpcli.records.packed import TarName


class Tars:
    """The tar shards of a folder: those `present`, and where in each the last image ends that journals speak of.

    Made before the journals are read: a tar gets its name after the lines of its images stand. OutputError if the
    folder cannot be listed; without one, none is looked for.
    """

    def __init__(self, output: RunFolder | None) -> None:
        names = [] if output is None else _names(output)
        self.present = [name for name in map(TarName.of, names) if name is not None]
        self.ends: dict[TarName, int] = {}

    def see(self, journal: str, line: Line) -> None:
        """Takes in a line of a journal; see Index."""
        if line.code not in FINISHED or line.fields.get("pack") is None:
            return
        with suppress(ValueError):
            for outputs in Explained.outputs_of(line.fields):
                name = None if outputs.packed is None else TarName.of(outputs.packed.tar)
                if name is not None and outputs.packed is not None:
                    self.ends[name] = max(self.ends.get(name, 0), outputs.packed.end)

    def last(self, shard: str) -> TarName | None:
        """The tar of a shard that has the highest number; None if there is none."""
        return max((name for name in self.ends if name.shard == shard), key=lambda name: name.number, default=None)


def _names(output: RunFolder) -> list[str]:
    try:
        return names_in(output)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(
            f"{shown(output)!r} cannot be looked into: {error.strerror or error}. Mend that, or choose another "
            "output folder."
        ) from error
