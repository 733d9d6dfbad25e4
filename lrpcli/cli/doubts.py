"""What makes maps doubtful, as sentences."""

from collections.abc import Sequence
from statistics import median

from lrpcli.evaluation.limits import LEAST_KEPT, MOST_WRONG


def doubts_of_shares(kept: Sequence[float], what: str = "a map") -> list[str]:
    """What the kept shares of maps say against them: a sentence, or none. `what` names one of these maps."""
    if not kept:
        return []
    wrong, middle = sum(share < 0 for share in kept), median(kept)
    if middle >= LEAST_KEPT and wrong <= MOST_WRONG * len(kept):
        return []
    signs = f", and {wrong} of {len(kept)} have a total of the wrong sign" if wrong else ""
    reached = f"{middle:.1%}" if len(kept) == 1 else f"a median of {middle:.1%}"
    return [
        f"{reached} of the score reached the pixels of {what}{signs}; biases and stabilisers took the rest. Another "
        "--config may keep what stabilisers took; --save layer-table says where that was."
    ]
