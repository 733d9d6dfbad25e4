"""Layers and their relevance rules, one module for each sort."""
