"""A training that SIGTERM ends leaves a checkpoint and exits with 75; repeated, it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.long_runs import (
    SAVED_EVERY,
    STEPS,
    assert_same_weights,
    children,
    events,
    kill_all,
    last_step,
    make_folder,
    start,
    train,
    under_torchrun,
    wait_until,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preempted")
    make_folder(folder)
    for ranks in (1, 2):
        words = train(f"whole-{ranks}")
        words = words if ranks == 1 else under_torchrun(words, ranks)
        subprocess.run(words, cwd=folder, check=True, timeout=300)
    return folder


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "output.txt"


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Commands to kill at the end, if they are not at theirs."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        kill_all(process)


def has_rows(run: Path, rows: int) -> bool:
    metrics = run / "metrics.jsonl"
    return metrics.exists() and len(metrics.read_text().splitlines()) >= rows


def test_sigterm_writes_a_checkpoint_and_exits_with_75_and_the_run_goes_on(
    folder: Path, log: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    run = folder / "alone"
    stops = 0
    for rows in (1, 3, 6):
        started.append(process := start(train("alone", "--workers", "1"), folder, log))
        wait_until(lambda rows=rows: has_rows(run, rows), process, log)  # type: ignore[misc]
        process.terminate()
        assert process.wait(60) == 75
        said = log.read_text()
        assert "asked to stop (SIGTERM)" in said
        assert "Traceback" not in said
        last = events(run)[-1]
        assert last["event"] == "preempted"
        assert f"step {last_step(run) + 1}:" in last["message"], "not the step it was in"
        stops += bool(last_step(run) % SAVED_EVERY)
    assert stops, "every stop met a checkpoint that was due anyway"
    subprocess.run(train("alone"), cwd=folder, check=True, timeout=300)
    assert_same_weights(run, folder / "whole-1")
    assert [row["event"] for row in events(run)].count("resume") == 3


@pytest.mark.parametrize("whom", ["launcher", "one rank"])
def test_all_ranks_stop_at_one_step_whichever_of_them_is_asked(
    folder: Path, log: Path, started: list[subprocess.Popen[bytes]], whom: str
) -> None:
    out = f"ranks-{whom.partition(' ')[0]}"
    words = under_torchrun(train(out), 2)
    started.append(process := start(words, folder, log))
    wait_until(lambda: has_rows(folder / out, 3), process, log)
    asked = process.pid if whom == "launcher" else children(process.pid)[-1]
    os.kill(asked, signal.SIGTERM)
    assert process.wait(60) == 1  # torchrun's own code for whatever ended its workers
    said = log.read_text()
    assert "asked to stop (SIGTERM)" in said
    assert "rank that is gone" not in said
    assert events(folder / out)[-1]["event"] == "preempted"
    if whom == "one rank":
        assert "exitcode  : 75" in said
    reached = last_step(folder / out)
    assert 0 < reached < STEPS
    subprocess.run(words, cwd=folder, check=True, timeout=300)
    assert events(folder / out)[-1]["step"] == STEPS
    assert_same_weights(folder / out, folder / "whole-2")


def test_cleaning_rounds_stop_in_a_training_with_the_same_code_and_go_on(
    folder: Path, log: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    words = [*train("rounds"), "--rounds", "1", "--hold-out", "4", "--replicates", "10"]
    words[words.index("train") : words.index("train") + 1] = ["clean", "rounds"]
    run = folder / "rounds" / "round-1" / "run"
    started.append(process := start(words, folder, log))
    wait_until(lambda: has_rows(run, 2), process, log)
    process.terminate()
    assert process.wait(60) == 75
    assert "Traceback" not in log.read_text()
    assert events(folder / "rounds")[-1]["event"] == "preempted"
    assert 0 < last_step(run) < STEPS
    subprocess.run(words, cwd=folder, check=True, timeout=300)
    assert last_step(run) == STEPS


def test_a_search_stops_with_the_same_code(
    folder: Path, log: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    words = ["search", "run", "store", "found", "--target-macs", "30e6", "--device", "cpu"]
    words += ["--trials", "1", "--identities", "12", "--images", "6", "--batch-size", "8"]
    command = [*train("")[:3], *words]
    started.append(process := start([*command, "--steps", "300"], folder, log))
    wait_until(lambda: any((folder / "found" / "workers").glob("*")), process, log)
    process.terminate()
    assert process.wait(60) == 75
    said = log.read_text()
    assert "asked to stop (SIGTERM)" in said
    assert "Traceback" not in said
