"""The relevance that gets the full colour: one for all maps that can share it."""

from collections.abc import Iterable, Mapping, Sequence

from lrpcli.pictures.colours import Floats

Unit = tuple[str, tuple[int, int]]
"""What a map is measured in: the name of the start, and the model's grid, whose pixels share the relevance."""
Scales = Mapping[Unit, float]


def largest(pairs: Iterable[tuple[Unit, float]]) -> dict[Unit, float]:
    """The largest scale of each unit.

    >>> from lrpcli.compare.scales import largest
    >>> largest([(("logit", (8, 8)), 0.5), (("logit", (8, 8)), 2.0), (("one", (8, 8)), 0.1)])
    {('logit', (8, 8)): 2.0, ('one', (8, 8)): 0.1}
    """
    found: dict[Unit, float] = {}
    for unit, scale in pairs:
        found[unit] = max(scale, found.get(unit, 0.0))
    return found


def cosine(first: Floats, other: Floats) -> float | None:
    """The cosine of two maps, 1 where one is a multiple of the other; None for other grids, or a map of zeros.

    >>> import numpy as np
    >>> from lrpcli.compare.scales import cosine
    >>> cosine(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]]))
    0.96
    """
    import numpy as np

    if first.shape != other.shape:
        return None
    a, b = (values.astype(np.float64).ravel() for values in (first, other))
    lengths = float(np.linalg.norm(a)) * float(np.linalg.norm(b))
    return round(float(a @ b) / lengths, 6) if 0 < lengths < float("inf") else None


def shared(units: Sequence[Unit]) -> bool:
    """Whether all maps are measured in one unit."""
    return len(set(units)) == 1
