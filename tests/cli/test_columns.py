"""Columns of text, against the C library's own idea of them."""

import ctypes
import locale

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpcli.cli.columns import longest_word, padded, shortened, width, wrapped

LIBC = ctypes.CDLL(None)
KNOWN = [
    *range(0x20, 0x7F), *range(0xA1, 0xAC), *range(0xAE, 0x250), *range(0x300, 0x340), *range(0x3A3, 0x3CA),
    *range(0x410, 0x450), *range(0x5D0, 0x5EA), *range(0x905, 0x939), *range(0x1100, 0x1113), *range(0x1161, 0x1170),
    *range(0x3041, 0x3096), *range(0x4E00, 0x4F00), *range(0xAC00, 0xAD00), *range(0xFF01, 0xFF5F), 0x1F600, 0x1F408,
]  # fmt: skip
"""Letters of many scripts, accents, syllables and two pictures: nothing that changed in the last years."""


@pytest.fixture
def wcwidth():
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        pytest.skip("there is no locale C.UTF-8 here")
    yield LIBC.wcwidth
    locale.setlocale(locale.LC_CTYPE, before)


def test_a_character_takes_the_columns_that_the_c_library_gives_it(wcwidth):
    assert {chr(code): width(chr(code)) for code in KNOWN} == {chr(code): wcwidth(code) for code in KNOWN}


def test_a_text_is_padded_to_its_columns():
    assert padded("猫", 4) == "猫  " and padded("é", 3, right=True) == "  é" and padded("cats", 2) == "cats"


@pytest.mark.parametrize(
    ("text", "room", "short"),
    [("tabby", 5, "tabby"), ("tabby cat", 8, "tabby..."), ("猫猫猫猫", 7, "猫猫..."), ("猫猫猫猫", 6, "猫..."),
     ("tabby", 3, "..."), ("tabby", 2, ".."), ("tabby", 0, "")],
)  # fmt: skip
def test_a_text_that_is_too_long_ends_in_dots(text, room, short):
    assert shortened(text, room) == short and width(short) <= room


WORDS = st.text(st.sampled_from("ab猫- e\u0301"), max_size=60)


@given(WORDS, st.integers(4, 30))
def test_wrapped_lines_fit_and_hold_the_text(text, room):
    lines = wrapped(text, room)
    assert lines and all(width(line) <= room for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@given(WORDS, st.integers(1, 30))
def test_words_can_stay_whole(text, room):
    assert [word for line in wrapped(text, room, cut=False) for word in line.split()] == text.split()


def test_lines_are_broken_at_spaces_and_behind_hyphens():
    assert wrapped("a fully-connected layer", 12) == ["a fully-", "connected", "layer"]
    assert wrapped("/some/where-else/x.npy or", 6, cut=False) == ["/some/where-else/x.npy", "or"]
    assert longest_word("a fully-connected layer") == len("connected")
    assert wrapped("ZFNet-512 --json a--b", 4) == ["ZFNe", "t-51", "2", "--js", "on", "a--b"]
    assert wrapped("see --json", 7) == ["see", "--json"]
