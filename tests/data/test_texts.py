"""Texts kept as numbers answer as numpy's strings do."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openmfr.data.texts import Texts

WORDS = st.lists(st.sampled_from(["", "a", "ab", "held out", "größer"]), min_size=1, max_size=30)


@given(WORDS, st.data())
def test_questions_and_changes_give_what_strings_give(
    values: list[str], data: st.DataObject
) -> None:
    texts, strings = Texts.of(values), np.array(values, dtype=np.str_)
    rows = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    other = data.draw(st.permutations(values))
    assert np.array_equal(np.array(texts), strings)
    assert np.array_equal(texts == "ab", strings == "ab")
    assert np.array_equal(texts != "nobody's", strings != "nobody's")
    assert np.array_equal(texts.startswith("a"), np.char.startswith(strings, "a"))
    assert np.array_equal(texts.isin(["", "a"]), np.isin(strings, ["", "a"]))
    assert np.array_equal(texts == Texts.of(other), strings == np.array(other))
    assert texts[rows].tolist() == strings[rows].tolist()
    assert texts.counts() == Counter(values)
    assert texts.replaced(rows, "new").tolist() == np.where(rows, "new", strings).tolist()
    changed = texts[:].replaced(rows, Texts.of(other))
    assert changed.tolist() == np.where(rows, np.array(other), strings).tolist()


def test_one_text_for_all_rows_takes_no_memory() -> None:
    texts = Texts.constant("surgical", 10**12)
    assert (len(texts), texts[10**11]) == (10**12, "surgical")


def test_many_texts_are_numbered_without_a_clash() -> None:
    values = [f"merged into identity {i}" for i in range(70_000)]
    texts = Texts.of(values)
    assert texts[-1] == values[-1]
    assert texts.replaced(np.arange(70_000) == 5, "dropped")[69_999] == values[69_999]


def test_rows_cannot_be_edited() -> None:
    with pytest.raises(ValueError, match="read-only"):
        Texts.of(["a", "b"]).codes[0] = 1


@pytest.mark.parametrize("rows", [np.array([0, 1]), np.array([True])])
def test_rows_that_do_not_fit_are_refused(rows: npt.NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="rows of shape"):
        Texts.of(["a", "b"]).replaced(rows, "c")


def test_numbers_without_a_text_are_refused() -> None:
    with pytest.raises(ValueError, match="outside 0 to 1"):
        Texts(np.array([0, 2]), ["a", "b"])
    with pytest.raises(ValueError, match="outside"):
        Texts(np.array([-1]), ["a", "b"])


def test_a_long_table_is_that_of_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openmfr.data.texts._CHUNK", 3)
    values = [str(i % 4) for i in range(11)]
    assert Texts.of(np.array(values)).tolist() == values
