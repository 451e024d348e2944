"""A network and a recipe of your own, by `module:name`, without touching openmfr.

    python examples/own_backbone.py --store faces --out runs/own

The command line takes the same names, once Python can import this file:

    PYTHONPATH=examples openmfr train own_backbone:small --store faces --out runs/own
"""

from __future__ import annotations

from pathlib import Path

import torch
import tyro
from torch import Tensor, nn

import openmfr


class Patches(nn.Module):
    """Cuts a face into 8 × 8 patches and mixes their features by convolutions.

    A backbone takes images (B, 3, H, W), values in −1 to 1, and returns embeddings (B, D), not
    normalised. It is called with those of the keywords `input_size`, `embedding_dim` and `dropout`
    that its `__init__` names.
    """

    def __init__(self, *, embedding_dim: int, channels: int = 96) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, channels, 8, stride=8)
        self.mix = nn.Sequential(*(_mixer(channels) for _ in range(4)))
        self.norm = nn.BatchNorm2d(channels)
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.embedding = nn.Linear(channels * 16, embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to embeddings (B, D)."""
        features = self.pool(self.norm(self.mix(self.patches(images))))
        embeddings: Tensor = self.embedding(torch.flatten(features, 1))
        return embeddings


def _mixer(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 5, padding=2, groups=channels),
        nn.BatchNorm2d(channels),
        nn.Conv2d(channels, channels, 1),
        nn.ReLU(),
    )


def small() -> openmfr.TrainConfig:
    """A recipe: a function that takes nothing and returns a configuration."""
    return openmfr.TrainConfig(
        backbone=openmfr.BackboneConfig(name="own_backbone:Patches", embedding_dim=128),
        head=openmfr.HeadConfig(kind="arcface", margin=0.2, scale=30.0),
        optimizer=openmfr.OptimizerConfig(learning_rate=0.2),
        schedule=openmfr.ScheduleConfig(epochs=2.0, warmup_epochs=0.2, shape="cosine"),
        augment=openmfr.AugmentConfig(brightness=0.1, contrast=0.2),
        masks=openmfr.MaskConfig(probability=0.2, kind="erase"),
        batch_size=32,
        holdout_identities=8,
    )


def main(*, store: Path, out: Path) -> Path:
    """Train the network by its recipe.

    Args:
        store: Folder of aligned faces, from `openmfr ingest` or `openmfr synth`.
        out: Folder of the run.

    Returns:
        The best checkpoint's folder.
    """
    training = openmfr.Training(config=openmfr.load_recipe("own_backbone:small"), store=store)
    for name, value in training.describe().items():
        print(f"{name:<14} {value}")
    return training.trainer(out, device=openmfr.choose_device(None)).fit()


if __name__ == "__main__":
    print(f"best checkpoint: {tyro.cli(main)}")
