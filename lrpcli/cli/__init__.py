"""The `lrp` command; imports nothing heavy until a command runs."""

from lrpcli.cli.main import main

__all__ = ["main"]
