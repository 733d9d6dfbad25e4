"""Named models, weights and importers."""
