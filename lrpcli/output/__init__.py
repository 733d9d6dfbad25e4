"""Relevance to colours to overlay, written so that only whole files exist."""
