"""Relevance to pixels: colours, overlays, encoded pictures."""
