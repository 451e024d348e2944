"""Checkpoints for tests that need no training, and networks of users that cannot be exported."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from toy_backbone import Toy
from toys import pattern_face

from openmfr.checkpoint import Checkpoint, CheckpointInfo, save_checkpoint
from openmfr.models import BackboneConfig, build_backbone, to_input


def make_checkpoint(path: Path, config: BackboneConfig, *, face_size: int = 32) -> Checkpoint:
    """Write a network with drawn weights whose batch norms have seen a few patterned pictures."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = build_backbone(config)
    faces = [pattern_face(i, j, face_size) for i in range(8) for j in range(2)]
    images = to_input(torch.stack([torch.from_numpy(face) for face in faces]), config.input_size)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all batches: here that of one
    with torch.no_grad():
        backbone.train()(images)
    info = CheckpointInfo(
        backbone=config, step=7, images_seen=70, identities=8, store="a" * 16, labels="b" * 16
    )
    save_checkpoint(path, info, backbone=backbone.state_dict(), training={}, shards={})
    return Checkpoint.open(path)


class Small(nn.Module):
    """All kinds of layers that our own backbones have, and none too many."""

    def __init__(self, input_size: int, embedding_dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.PReLU(16))
        self.block = nn.Sequential(
            nn.BatchNorm2d(16),
            nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
        )
        self.down = nn.Sequential(nn.Conv2d(16, 32, 3, stride=4, padding=1), nn.PReLU(32))
        self.linear = nn.Linear(32 * (input_size // 4) ** 2, embedding_dim)
        self.norm = nn.BatchNorm1d(embedding_dim)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images)
        features = self.down(features + self.block(features))
        embeddings: Tensor = self.norm(self.linear(features.flatten(1)))
        return embeddings


class Noisy(Toy):
    """Adds noise to its embeddings, so that no two calls agree."""

    def forward(self, images: Tensor) -> Tensor:
        embeddings = super().forward(images)
        return embeddings + torch.rand_like(embeddings)


class Undecided(Toy):
    """Does another thing for bright images than for dark ones."""

    def forward(self, images: Tensor) -> Tensor:
        if images.mean() > 2:
            return super().forward(-images)
        return super().forward(images)
