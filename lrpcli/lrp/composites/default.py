"""The config that is taken where none is named; apart from all that needs torch, so that --help can name it."""

DEFAULT_CONFIG = "epsilon-over-gamma"
"""Chosen by guards first, then by region perturbation with three fills (docs/evaluation.md). It passes all guards on
all four nets: MoRF < random < LeRF, a cosine below 0.95 with the map of the second class (0.74 on GoogLeNet, where
rules that keep signs apart in every convolution come to 0.92 to 1.00), and a median kept share above 0.3. Of the
configs that do it has the highest mean ABPC."""
