"""The paper's tables: as printed, and never mixed up with our rows."""

from __future__ import annotations

import pytest

from openmfr.errors import UserError
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.published import TABLES


def test_every_row_is_as_wide_as_its_table() -> None:
    for table in TABLES.values():
        assert {len(row.values) for row in table.rows} == {len(table.columns)}


def test_figures_stand_as_printed() -> None:
    printed = {
        "1": "| RIDNet-M (SenseTime) | 94.731 | 93.123 | 98.366 | 99.092 | 98.679 | 92.322 |",
        "2": "| Alibaba DAMO & NUS & NTU & AMS & CASIA | lost | 0.1036 | 0.0539 | 0.0145 |",
        "7": "| SE-ResNet-50 | 94.3 | 95.64 | 74.51 | 85.49 | 81.74 | 56.02 |",
        "8": "| RIDNet-L | 95.972 | 94.042 | 98.63 | 99.233 | 99.196 | 93.339 | 98.691 |",
    }
    for number, line in printed.items():
        assert line in TABLES[number].markdown()


def test_our_row_says_what_it_was_measured_on_and_keeps_its_flag() -> None:
    flagged = Measured(value=0.9, low=0.85, high=0.95, flag="rests on 3 expected false matches")
    table = TABLES["1"].beside({"ours": {"Mask": flagged}}, measured_on="a small set")
    last = table.markdown().splitlines()[-1]
    assert last.startswith("| ours | 90.00 % [85.00, 95.00] ! rests on 3 expected false matches |")
    assert last.endswith("| a small set |")
    assert len(TABLES["1"].rows) == 3  # the published table itself stays as it is
    assert "a small set" in table.html()


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(UserError, match="SFR-Wild"):
        TABLES["2"].beside({"ours": {"SFR wild": Measured(value=0.1)}}, measured_on="x")
