"""The examples in the docstrings of the room give what they show."""

import doctest

import pytest

from lrpcli.tuning import budget, halving, space, toml_text


@pytest.mark.parametrize("module", [budget, halving, space, toml_text], ids=lambda module: module.__name__)
def test_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0 and result.failed == 0
