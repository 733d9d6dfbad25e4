"""The examples in docstrings are right."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["variants", "scales"])
def test_examples(name):
    found = doctest.testmod(import_module(f"lrpcli.compare.{name}"))
    assert found.attempted and not found.failed
