"""When relevance is so large that little but rounding is left of a map, and what is said then; without torch."""

EXPLODED = 1e6
"""Relevances this many times the start cancel in sums of which float32 keeps a digit or none."""
EXPLODED_ADVICE = (
    "single relevances are over a million times the start and cancel, so that the map shows rounding and sums near "
    "zero rather than the image; use an epsilon above 0, gamma or alpha-beta"
)
