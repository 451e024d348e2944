"""Training under torchrun: killed workers, killed machines, and other numbers of ranks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from faults.long_runs import children, kill_all, last_step, weights
from toys import make_store

from openmfr.checkpoint import CheckpointFolder

pytestmark = pytest.mark.slow

#: Long enough that a machine can be lost or join on the way; 100 images in batches of 16.
LONG_EPOCHS, LONG_STEPS = 120, 750

RECIPE = """
from dataclasses import replace
from openmfr.recipes import tiny_synthetic
from openmfr.train import ScheduleConfig

def toy():
    recipe = tiny_synthetic()
    return replace(
        recipe,
        backbone=replace(recipe.backbone, input_size=32, embedding_dim=32),
        schedule=ScheduleConfig(epochs=EPOCHS, warmup_epochs=0.5, shape="cosine"),
        batch_size=16,
        holdout_identities=4,
        evaluate_epochs=EPOCHS / 2,
        checkpoint_steps=7,
        background_checkpoints=True,
    )
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_store(tmp_path / "store", identities=14, images=10)
    (tmp_path / "toy_recipe.py").write_text(RECIPE.replace("EPOCHS", "6"))
    (tmp_path / "long_recipe.py").write_text(RECIPE.replace("EPOCHS", str(LONG_EPOCHS)))
    return tmp_path


def command(out: str, *launcher: str, recipe: str = "toy_recipe:toy") -> list[str]:
    words = ["-m", "openmfr", "train", recipe, "--store", "store", "--out", out, "--device", "cpu"]
    return [sys.executable, "-m", "torch.distributed.run", *launcher, *words]


def alone(ranks: int, *options: str) -> tuple[str, ...]:
    return ("--standalone", "--nproc-per-node", str(ranks), *options)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[[Sequence[str]], subprocess.Popen[str]]]:
    """Start commands in sessions of their own; what is left of them is killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def start(words: Sequence[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            words,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                "OMP_NUM_THREADS": "1",
                # Else the launcher publishes its address in the first round alone.
                "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
            },
        )
        started.append(process)
        return process

    yield start
    for process in started:
        kill_all(process)
        if process.stdout is not None:
            process.stdout.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_step(process: subprocess.Popen[str], run: Path, step: int) -> None:
    while last_step(run) < step:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def is_same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_a_killed_worker_is_replaced_and_the_weights_are_the_same(
    folder: Path, start: Callable[[Sequence[str]], subprocess.Popen[str]]
) -> None:
    whole = start(command("whole", *alone(2)))
    assert "best checkpoint" in finish(whole)
    process = start(command("killed", *alone(2, "--max-restarts", "2")))
    wait_for_step(process, folder / "killed", 7)
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    finish(process)
    assert is_same(folder / "whole", folder / "killed")


def test_a_run_of_two_ranks_goes_on_with_three_and_ends_with_one(
    folder: Path, start: Callable[[Sequence[str]], subprocess.Popen[str]]
) -> None:
    process = start(command("run", *alone(2)))
    wait_for_step(process, folder / "run", 7)
    kill_all(process)
    process = start(command("run", *alone(3)))
    wait_for_step(process, folder / "run", 21)
    kill_all(process)
    finish(start([*command("run")[:1], *command("run")[3:]]))
    assert last_step(folder / "run") == 38
    rows = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    losses = [row["loss"] for row in map(json.loads, rows) if "loss" in row]
    assert losses[-1] < 0.6 * losses[0]


def machine(port: int, *, is_host: bool) -> list[str]:
    """One machine of one or two that train together; they meet at the host."""
    launcher = ["--nnodes", "1:2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
    launcher += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--max-restarts", "3"]
    launcher += ["--rdzv-id", "faces", "--local-addr", "127.0.0.1"]
    launcher += ["--rdzv-conf", f"last_call_timeout=5,is_host={str(is_host).lower()}"]
    return command("run", *launcher, recipe="long_recipe:toy")


def ranks_that_wrote(run: Path) -> int:
    last = CheckpointFolder(run / "checkpoints").last()
    assert last is not None
    return len(list((last / "head").glob("*.safetensors")))


def test_training_goes_on_when_one_of_two_machines_is_lost(
    folder: Path, start: Callable[[Sequence[str]], subprocess.Popen[str]]
) -> None:
    port = free_port()
    first, second = (start(machine(port, is_host=is_host)) for is_host in (True, False))
    wait_for_step(first, folder / "run", 14)
    assert ranks_that_wrote(folder / "run") == 2
    kill_all(second)
    finish(first)
    assert last_step(folder / "run") == LONG_STEPS
    assert ranks_that_wrote(folder / "run") == 1


def test_a_machine_that_comes_later_joins_the_training(
    folder: Path, start: Callable[[Sequence[str]], subprocess.Popen[str]]
) -> None:
    port = free_port()
    first = start(machine(port, is_host=True))
    wait_for_step(first, folder / "run", 14)
    assert ranks_that_wrote(folder / "run") == 1
    second = start(machine(port, is_host=False))
    finish(first)
    finish(second)
    assert last_step(folder / "run") == LONG_STEPS
    assert ranks_that_wrote(folder / "run") == 2
