"""A toy training as a command, alone or under torchrun, for tests that disturb it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from toys import make_store

from openmfr.checkpoint import Checkpoint, CheckpointFolder

#: 100 images in batches of 16, long enough that a disturbance meets a training that runs.
EPOCHS, STEPS, SAVED_EVERY = 16, 100, 13

#: Far more than anything here takes.
DEADLINE_SECONDS = 300

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
        evaluate_epochs=EPOCHS,
        checkpoint_steps=SAVED_EVERY,
    )
"""


def make_folder(folder: Path) -> None:
    """Put a store and a recipe into a folder."""
    make_store(folder / "store", identities=14, images=10)
    text = RECIPE.replace("EPOCHS", str(EPOCHS)).replace("SAVED_EVERY", str(SAVED_EVERY))
    (folder / "toy_recipe.py").write_text(text)


def train(out: str, *words: str) -> list[str]:
    """The command of one process."""
    head = ["-m", "openmfr", "train", "toy_recipe:toy", "--store", "store", "--out", out]
    return [sys.executable, *head, "--device", "cpu", *words]


def under_torchrun(command: Sequence[str], ranks: int, *options: str) -> list[str]:
    """The same on several ranks of this machine."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return [command[0], *launcher, *options, *command[1:]]


def start(words: Sequence[str], folder: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; what it says goes to a file."""
    with log.open("wb") as file:
        return subprocess.Popen(
            words,
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def children(process: int) -> list[int]:
    """Processes that a process has started, from whichever of its threads."""
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it may end while one looks
            found += [int(child) for child in task.read_text().split()]
    return sorted(found)


def descendants(process: int) -> list[int]:
    """A process's children and theirs, in whatever groups they are."""
    return [each for child in children(process) for each in (child, *descendants(child))]


def kill_all(process: subprocess.Popen[Any]) -> None:
    """Kill a command and all that it started, stopped ones too, as a power cut would.

    The command first: it might start others.
    """
    if process.poll() is not None:
        return
    for victim in (process.pid, *descendants(process.pid)):
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    process.wait()


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for something that a running command does."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_so():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def last_step(run: Path) -> int:
    """Of the newest checkpoint; 0 without one."""
    index = run / "checkpoints" / "index.json"
    return int(json.loads(index.read_text())["last"][5:]) if index.exists() else 0


def weights(run: Path) -> Mapping[str, torch.Tensor]:
    """All that the newest checkpoint holds."""
    last = CheckpointFolder(run / "checkpoints").last()
    assert last is not None
    opened = Checkpoint.open(last)
    return {
        **opened.read_backbone(),
        **opened.read_training(),
        "prototypes": opened.read_prototypes(),
    }


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def events(run: Path) -> list[dict[str, Any]]:
    """What a run's log says to programs."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
