"""Training that is killed with SIGKILL at any moment ends, when repeated, in the same weights."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toys import make_store

from openmfr.checkpoint import CheckpointFolder

pytestmark = pytest.mark.slow

RECIPE = """
from dataclasses import replace
from openmfr.recipes import tiny_synthetic
from openmfr.train import ScheduleConfig

def toy():
    recipe = tiny_synthetic()
    return replace(
        recipe,
        backbone=replace(recipe.backbone, input_size=32, embedding_dim=32),
        schedule=ScheduleConfig(epochs=6, warmup_epochs=0.5, shape="cosine"),
        batch_size=16,
        precision="bfloat16",
        holdout_identities=4,
        evaluate_epochs=3.0,
        checkpoint_steps=7,
    )
"""


def command(out: str) -> list[str]:
    verb = (
        "import sys; sys.path.insert(0, '.'); from openmfr.cli.main import main; sys.exit(main())"
    )
    words = ["train", "toy_recipe:toy", "--store", "store", "--out", out, "--device", "cpu"]
    return [sys.executable, "-c", verb, *words]


def final_weights(run: Path) -> list[bytes]:
    folder = CheckpointFolder(run / "checkpoints")
    last = folder.last()
    assert last is not None
    return [path.read_bytes() for c in (last, folder.best()) for path in sorted(c.glob("*.safe*"))]


def kill_at(folder: Path, out: str, step: int) -> bool:
    """Start training, kill it once a checkpoint of this step or a later one stands."""
    index = folder / out / "checkpoints" / "index.json"
    process = subprocess.Popen(command(out), cwd=folder)
    while process.poll() is None:
        reached = int(json.loads(index.read_text())["last"][5:]) if index.exists() else 0
        if reached >= step and (folder / out / "run.json").exists():
            process.kill()
            process.wait()
            return True
        time.sleep(0.005)
    return False


def test_killed_training_ends_in_bit_identical_weights(tmp_path: Path) -> None:
    make_store(tmp_path / "store", identities=14, images=10)
    (tmp_path / "toy_recipe.py").write_text(RECIPE)
    subprocess.run(command("whole"), cwd=tmp_path, check=True, timeout=300)
    kills = [kill_at(tmp_path, "killed", step) for step in (0, 7, 14, 21, 28)]
    subprocess.run(command("killed"), cwd=tmp_path, check=True, timeout=300)
    assert kills[0], "the run ended before it began"
    assert final_weights(tmp_path / "killed") == final_weights(tmp_path / "whole")
