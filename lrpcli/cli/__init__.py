"""The `lrp` command; imports nothing heavy until a command runs."""
