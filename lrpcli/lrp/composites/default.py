"""The config that is taken where none is named; apart from all that needs torch, so that --help can name it."""

DEFAULT_CONFIG = "composite"
"""Chosen by region perturbation (docs/evaluation.md): MoRF < random < LeRF is the least that a map must show. Of the
configs that show it on all four nets, this one with its LRN rule, Taylor, has the lowest AUC, level with `beta-1` and
ahead of it in ABPC. `epsilon-1` has a lower AUC on nets of few layers, but fails in LeRF on GoogLeNet."""
