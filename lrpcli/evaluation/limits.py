"""Where guards begin to fail, written once for the warnings of explain and evaluate and for the search of tune."""

LARGEST_COSINE = 0.95
"""Mean cosine of maps with those of the second class: above, they hardly depend on the class."""
LEAST_KEPT = 0.3
"""Median kept share: below, the maps carry little of the score."""
MOST_WRONG = 0.05
"""Share of maps whose total has the wrong sign."""
