"""A refactor that moves the loss curve must say why: the first steps of a fixed run are stored.

The stored curve was written on another machine than yours, whose kernels may add in another order;
hence few steps, before such differences grow, and a tolerance of 1e-4. After a change that is meant
to move it, print the new one with `python tests/train/test_golden.py`.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toys import make_store

from openmfr.heads import HeadConfig
from openmfr.models import BackboneConfig
from openmfr.recipes import tiny_real
from openmfr.train import ScheduleConfig, Training

GOLDEN = [11.002346, 10.109159, 9.599105, 8.141094]


def losses(folder: Path) -> list[float]:
    """Loss of each of the first four steps of `tiny_real` in float32 on patterned pictures."""
    store = make_store(folder / "store", identities=10, images=8)
    recipe = replace(
        tiny_real(),
        backbone=BackboneConfig(name="tiny", input_size=32, embedding_dim=32),
        head=HeadConfig(kind="arcface", margin=0.3, scale=16.0),
        schedule=ScheduleConfig(epochs=1.0, warmup_epochs=0.2),
        batch_size=8,
        precision="float32",
        holdout_identities=0,
    )
    trainer = Training(config=recipe, store=store.path).trainer(
        folder / "run", device=torch.device("cpu"), workers=0
    )
    return [
        float(trainer.step(step, images, identity))
        for step, (images, identity) in zip(range(4), trainer.batches(0), strict=False)
    ]


def test_the_loss_curve_is_the_stored_one(tmp_path: Path) -> None:
    assert losses(tmp_path) == pytest.approx(GOLDEN, rel=1e-4)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        print([round(loss, 6) for loss in losses(Path(scratch))])  # noqa: T201
