"""The model that is taken where none is named; apart from all that takes time to import."""

DEFAULT_MODEL = "caffenet-small"
