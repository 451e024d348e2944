"""What ranks add up in a process's first step is what they would add up in any later one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from distributed.harness import Result, run_on_ranks

from openmfr.distributed import Ranks
from openmfr.recipes import tiny_synthetic
from openmfr.train.learner import Learner

BATCH, SIZE, IDENTITIES, TRIES = 5, 32, 18, 4


def first_and_second(ranks: Ranks) -> Result:
    """Gradients of one step, made twice: the learning rate of step 0 is 0, so nothing moves."""
    recipe = tiny_synthetic()
    backbone = replace(recipe.backbone, name="toy_backbone:Toy", input_size=SIZE, embedding_dim=16)
    found: Result = {"first": [], "second": []}
    for number in range(TRIES):
        learner = Learner(
            replace(recipe, backbone=backbone, batch_size=BATCH * ranks.size),
            identities=IDENTITIES,
            images=100,
            device=torch.device("cpu"),
            ranks=ranks,
        )
        generator = torch.Generator().manual_seed(10 * number + ranks.rank)
        images = torch.randint(256, (BATCH, SIZE, SIZE, 3), generator=generator).to(torch.uint8)
        identity = torch.randint(IDENTITIES, (BATCH,), generator=generator)
        for gradients in found.values():
            learner.step(0, images, identity)
            assert learner.learning_rate == 0
            weights = learner.backbone.parameters()
            gradients.append([w.grad.clone() for w in weights if w.grad is not None])
        statistics = dict(learner.backbone.named_buffers())
        assert statistics["norm.num_batches_tracked"] == len(found)
    return found


def test_a_resumed_training_adds_gradients_in_the_order_of_one_that_never_stopped(
    tmp_path: Path,
) -> None:
    # Three ranks: two numbers have one sum, whatever their order.
    for answer in run_on_ranks(first_and_second, 3, tmp_path):
        for first, second in zip(answer["first"], answer["second"], strict=True):
            assert len(first) == len(second) == 6
            assert all(one.equal(other) for one, other in zip(first, second, strict=True))
