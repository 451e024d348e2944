"""Heads and SGD in float64, written from their definitions: slow, obvious, on one process."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from openmfr.heads import HeadConfig, StepSize


def lowered_cosine(config: HeadConfig, cosine: Tensor, quality: float) -> Tensor:
    """The target's cosine, a scalar, with the margin; as the papers write it, on the angle."""
    theta = torch.acos(cosine)
    if config.kind == "cosface":
        return cosine - config.margin
    if config.kind == "arcface":
        factor, angle, lower = 1.0, config.margin, 0.0
    elif config.kind == "combined":
        factor, angle, lower = config.margins
    elif config.kind == "arcface_torch":
        return cosine + (torch.cos(theta + config.margin) - cosine).detach()
    else:  # adaface
        inside = (theta - config.margin * quality).clamp(0, math.pi)
        return torch.cos(inside) - config.margin * (1 + quality)
    if factor * theta + angle < math.pi:
        return torch.cos(factor * theta + angle) - lower
    turn = math.cos((math.pi - angle) / factor)
    return cosine - 1 - turn - lower


@dataclass
class Quality:
    """AdaFace's image quality, with running statistics of the embeddings' lengths."""

    mean: float = 20.0
    std: float = 100.0

    def of_batch(self, embeddings: Tensor) -> list[float]:
        """Let the statistics follow a batch (G, D), then judge its images by them."""
        lengths = embeddings.detach().norm(dim=1).clamp(0.001, 100)
        self.mean += 0.01 * (lengths.mean().item() - self.mean)
        self.std += 0.01 * (lengths.std().item() - self.std)
        scaled = 0.333 * (lengths - self.mean) / (self.std + 0.001)
        return list(scaled.clamp(-1, 1).tolist())


def reference_loss(
    config: HeadConfig,
    embeddings: Tensor,
    prototypes: Tensor,
    identity: Tensor,
    quality: list[float] | None = None,
) -> Tensor:
    """Mean loss, image by image, in the type of its arguments (G, D), (C, D), (G,)."""
    losses = []
    for i, target in enumerate(identity.tolist()):
        if config.kind == "softmax":
            logits = prototypes @ embeddings[i]
        else:
            lengths = prototypes.norm(dim=1) * embeddings[i].norm()
            cosines = (prototypes @ embeddings[i]) / lengths
            true = lowered_cosine(config, cosines[target], quality[i] if quality else 0.0)
            is_target = torch.arange(len(cosines)) == target
            logits = config.scale * torch.where(is_target, true, cosines)
        losses.append(torch.logsumexp(logits, 0) - logits[target])
    return torch.stack(losses).mean()


@dataclass
class Outcome:
    """What a step gives: loss, the embeddings' gradient, and the prototypes after it."""

    loss: float
    gradient: Tensor
    prototypes: Tensor
    momentum: Tensor


@dataclass
class ReferenceHead:
    """A head in float64 that SGD moves.

    Attributes:
        config: Its loss.
        prototypes: (C, D), float64.
        is_sparse: Whether rows that take no part stay as they are, or move as with gradient zero.
    """

    config: HeadConfig
    prototypes: Tensor
    is_sparse: bool = True
    momentum: Tensor = field(init=False)
    quality: Quality = field(default_factory=Quality)

    def __post_init__(self) -> None:
        self.prototypes = self.prototypes.double()
        self.momentum = torch.zeros_like(self.prototypes)

    def step(
        self, embeddings: Tensor, identity: Tensor, size: StepSize, rows: Tensor | None = None
    ) -> Outcome:
        """Loss over `rows` (default: all), its gradient, and a step of SGD.

        Args:
            embeddings: (G, D), of all ranks.
            identity: (G,), among `rows`.
            size: Of the step.
            rows: (S,), rising: prototypes that take part.
        """
        if rows is None:
            rows = torch.arange(len(self.prototypes))
        embeddings = embeddings.double().requires_grad_()
        prototypes = self.prototypes[rows].requires_grad_()
        is_adaface = self.config.kind == "adaface"
        loss = reference_loss(
            self.config,
            embeddings,
            prototypes,
            torch.searchsorted(rows, identity),
            self.quality.of_batch(embeddings) if is_adaface else None,
        )
        by_embeddings, by_prototypes = torch.autograd.grad(loss, (embeddings, prototypes))
        gradient = torch.zeros_like(self.prototypes)
        gradient[rows] = by_prototypes
        moving = rows if self.is_sparse else torch.arange(len(self.prototypes))
        decayed = gradient[moving] + size.weight_decay * self.prototypes[moving]
        self.momentum[moving] = size.momentum * self.momentum[moving] + decayed
        self.prototypes[moving] -= size.learning_rate * self.momentum[moving]
        return Outcome(loss.item(), by_embeddings, self.prototypes.clone(), self.momentum.clone())


def relative_error(ours: Tensor, exact: Tensor) -> float:
    """‖ours − exact‖ / ‖exact‖, over all elements."""
    error = (ours.double() - exact.double()).norm() / exact.double().norm()
    return float(error.item())
