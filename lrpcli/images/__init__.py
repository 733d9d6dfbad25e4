"""Finds image files, decodes them safely, and turns pixels into model input and back."""
