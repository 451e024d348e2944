"""What is peculiar to the fused head: it moves its own prototypes, once, and holds no gradient."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from heads.reference import relative_error
from torch import Tensor

from openmfr.distributed import Ranks
from openmfr.heads import FusedSoftmax, HeadConfig, NotFiniteError, Step, StepSize, build_head

SIZE = StepSize(learning_rate=0.1, momentum=0.9, weight_decay=1e-3)
IDENTITIES, DIM, BATCH = 37, 12, 9


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(BATCH, DIM, generator=generator).requires_grad_()
    return embeddings, torch.randint(IDENTITIES, (BATCH,), generator=generator)


def head_of(config: HeadConfig) -> FusedSoftmax:
    head = build_head(config, num_identities=IDENTITIES, embedding_dim=DIM)
    assert isinstance(head, FusedSoftmax)
    return head


def test_a_forward_pass_alone_moves_nothing() -> None:
    head = head_of(HeadConfig())
    before = {name: rows.clone() for name, rows in head.state_dict().items()}
    head(*batch(), Step(size=SIZE))
    assert all(rows.equal(before[name]) for name, rows in head.state_dict().items())


def test_a_second_backward_pass_is_refused_and_moves_nothing() -> None:
    head = head_of(HeadConfig())
    loss = head(*batch(), Step(size=SIZE))
    loss.backward(retain_graph=True)
    moved = head.prototypes.clone()
    with pytest.raises(RuntimeError, match="backward was called twice"):
        loss.backward()
    assert head.prototypes.equal(moved)


def test_no_optimizer_gets_the_prototypes() -> None:
    head = head_of(HeadConfig())
    assert list(head.parameters()) == []
    assert set(head.state_dict()) == set(head.sharded_state()) == {"prototypes", "momentum"}


@pytest.mark.parametrize("block", [1, 5, 36, 37, 38, 10_000])
@pytest.mark.parametrize("backward", ["recompute", "keep_exp"])
def test_the_result_does_not_depend_on_the_block(block: int, backward: str) -> None:
    results = []
    for size in (block, 1024):
        head = head_of(HeadConfig(block=size, backward=backward))  # type: ignore[arg-type]
        for step in range(2):
            embeddings, identity = batch(step)
            loss = head(embeddings, identity, Step(number=step, size=SIZE))
            loss.backward()
        assert embeddings.grad is not None
        results.append((loss.item(), embeddings.grad, head.momentum))
    (loss_, gradient, momentum), (other_loss, other_gradient, other_momentum) = results
    bound = 1e-5 if backward == "recompute" else 1e-3
    assert loss_ == pytest.approx(other_loss, rel=bound)
    assert relative_error(gradient, other_gradient) < bound
    assert relative_error(momentum, other_momentum) < bound


def test_a_deferred_update_waits_for_the_end_of_the_step() -> None:
    at_once, deferred = head_of(HeadConfig()), head_of(HeadConfig(update="deferred"))
    before = deferred.prototypes.clone()
    for head in (at_once, deferred):
        head(*batch(), Step(size=SIZE)).backward()
    assert deferred.prototypes.equal(before)
    assert not deferred.momentum.any()
    deferred.finish_step(is_skipped=False)
    assert relative_error(deferred.prototypes, at_once.prototypes) < 1e-6
    assert relative_error(deferred.momentum, at_once.momentum) < 1e-6


def test_a_step_is_finished_once() -> None:
    head = head_of(HeadConfig(update="deferred"))
    head(*batch(), Step(size=SIZE)).backward()
    head.finish_step(is_skipped=False)
    moved = head.prototypes.clone()
    head.finish_step(is_skipped=False)
    assert head.prototypes.equal(moved)


def test_a_skipped_step_is_forgotten() -> None:
    head = head_of(HeadConfig(update="deferred"))
    before = head.prototypes.clone()
    head(*batch(), Step(size=SIZE)).backward()
    head.finish_step(is_skipped=True)
    head.finish_step(is_skipped=False)
    assert head.prototypes.equal(before)
    assert not head.momentum.any()


def test_finishing_a_step_that_has_moved_already_changes_nothing() -> None:
    head = head_of(HeadConfig())
    head(*batch(), Step(size=SIZE)).backward()
    moved = head.prototypes.clone()
    head.finish_step(is_skipped=True)
    assert head.prototypes.equal(moved)


def test_prototypes_that_are_not_finite_are_noticed_too() -> None:
    head = head_of(HeadConfig())
    head.prototypes[3, 1] = float("nan")
    with pytest.raises(NotFiniteError) as caught:
        head(*batch(), Step(size=SIZE))
    assert caught.value.rows == list(range(BATCH))
    assert not head.momentum.any()


@pytest.mark.parametrize("path", ["fused", "dense"])
@pytest.mark.parametrize("kind", ["softmax", "cosface", "adaface"])
def test_a_batch_of_one_image_has_a_loss(path: Literal["fused", "dense"], kind: str) -> None:
    config = HeadConfig(kind=kind, path=path)
    head = build_head(config, num_identities=5, embedding_dim=4)
    loss = head(torch.ones(1, 4), torch.tensor([2]))
    assert loss.isfinite()
    assert all(buffer.isfinite().all() for buffer in head.buffers())


def test_a_head_on_the_meta_device_needs_no_memory() -> None:
    with torch.device("meta"):
        head = build_head(
            HeadConfig(), num_identities=2_059_906, embedding_dim=512, ranks=Ranks(47, 48)
        )
    assert head.sharded_state()["prototypes"].shape == (2_059_906 - 47 * 42_915, 512)


@pytest.mark.parametrize("has_momentum", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_a_step_is_that_of_torchs_sgd(has_momentum: bool, weight_decay: float) -> None:
    size = StepSize(
        learning_rate=0.3, momentum=0.8 if has_momentum else 0.0, weight_decay=weight_decay
    )
    fused = head_of(HeadConfig(kind="softmax"))
    dense = build_head(
        HeadConfig(kind="softmax", path="dense"), num_identities=IDENTITIES, embedding_dim=DIM
    )
    sgd = torch.optim.SGD(
        dense.parameters(), lr=0.3, momentum=size.momentum, weight_decay=weight_decay
    )
    for step in range(5):
        for head in (fused, dense):
            head(*batch(step), Step(number=step, size=size)).backward()
        sgd.step()
        sgd.zero_grad()
    assert relative_error(fused.prototypes, dense.get_parameter("prototypes")) < 1e-6
