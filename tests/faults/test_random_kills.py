"""Twenty SIGKILLs of each long command, at random moments: nothing is lost, nothing is wrong.

`OPENMFR_KILLS` says how many (`make test-nightly`: 100). A command is started again and again in
the same folder, killed with everything it started after a random time, and begun afresh in another
folder whenever it ends. What it ends in must be what an uninterrupted run makes, byte for byte.
"""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import toy_backbone
from faults.long_runs import kill_all
from PIL import Image
from toys import make_store

from openmfr.checkpoint import CheckpointFolder
from openmfr.data.damage import find_damage
from openmfr.data.store import Store
from openmfr.faces.align import template

pytestmark = pytest.mark.slow

logger = logging.getLogger(__name__)

KILLS = int(os.environ.get("OPENMFR_KILLS", "20"))
DEADLINE_SECONDS = 300
#: Times that a command may be over before the blow falls.
MISSED = 3 * KILLS + 20

RECIPE = """
from dataclasses import replace
from openmfr.recipes import tiny_synthetic
from openmfr.train import ScheduleConfig

def toy():
    recipe = tiny_synthetic()
    return replace(
        recipe,
        backbone=replace(recipe.backbone, name="toy_backbone:Toy", input_size=32, embedding_dim=16),
        schedule=ScheduleConfig(epochs=12, warmup_epochs=0.5, shape="cosine"),
        batch_size=16,
        holdout_identities=6,
        evaluate_epochs=6.0,
        checkpoint_steps=7,
    )
"""

Files = dict[str, bytes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_store(tmp_path / "store", identities=24, images=6)
    (tmp_path / "toy_recipe.py").write_text(RECIPE)
    assert toy_backbone.__file__ is not None
    (tmp_path / "toy_backbone.py").symlink_to(toy_backbone.__file__)
    return tmp_path


def openmfr(*words: str) -> list[str]:
    return [sys.executable, "-m", "openmfr", *words]


def start(words: Sequence[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            words,
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)},
        )


def run(words: Sequence[str], folder: Path) -> float:
    """Run to the end; return the seconds that it took."""
    begun = time.monotonic()
    process = start(words, folder)
    try:
        code = process.wait(DEADLINE_SECONDS)
    finally:
        kill_all(process)
    assert code == 0, (folder / "log").read_text()
    return time.monotonic() - begun


def kill_at_random(
    command: Callable[[str], list[str]], folder: Path, content: Callable[[Path], Files]
) -> None:
    """Kill a command `KILLS` times; compare every run that ends with an uninterrupted one."""
    seconds = run(command("whole"), folder)
    whole = content(folder / "whole")
    rng = random.Random(0)
    kills, missed, number = 0, 0, 0
    while kills < KILLS and missed < MISSED:
        process = start(command(f"run-{number}"), folder)
        try:
            code = process.wait(rng.uniform(0.1, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            kill_all(process)
            kills += 1
            continue
        assert code == 0, (folder / "log").read_text()
        assert content(folder / f"run-{number}") == whole
        missed, number = missed + 1, number + 1
    run(command(f"run-{number}"), folder)
    assert content(folder / f"run-{number}") == whole
    logger.info("%d kills; %d runs ended, each as the whole one", kills, number + 1)
    assert kills, "every run was over before it could be killed"


def store_files(out: Path) -> Files:
    """All of a store, which must be whole and have nothing left over beside it."""
    assert find_damage(Store(out), workers=1) == []
    files = (path for path in out.rglob("*") if path.is_file())
    return {
        str(path.relative_to(out)): path.read_bytes().replace(str(out).encode(), b"OUT")
        for path in files
    }


def run_files(out: Path) -> Files:
    """Weights and optimizer of a run's last checkpoint and of its best."""
    checkpoints = CheckpointFolder(out / "checkpoints")
    last = checkpoints.last()
    assert last is not None
    return {
        str(path.relative_to(out)): tensors_of(path.read_bytes())
        for checkpoint in (last, checkpoints.best())
        for path in checkpoint.rglob("*.safetensors")
    }


def tensors_of(safetensors: bytes) -> bytes:
    """The numbers alone: entries of the header come in any order."""
    return safetensors[8 + int.from_bytes(safetensors[:8], "little") :]


def rounds_files(out: Path) -> Files:
    """Labels, decisions and weights of all rounds."""
    names = ("*.parquet", "changes.csv", "round.json", "embeddings.npy")
    found = {str(path.relative_to(out)): path.read_bytes() for n in names for path in out.rglob(n)}
    for made in out.glob("round-*/run"):
        found |= {f"{made.parent.name}/{name}": raw for name, raw in run_files(made).items()}
    return found


def test_writing_a_store(tmp_path: Path) -> None:
    def command(out: str) -> list[str]:
        return openmfr("synth", out, "--identities", "48", "--images", "4", "--workers", "2")

    kill_at_random(command, tmp_path, store_files)


def test_ingest(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = ["path," + ",".join(f"x{i},y{i}" for i in range(5))]
    for number in range(240):
        path = tmp_path / "photos" / f"{number % 20}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((600, 600)).save(path)
        points = template(300) + rng.uniform(0, 200, 2)
        rows.append(f"{number % 20}/{number}.jpg," + ",".join(f"{p:.2f}" for p in points.ravel()))
    (tmp_path / "landmarks.csv").write_text("\n".join(rows))

    def command(out: str) -> list[str]:
        return openmfr("ingest", "photos", out, "--landmarks", "landmarks.csv", "--workers", "2")

    kill_at_random(command, tmp_path, store_files)


def train(out: str) -> list[str]:
    return ["train", "toy_recipe:toy", "--store", "store", "--out", out, "--device", "cpu"]


def test_training(folder: Path) -> None:
    kill_at_random(lambda out: openmfr(*train(out)), folder, run_files)


def test_training_on_three_ranks(folder: Path) -> None:
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "3", "-m", "openmfr"]
    kill_at_random(lambda out: [sys.executable, "-m", *launcher, *train(out)], folder, run_files)


def test_rounds_of_cleaning(folder: Path) -> None:
    def command(out: str) -> list[str]:
        words = ["--store", "store", "--device", "cpu", "--margin", "-1", "--hold-out", "6"]
        words += ["--replicates", "20", "--intra-threshold", "0.5", "--inter-threshold", "0.98"]
        words += ["--relabel-threshold", "1.5", "--rounds", "2"]
        return openmfr("clean", "rounds", "toy_recipe:toy", "--out", out, *words)

    kill_at_random(command, folder, rounds_files)
