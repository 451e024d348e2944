"""A table says of each number why it must not be trusted, and says it once."""

from __future__ import annotations

from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.table_report import Table


def test_a_flag_of_many_numbers_stands_below_the_table_and_that_of_one_beside_it() -> None:
    table = Table(
        caption="Rates",
        header=("Model", "bare", "masked"),
        rows={
            "a": [Measured(value=0.1, flag="one seed"), Measured(value=0.2, flag="few pairs")],
            "b": [Measured(value=0.3, flag="one seed"), "9"],
            "c": [Measured(value=None, flag="no pairs"), Measured(value=None, flag="no pairs")],
        },
    )
    lines = table.markdown().splitlines()
    assert "| a | 10.00 % ! 1 | 20.00 % ! few pairs |" in lines
    assert "| b | 30.00 % ! 1 | 9 |" in lines
    assert "| c | no pairs | no pairs |" in lines  # a refused number is its reason
    assert lines[-1] == "! 1: one seed"
    assert table.markdown().count("one seed") == 1
