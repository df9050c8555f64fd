"""Units, shortened names, and blocks that fit a line."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcharr.explain.page import Grid, Prose, as_text
from dispatcharr.explain.text import (
    clip,
    in_bytes,
    in_ratio,
    in_seconds,
    plural,
    shape_of,
    shorten,
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (3.2e-10, "0.32 ns"),
        (4.56e-8, "45.6 ns"),
        (9.996e-7, "1.00 us"),
        (1.234e-4, "123 us"),
        (0.0999, "99.9 ms"),
        (0.09997, "100 ms"),
        (0.9996, "1.00 s"),
        (12.34, "12.3 s"),
        (12345.0, "12,345 s"),
        (-0.002, "-2.00 ms"),
        (None, "-"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_seconds_have_three_digits_and_a_unit(seconds, words):
    assert in_seconds(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (999_999, "1.00 MB"),
        (80_000_000, "80.0 MB"),
        (3.2e9, "3.20 GB"),
        (5e13, "50.0 TB"),
    ],
)
def test_memory_counts_in_powers_of_ten(count, words):
    assert in_bytes(count) == words


def test_ratios_without_a_whole_are_left_out():
    assert in_ratio(3.0, 2.0) == "1.50x"
    assert in_ratio(1.0, 0.0) == "-"
    assert in_ratio(math.inf, 1.0) == "-"
    assert in_ratio(1.0, 1e6) == "<0.01x"
    assert in_ratio(12345.0, 1.0) == "12,345x"


def test_counts_agree_with_their_nouns():
    assert plural(1, "kernel") == "1 kernel"
    assert plural(0, "kernel") == "0 kernels"
    assert shape_of((2, 3)) == "2 x 3 = 6 elements"


def test_long_programs_are_shortened_in_the_middle_with_a_count():
    names = ["sin", "square", "cos", "square", "add", "sum"]
    assert shorten(names, 40) == "sin square cos square add sum"
    assert shorten(names, 24) == "sin square cos (+2) sum"
    assert shorten(names, 16) == "sin (+4) sum"
    assert shorten(names, 9) == "(+5) sum"


@given(
    st.lists(st.text("abcdefg", min_size=1, max_size=14), max_size=70),
    st.integers(min_value=0, max_value=80),
)
def test_shortened_programs_fit_and_count_right(names, width):
    text = shorten(names, width)
    assert len(text) <= width
    if "(+" in text and text.endswith(names[-1]) and len(text.split()) > 2:
        shown = [word for word in text.split() if not word.startswith("(+")]
        counted = int(text[text.index("(+") + 2 : text.index(")")])
        assert len(shown) + counted == len(names)
        assert shown[0] == names[0]


def test_clipped_text_stays_on_one_line():
    assert clip("two\nlines", 20) == "two lines"
    assert clip("abcdefgh", 5) == "abc.."
    assert clip("abc", 0) == ""


_words = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs")), max_size=120)


@given(
    st.lists(st.tuples(_words, st.lists(_words, max_size=9).map(tuple), _words), max_size=6),
    st.sampled_from(["lrl", "rll", "lll", "llr"]),
)
def test_any_grid_fits_80_columns(rows, align):
    grid = Grid(tuple(rows), align, ("one", "two", "three"), note="n" * 100, title="t" * 100)
    lines = as_text([grid, Prose("word " * 40, indent=6)]).splitlines()
    assert max(map(len, lines)) <= 80


def test_a_last_column_of_text_wraps_below_itself():
    grid = Grid((("a", "long " * 30), ("b", "short")), "ll")
    first, second, last = as_text([grid]).splitlines()
    assert first.startswith("  a  long long")
    assert second.startswith("     long")
    assert last == "  b  short"
