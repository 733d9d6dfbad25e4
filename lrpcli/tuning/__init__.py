"""Searches the config that explains one net best on one set of images."""
