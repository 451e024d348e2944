"""Training steps that are run on 1, 2 and 3 ranks, and in float64 on none.

A scenario says which head trains, on which batches. All that is random in it follows from its own
numbers, so that every rank, and the test that compares, make the same prototypes and batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from distributed.harness import Result
from torch import Tensor

from openmfr.distributed import Ranks
from openmfr.heads import Head, HeadConfig, Step, StepSize, build_head

#: Of a scenario's own numbers, the identities of a batch.
Choice = Callable[["Scenario", torch.Generator], Tensor]


def spread(scenario: Scenario, generator: torch.Generator) -> Tensor:
    """Any identity."""
    return torch.randint(scenario.identities, (scenario.images,), generator=generator)


def first_few(scenario: Scenario, generator: torch.Generator) -> Tensor:
    """The first three identities: all on one rank, the others have no positives."""
    return torch.randint(3, (scenario.images,), generator=generator)


def last_one(scenario: Scenario, generator: torch.Generator) -> Tensor:
    """The last identity alone, in every image."""
    return torch.full((scenario.images,), scenario.identities - 1)


def every_one(scenario: Scenario, generator: torch.Generator) -> Tensor:
    """Each identity once, as far as they go."""
    return torch.randperm(scenario.images, generator=generator) % scenario.identities


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Some steps of a head.

    Attributes:
        config: Of the head.
        identities: C, which neither 2 nor 3 divides unless said otherwise.
        images: G, which neither divides.
        dim: D.
        steps: How many.
        choose: Identities of a batch.
        is_aligned: Embeddings are ± the prototypes that their identities start with.
        has_zeros: One embedding and one prototype in the batch are zero.
        skipped: The step, from 0, whose backbone gradient overflows.
        weight_decay: Of the prototypes; 0 leaves the gradient alone in the first momentum.
        grad_scale: Factor of the loss before its backward pass, as a GradScaler has it.
        seed: Of everything random.
    """

    config: HeadConfig
    identities: int = 101
    images: int = 31
    dim: int = 24
    steps: int = 4
    choose: Choice = spread
    is_aligned: bool = False
    has_zeros: bool = False
    skipped: int | None = None
    weight_decay: float = 5e-3
    grad_scale: float = 1.0
    seed: int = 0

    def prototypes(self) -> Tensor:
        """Those of all identities before the first step, (C, D), float32."""
        generator = torch.Generator().manual_seed(self.seed)
        prototypes = torch.randn(self.identities, self.dim, generator=generator)
        if self.has_zeros:
            prototypes[self.batch(0)[1][3]] = 0
        return prototypes

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Embeddings (G, D), float32, of about a third of their norm along their prototypes."""
        generator = torch.Generator().manual_seed(1000 * (self.seed + 1) + step)
        identity = self.choose(self, generator)
        embeddings = torch.randn(self.images, self.dim, generator=generator)
        own = torch.Generator().manual_seed(self.seed)
        embeddings += torch.randn(self.identities, self.dim, generator=own)[identity] * 0.4
        if self.is_aligned:
            sign = torch.where(torch.arange(self.images) % 2 == 0, 1.0, -1.0)
            embeddings = self.prototypes()[identity] * sign[:, None]
        if self.has_zeros:
            embeddings[1] = 0
        return embeddings, identity

    def size(self, step: int) -> StepSize:
        """Of a step; the learning rate changes."""
        return StepSize(
            learning_rate=0.1 / (1 + step), momentum=0.9, weight_decay=self.weight_decay
        )

    def build(self, ranks: Ranks) -> Head:
        """This rank's head, with the scenario's prototypes."""
        head = build_head(
            self.config,
            num_identities=self.identities,
            embedding_dim=self.dim,
            ranks=ranks,
            seed=self.seed,
        )
        with torch.no_grad():
            head.sharded_state()["prototypes"].copy_(self.prototypes()[head.first : head.last])
        return head


def run_scenario(scenario: Scenario, ranks: Ranks) -> Result:
    """Take its steps, as the trainer does.

    Returns:
        Of each step: loss; gradient, this rank's rows; traffic; prototypes and momentum of the
        shard after it. Of AdaFace also the statistics at the end.
    """
    head = scenario.build(ranks)
    optimizer = _Optimizer(head)
    losses, gradients, prototypes, momentum, traffic = [], [], [], [], []
    for number in range(scenario.steps):
        ranks.traffic.clear()
        embeddings, identity = scenario.batch(number)
        first, last = ranks.bounds(scenario.images)
        own = embeddings[first:last].clone().requires_grad_()
        size = scenario.size(number)
        step = Step(number=number, size=size, images=scenario.images)
        loss = head(own, identity[first:last], step)
        (loss * scenario.grad_scale).backward()
        is_skipped = number == scenario.skipped
        optimizer.step(size, grad_scale=scenario.grad_scale, is_skipped=is_skipped)
        head.finish_step(is_skipped=is_skipped)
        assert own.grad is not None
        losses.append(loss.item())
        gradients.append(own.grad / scenario.grad_scale)
        state = head.sharded_state()
        prototypes.append(state["prototypes"].detach().clone())
        momentum.append(state.get("momentum", torch.empty(0)).clone())
        traffic.append(dict(ranks.traffic))
    head.settle()
    return {
        "losses": losses,
        "gradients": gradients,
        "prototypes": prototypes,
        "momentum": momentum,
        "settled": head.sharded_state()["prototypes"].detach().clone(),
        "traffic": traffic,
        "statistics": {
            name: value.item() for name, value in head.named_buffers() if not value.ndim
        },
    }


class _Optimizer:
    """Moves what a head leaves to the optimizer: the prototypes of the dense one."""

    def __init__(self, head: Head) -> None:
        self.parameters = list(head.parameters())
        self.sgd = torch.optim.SGD(self.parameters, lr=0.1) if self.parameters else None

    def step(self, size: StepSize, *, grad_scale: float, is_skipped: bool) -> None:
        if self.sgd is None:
            return
        for group in self.sgd.param_groups:
            group["lr"], group["momentum"] = size.learning_rate, size.momentum
            group["weight_decay"] = size.weight_decay
        for parameter in self.parameters:
            assert parameter.grad is not None
            parameter.grad /= grad_scale
        if not is_skipped:
            self.sgd.step()
        self.sgd.zero_grad()


KINDS = {
    "softmax": HeadConfig(kind="softmax"),
    "cosface": HeadConfig(kind="cosface", margin=0.4, scale=32),
    "arcface": HeadConfig(kind="arcface", margin=0.5, scale=32),
    "arcface_torch": HeadConfig(kind="arcface_torch", margin=0.5, scale=32),
    "combined": HeadConfig(kind="combined", margins=(1.35, 0.3, 0.2), scale=32),
    "adaface": HeadConfig(kind="adaface", margin=0.4, scale=32),
}
