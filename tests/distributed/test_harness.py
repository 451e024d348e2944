"""The harness itself: a rank that fails is heard, and one that hangs is ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributed.checks import fail_on_rank_1, reduced, wait_for_nobody
from distributed.harness import run_on_ranks

pytestmark = pytest.mark.slow


def test_the_traceback_of_a_rank_that_failed_is_shown(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="rank 1 has had enough"):
        run_on_ranks(fail_on_rank_1, 2, tmp_path)


def test_ranks_that_hang_are_ended(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="killed, or out of time"):
        run_on_ranks(wait_for_nobody, 2, tmp_path, timeout_seconds=8)


def test_results_come_in_the_order_of_ranks(tmp_path: Path) -> None:
    results = run_on_ranks(reduced, 2, tmp_path)
    assert [result["left"][0].item() for result in results] == [1.0, 2.0]
