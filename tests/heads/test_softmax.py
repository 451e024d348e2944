"""The dense head: its loss and gradients against float64, its types, and that it teaches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openmfr.errors import UserError
from openmfr.heads import Head, HeadConfig, MarginSoftmax, build_head

CONFIGS = [
    HeadConfig(kind="softmax"),
    HeadConfig(kind="cosface", margin=0.4, scale=64),
    HeadConfig(kind="cosface", margin=0.0, scale=16),
    HeadConfig(kind="arcface", margin=0.5, scale=64),
]

IDENTITIES, DIM, BATCH = 11, 24, 180


def reference_loss(
    config: HeadConfig, embeddings: Tensor, prototypes: Tensor, identity: Tensor
) -> Tensor:
    """Row by row from the definition, in the type of its arguments."""
    losses = []
    for embedding, target in zip(embeddings, identity.tolist(), strict=True):
        if config.kind == "softmax":
            logits = prototypes @ embedding
        else:
            cosines = (prototypes @ embedding) / (prototypes.norm(dim=1) * embedding.norm())
            true = cosines[target]
            if config.kind == "cosface":
                true = true - config.margin
            elif torch.acos(true) + config.margin < math.pi:
                true = torch.cos(torch.acos(true) + config.margin)
            else:
                true = true - (1 - math.cos(config.margin))
            is_target = torch.arange(len(cosines)) == target
            logits = config.scale * torch.where(is_target, true, cosines)
        losses.append(torch.logsumexp(logits, 0) - logits[target])
    return torch.stack(losses).mean()


def head_and_batch_at_all_angles(config: HeadConfig) -> tuple[MarginSoftmax, Tensor, Tensor]:
    """A head, and embeddings that lie 0.5 to 179.5 degrees from their prototypes, of any length."""
    generator = torch.Generator().manual_seed(3)
    head = MarginSoftmax(config, num_identities=IDENTITIES, embedding_dim=DIM)
    with torch.no_grad():
        head.prototypes.normal_(generator=generator)
    identity = torch.arange(BATCH) % IDENTITIES
    own = F.normalize(head.prototypes.detach()[identity])
    across = torch.randn(BATCH, DIM, generator=generator)
    across = F.normalize(across - (across * own).sum(1, keepdim=True) * own)
    angle = torch.deg2rad(torch.arange(BATCH) + 0.5)[:, None]
    length = torch.rand(BATCH, 1, generator=generator) * 20 + 1
    return head, (angle.cos() * own + angle.sin() * across) * length, identity


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_loss_and_gradients_are_those_of_a_float64_reference(config: HeadConfig) -> None:
    head, embeddings, identity = head_and_batch_at_all_angles(config)
    embeddings.requires_grad_()
    loss = head(embeddings, identity)
    loss.backward()

    exact_embeddings = embeddings.detach().double().requires_grad_()
    exact_prototypes = head.prototypes.detach().double().requires_grad_()
    exact = reference_loss(config, exact_embeddings, exact_prototypes, identity)
    exact.backward()  # type: ignore[no-untyped-call]

    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    for ours, theirs in (
        (embeddings.grad, exact_embeddings.grad),
        (head.prototypes.grad, exact_prototypes.grad),
    ):
        assert ours is not None
        assert theirs is not None
        assert ((ours.double() - theirs).norm() / theirs.norm()).item() < 1e-4


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_of_half_precision_embeddings_is_computed_in_float32(
    config: HeadConfig, dtype: torch.dtype
) -> None:
    head, embeddings, identity = head_and_batch_at_all_angles(config)
    halved = embeddings.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head(halved, identity)
    assert loss.dtype == torch.float32
    assert loss.item() == head(halved.float(), identity).item()


@pytest.mark.parametrize("config", CONFIGS[1:], ids=str)
def test_only_directions_count_when_cosines_do(config: HeadConfig) -> None:
    head, embeddings, identity = head_and_batch_at_all_angles(config)
    before = head(embeddings, identity).item()
    with torch.no_grad():
        head.prototypes.mul_(7)
    assert head(embeddings * 0.1, identity).item() == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_zero_embedding_and_a_zero_prototype_leave_gradients_finite(config: HeadConfig) -> None:
    head, embeddings, identity = head_and_batch_at_all_angles(config)
    with torch.no_grad():
        head.prototypes[2] = 0
        embeddings[5] = 0
    embeddings.requires_grad_()
    head(embeddings, identity).backward()
    assert embeddings.grad is not None
    assert embeddings.grad.isfinite().all()
    assert head.prototypes.grad is not None
    assert head.prototypes.grad.isfinite().all()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Hundreds of tiny steps: on a busy machine, threads that wait for each other cost seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_a_head_teaches_identities_that_can_be_told_apart(config: HeadConfig) -> None:
    generator = torch.Generator().manual_seed(0)
    faces = torch.randn(20, 32, generator=generator)
    torch.manual_seed(0)
    network = torch.nn.Linear(32, 16)
    head = build_head(config, num_identities=20, embedding_dim=16)
    optimizer = torch.optim.SGD([*network.parameters(), *head.parameters()], lr=0.1, momentum=0.9)
    losses = []
    for _ in range(200):
        identity = torch.randint(20, (64,), generator=generator)
        noise = torch.randn(64, 32, generator=generator)
        loss = head(network(faces[identity] + 0.2 * noise), identity)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.25 * sum(losses[:20])


@pytest.mark.parametrize("wrong", [-1, IDENTITIES])
def test_an_identity_without_prototype_is_named(wrong: int) -> None:
    head, embeddings, identity = head_and_batch_at_all_angles(CONFIGS[1])
    identity[17] = wrong
    with pytest.raises(UserError, match=f"identity: found {wrong}; allowed: 0 to 10"):
        head(embeddings, identity)


def test_one_identity_is_too_few_to_learn_from() -> None:
    with pytest.raises(UserError, match="at least 2"):
        build_head(HeadConfig(), num_identities=1, embedding_dim=8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "arcfase"}, "did you mean arcface"),
        ({"margin": -0.1}, "head.margin: found -0.1; allowed: 0 to 1"),
        ({"margin": float("nan")}, "head.margin: found nan"),
        ({"kind": "arcface", "margin": 2.0}, "0 to 1.57"),
        ({"scale": 0.0}, "head.scale: found 0.0; allowed: above 0"),
    ],
)
def test_a_wrong_configuration_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        HeadConfig(**fields)


def test_memory_is_the_papers_example() -> None:
    with torch.device("meta"):
        head: Head = build_head(HeadConfig(), num_identities=2_000_000, embedding_dim=512)
    assert round(head.memory_bytes(64) / 2**30, 2) == 12.40
