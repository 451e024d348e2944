"""Processes that hang (SIGSTOP) are waited for so long and no longer, and named."""

from __future__ import annotations

import os
import re
import signal
import subprocess
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

#: Minutes; a busy machine needs some seconds to start.
PATIENCE = ("--patience", "0.2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_folder(tmp_path)
    return tmp_path


def test_a_rank_that_hangs_is_one_clear_line_and_the_run_goes_on_without_it(folder: Path) -> None:
    subprocess.run(under_torchrun(train("whole"), 2), cwd=folder, check=True, timeout=300)
    log, run = folder / "output.txt", folder / "run"
    words = under_torchrun(train("run", *PATIENCE), 2)
    process = start(words, folder, log)
    try:
        wait_until(lambda: last_step(run) >= SAVED_EVERY, process, log)
        ranks = {rank_of(child): child for child in children(process.pid)}
        os.kill(ranks["1"], signal.SIGSTOP)
        wait_until(lambda: events(run)[-1]["event"] == "error", process, log)
    finally:
        kill_all(process)
    said = log.read_text()
    assert "openmfr train (rank 0): run, " in said
    assert "found a rank that does not answer" in said
    assert "Traceback" not in said.partition("torch.distributed.elastic")[0]
    subprocess.run(words, cwd=folder, check=True, timeout=300)
    assert_same_weights(run, folder / "whole")


def rank_of(process: int) -> str:
    settings = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return next(s.partition(b"=")[2].decode() for s in settings if s.startswith(b"RANK="))


@pytest.mark.parametrize("ranks", [1, 2])
def test_workers_that_hang_are_named_and_the_run_stops_with_a_checkpoint(
    folder: Path, ranks: int
) -> None:
    log, run = folder / "output.txt", folder / "run"
    words = train("run", "--workers", "1", *PATIENCE)
    words = words if ranks == 1 else under_torchrun(words, 2)
    process = start(words, folder, log)
    try:
        wait_until(lambda: last_step(run) >= SAVED_EVERY, process, log)
        trainer = process.pid if ranks == 1 else children(process.pid)[0]
        (worker,) = decoders(trainer)
        os.kill(worker, signal.SIGSTOP)
        assert process.wait(120) == (2 if ranks == 1 else 1)
    finally:
        kill_all(process)
    said = log.read_text()
    named = re.findall(rf"no batch for \d+ s; .*{worker} is stopped", said)
    assert len(named) == 2, "a warning, and the end"
    last = events(run)[-2:]
    assert [row["event"] for row in last] == ["checkpoint", "error"]
    assert last[0]["step"] == last_step(run)
    assert f"step {last_step(run) + 1}: found no batch" in last[1]["message"]
    if ranks == 1:
        assert "Traceback" not in said
    subprocess.run(words, cwd=folder, check=True, timeout=300)
    assert last_step(run) == STEPS


def test_a_decoder_that_is_killed_is_one_clear_line_and_the_run_goes_on(folder: Path) -> None:
    log, run = folder / "output.txt", folder / "run"
    words = train("run", "--workers", "1")
    process = start(words, folder, log)
    try:
        wait_until(lambda: last_step(run) >= SAVED_EVERY, process, log)
        (worker,) = decoders(process.pid)
        os.kill(worker, signal.SIGKILL)
        assert process.wait(120) == 2
    finally:
        kill_all(process)
    said = log.read_text()
    assert "found a process that decodes was killed" in said
    assert "Traceback" not in said
    assert events(run)[-1]["event"] == "error"
    subprocess.run(words, cwd=folder, check=True, timeout=300)
    assert last_step(run) == STEPS


def decoders(trainer: int) -> list[int]:
    """Processes that a training forked: they have its own command line."""

    def command(process: int) -> bytes:
        return Path(f"/proc/{process}/cmdline").read_bytes()

    return [child for child in children(trainer) if command(child) == command(trainer)]
