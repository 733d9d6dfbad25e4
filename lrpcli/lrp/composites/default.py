"""The config that is taken where none is named; apart from all that needs torch, so that --help can name it."""

DEFAULT_CONFIG = "alpha2-beta1-relative"
"""Chosen by region perturbation (docs/evaluation.md): MoRF < random < LeRF is the least that a map must show. Of the
configs that show it on all four nets, `composite` with its LRN rule, Taylor, has the lowest AUC, level with `beta-1`
and ahead of it in ABPC. `epsilon-1` has a lower AUC on nets of few layers, but fails in LeRF on GoogLeNet. This one is
the twin of `composite` whose epsilon is relative to each layer: maps with the same order of regions in nets with one
fully connected layer, level with it in others, and relevance that reaches the pixels where these are normalised
(docs/configs.md)."""
