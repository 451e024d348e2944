"""A cleaning pass, counted before it begins."""

from __future__ import annotations

import pytest

from openmfr.cli.plan import main as plan_command
from openmfr.errors import UserError
from openmfr.plan import DatasetSize, known_size
from openmfr.plan.cleaning import describe_cleaning, plan_cleaning

SIZE = DatasetSize(images=1_000, identities=100)


def test_reading_and_products_are_counted_and_ranks_share_the_products() -> None:
    alone = plan_cleaning(SIZE, dim=64, gflops=1.0, read_gb_per_second=2.0, readings=3)
    assert alone.read_bytes == 1_000 * 64 * 2 * 3
    assert alone.merge_multiply_adds == 3 * sum(range(101)) * 64
    assert alone.move_multiply_adds == (100 * (100 + 100) + 100**2 // 2) * 64
    assert alone.read_seconds == alone.read_bytes / 2e9
    assert alone.merge_seconds == 2 * alone.merge_multiply_adds / 1e9
    shared = plan_cleaning(SIZE, dim=64, gflops=1.0, read_gb_per_second=2.0, readings=3, ranks=4)
    assert alone.merge_seconds is not None
    assert alone.move_seconds is not None
    assert shared.merge_seconds == alone.merge_seconds / 4
    assert shared.move_seconds == alone.move_seconds / 4
    assert shared.read_seconds == alone.read_seconds


def test_without_a_speed_there_is_no_time() -> None:
    planned = plan_cleaning(SIZE)
    assert planned.read_seconds is None
    assert planned.merge_seconds is None
    assert planned.move_seconds is None
    assert not any(": " in line for line in describe_cleaning(planned, SIZE).values())


def test_memory_is_three_copies_of_the_centres_and_columns() -> None:
    size = known_size("webface42m")
    centers = 3 * size.identities * 512 * 4
    memory = plan_cleaning(size).memory_bytes
    none_doubtful = plan_cleaning(size, doubtful=1e-9).memory_bytes
    assert centers < none_doubtful < centers + 50 * size.images
    assert memory - none_doubtful == pytest.approx(0.1 * size.images * 512 * 10, rel=1e-6)
    assert plan_cleaning(size, ranks=8).memory_bytes == memory


def test_numbers_out_of_range_are_refused_together() -> None:
    with pytest.raises(UserError, match=r"(?s)ranks: found 0.*gflops: found -1"):
        plan_cleaning(SIZE, ranks=0, gflops=-1.0)


def test_the_command_answers_for_webface42m(capsys: pytest.CaptureFixture[str]) -> None:
    plan_command("cleaning", like="webface42m", ranks=16, memory_gib=48, gflops=60.0)
    shown = capsys.readouterr().out
    assert "42,474,558 images of 2,059,906 identities" in shown
    assert "TFLOP on each of 16 ranks: 113.2 min" in shown
    assert "fits into 48 GiB" in shown


def test_the_command_refuses_flags_of_the_other_plan() -> None:
    with pytest.raises(UserError, match="plan cleaning: found --batch-size"):
        plan_command("cleaning", like="ms1mv3", batch_size=4)
    with pytest.raises(UserError, match="plan tiny_real: found --gflops"):
        plan_command("tiny_real", like="ms1mv3", gflops=4.0)
    with pytest.raises(UserError, match="ranks: found 0"):
        plan_command("cleaning", like="ms1mv3", ranks=0)
