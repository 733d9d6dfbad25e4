"""The examples in docstrings are right."""

import doctest
from importlib import import_module

import pytest

NAMES = [*(f"pictures.{name}" for name in ("colours", "encode", "figure", "panels", "picture", "sheet")),
         "pipeline.decode", "pipeline.kinds"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_examples(name):
    result = doctest.testmod(import_module(f"lrpcli.{name}"))
    assert result.attempted > 0 and result.failed == 0
