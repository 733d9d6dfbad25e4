"""Configs: which rule each layer gets."""
