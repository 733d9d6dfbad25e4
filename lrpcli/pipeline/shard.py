"""Which of the images a process does when several share the work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lrpcli.errors import UsageError

T = TypeVar("T")
AUTO = "auto"
MAXIMUM = 100_000


@dataclass(frozen=True)
class Shard:
    """Number `number` (from 1) of `count` shards; every count-th image belongs to it."""

    number: int = 1
    count: int = 1

    @property
    def name(self) -> str:
        """The shard in names of files."""
        return f"{self.number}-of-{self.count}"

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """The shard's items; nothing is copied where it is all of them."""
        return items if self.count == 1 else items[self.number - 1 :: self.count]


WHOLE = Shard()


def parse_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """The shard in "2/8", or with "auto" the one that a batch system names. UsageError if none is."""
    if text == AUTO:
        return _from_environment(environment)
    first, slash, last = text.partition("/")
    if not (slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last) <= MAXIMUM):
        raise UsageError(
            f"--shard must be i/n with i from 1 to n, such as 2/8, or auto, not {text!r}. n is at most {MAXIMUM}."
        )
    return Shard(int(first), int(last))


def _from_environment(environment: Mapping[str, str]) -> Shard:
    """torchrun, Kubernetes and SLURM; in SLURM, the tasks of an array may each have several processes."""

    def number(name: str, default: int | None = None) -> int | None:
        text = environment.get(name, "")
        if text and not text.isdecimal():
            raise UsageError(f"--shard auto needs a whole number in {name}, not {text!r}.")
        return int(text) if text else default

    pairs = (("RANK", "WORLD_SIZE"), ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"))
    for place, size in pairs:
        index, count = number(place), number(size)
        if index is not None and count is not None:
            return _checked(index, count, place, size)
        if place == "JOB_COMPLETION_INDEX" and index is not None:
            raise UsageError(
                "--shard auto finds JOB_COMPLETION_INDEX, but Kubernetes does not say how many completions there are. "
                "Set JOB_COMPLETIONS to the job's number of completions."
            )
    index, count = number("SLURM_PROCID", 0) or 0, number("SLURM_NTASKS", 1) or 1
    step = number("SLURM_ARRAY_TASK_STEP", 1) or 1
    task, tasks = number("SLURM_ARRAY_TASK_ID"), number("SLURM_ARRAY_TASK_COUNT")
    if task is not None and tasks is not None:
        index += (task - (number("SLURM_ARRAY_TASK_MIN", 0) or 0)) // step * count
        return _checked(index, count * tasks, "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")
    if "SLURM_PROCID" in environment and "SLURM_NTASKS" in environment:
        return _checked(index, count, "SLURM_PROCID", "SLURM_NTASKS")
    raise UsageError(
        "--shard auto finds no batch system: none of RANK and WORLD_SIZE (torchrun), SLURM_PROCID and SLURM_NTASKS, "
        "SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT (SLURM), JOB_COMPLETION_INDEX and JOB_COMPLETIONS (Kubernetes) "
        "is set. Give --shard i/n."
    )


def _checked(index: int, count: int, place: str, size: str) -> Shard:
    if not 0 <= index < count <= MAXIMUM:
        raise UsageError(f"--shard auto cannot use part {index} of {count}, which {place} and {size} say.")
    return Shard(index + 1, count)
