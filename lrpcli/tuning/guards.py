"""What was measured of a candidate on some images, and which guards it passes (docs/tuning.md)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lrpcli.evaluation.limits import LARGEST_COSINE, LEAST_KEPT, MOST_WRONG

Floats = NDArray[np.float64]
SOUND, ORDER, CLASS, KEPT = "sound", "order", "class", "kept"
GUARDS = (SOUND, ORDER, CLASS, KEPT)


@dataclass(frozen=True)
class Curves:
    """Mean scores of images (n,) while their regions are replaced: most relevant first, least, and at random."""

    morf: Floats
    lerf: Floats
    random: Floats

    @property
    def abpc(self) -> Floats:
        """(n,): LeRF less MoRF; NaN for an image whose map is not sound."""
        return self.lerf - self.morf


@dataclass(frozen=True)
class Scores:
    """What was measured on images (n,).

    `second` are cosines with the maps of the second class, None for a net of a single class; `kept` are kept shares.
    Both are of the start `one`. `unsound` says which maps are not finite or exploded. `curves` are None where the maps
    alone were measured.
    """

    second: Floats | None
    kept: Floats
    unsound: NDArray[np.bool_]
    curves: Curves | None = None

    @property
    def images(self) -> int:
        """n."""
        return len(self.unsound)

    @property
    def ranked(self) -> bool:
        """See halving.Worth."""
        return self.curves is not None

    @cached_property
    def abpc(self) -> float | None:
        """The mean, None where it was not measured."""
        return None if self.curves is None else mean_of(self.curves.abpc)

    @cached_property
    def areas(self) -> tuple[float | None, float | None, float | None]:
        """The mean scores in the orders MoRF, random and LeRF, over images with sound maps."""
        if self.curves is None:
            return None, None, None
        return mean_of(self.curves.morf), mean_of(self.curves.random), mean_of(self.curves.lerf)

    @cached_property
    def cosine(self) -> float | None:
        """Mean cosine with the maps of the second class; None where no map defines it."""
        return None if self.second is None else mean_of(self.second)

    @cached_property
    def median_kept(self) -> float | None:
        """Median kept share over the sound maps."""
        known = self.kept[np.isfinite(self.kept)]
        return float(np.median(known)) if len(known) else None

    @cached_property
    def wrong_sign(self) -> float | None:
        """The share of the sound maps whose total has the wrong sign."""
        known = self.kept[np.isfinite(self.kept)]
        return float((known < 0).mean()) if len(known) else None

    @cached_property
    def failed(self) -> tuple[str, ...]:
        """The guards that do not hold, of those that were measured, in the order of GUARDS."""
        holds = {SOUND: not self.unsound.any(), CLASS: self._is_of_class(), KEPT: self._keeps()}
        if self.curves is not None:
            morf, random, lerf = self.areas
            holds[ORDER] = None not in (morf, random, lerf) and morf < random < lerf  # type: ignore[operator]
        return tuple(guard for guard in GUARDS if not holds.get(guard, True))

    def _is_of_class(self) -> bool:
        return self.second is None or (self.cosine is not None and self.cosine < LARGEST_COSINE)

    def _keeps(self) -> bool:
        if self.median_kept is None or self.wrong_sign is None:
            return False
        return self.median_kept > LEAST_KEPT and self.wrong_sign <= MOST_WRONG

    @property
    def key(self) -> tuple[float, ...]:
        """Guards first, then ABPC; maps that are not sound come last."""
        abpc = self.abpc
        return (SOUND in self.failed, len(self.failed), 0.0 if abpc is None else -abpc)


def mean_of(values: Floats) -> float | None:
    """The mean of the values (n,) that are finite, None if none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def guards_in_words(scores: Scores) -> list[str]:
    """Each guard with its numbers, as sentences."""
    lines = []
    if scores.curves is not None:
        morf, random, lerf = (_number(area) for area in scores.areas)
        lines.append(f"{ORDER}: MoRF {morf}, random {random}, LeRF {lerf}, must rise. {_verdict(scores, ORDER)}")
    if scores.second is None:
        lines.append(f"{CLASS}: the net has a single class, so there is no second one to compare with.")
    else:
        limit = f"must be below {LARGEST_COSINE:g}"
        cosine = _number(scores.cosine)
        lines.append(f"{CLASS}: cosine {cosine} with the second class, {limit}. {_verdict(scores, CLASS)}")
    wrong = "-" if scores.wrong_sign is None else f"{scores.wrong_sign:.0%}"
    lines.append(
        f"{KEPT}: median {_number(scores.median_kept)}, must be above {LEAST_KEPT:g}; {wrong} of the wrong sign, at "
        f"most {MOST_WRONG:.0%}. {_verdict(scores, KEPT)}"
    )
    if SOUND in scores.failed:
        lines.append(f"{SOUND}: the maps of {int(scores.unsound.sum())} images are not finite or explode. Fails.")
    return lines


def _verdict(scores: Scores, guard: str) -> str:
    return "Fails." if guard in scores.failed else "Holds."


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
