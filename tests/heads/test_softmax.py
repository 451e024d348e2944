"""Heads on one process: loss and gradients against float64, their types, and that they teach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from heads.reference import Quality, ReferenceHead, reference_loss, relative_error
from torch import Tensor

from openmfr.errors import UserError
from openmfr.heads import Head, HeadConfig, Step, StepSize, build_head

CONFIGS = [
    HeadConfig(kind="softmax"),
    HeadConfig(kind="cosface", margin=0.4, scale=64),
    HeadConfig(kind="cosface", margin=0.0, scale=16),
    HeadConfig(kind="arcface", margin=0.5, scale=64),
    HeadConfig(kind="arcface_torch", margin=0.5, scale=64),
    HeadConfig(kind="combined", margins=(1.0, 0.3, 0.2), scale=64),
    HeadConfig(kind="combined", margins=(1.35, 0.1, 0.0), scale=64),
    HeadConfig(kind="adaface", margin=0.4, scale=64),
]
Path = Literal["fused", "dense"]
PATHS: list[Path] = ["fused", "dense"]


def describe(config: HeadConfig) -> str:
    """Its learning part, for the name of a test."""
    margin = config.margins if config.kind == "combined" else config.margin
    return f"{config.kind} {margin} {config.scale}"


IDENTITIES, DIM, BATCH = 11, 24, 180


def head_and_batch_at_all_angles(
    config: HeadConfig, path: Path = "dense"
) -> tuple[Head, Tensor, Tensor]:
    """A head, and embeddings that lie 0.5 to 179.5 degrees from their prototypes, of any length."""
    generator = torch.Generator().manual_seed(3)
    head = build_head(replace(config, path=path), num_identities=IDENTITIES, embedding_dim=DIM)
    prototypes = head.sharded_state()["prototypes"].detach().normal_(generator=generator)
    identity = torch.arange(BATCH) % IDENTITIES
    own = F.normalize(prototypes[identity])
    across = torch.randn(BATCH, DIM, generator=generator)
    across = F.normalize(across - (across * own).sum(1, keepdim=True) * own)
    angle = torch.deg2rad(torch.arange(BATCH) + 0.5)[:, None]
    length = torch.rand(BATCH, 1, generator=generator) * 20 + 1
    return head, (angle.cos() * own + angle.sin() * across) * length, identity


@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_loss_and_gradients_are_those_of_a_float64_reference(config: HeadConfig) -> None:
    head, embeddings, identity = head_and_batch_at_all_angles(config)
    embeddings.requires_grad_()
    loss = head(embeddings, identity)
    loss.backward()

    exact_embeddings = embeddings.detach().double().requires_grad_()
    prototypes = head.get_parameter("prototypes")
    exact_prototypes = prototypes.detach().double().requires_grad_()
    quality = Quality().of_batch(exact_embeddings)
    exact = reference_loss(config, exact_embeddings, exact_prototypes, identity, quality)
    exact.backward()  # type: ignore[no-untyped-call]

    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    for ours, theirs in (
        (embeddings.grad, exact_embeddings.grad),
        (prototypes.grad, exact_prototypes.grad),
    ):
        assert ours is not None
        assert theirs is not None
        assert relative_error(ours, theirs) < 1e-5


@pytest.mark.parametrize("path", PATHS)
def test_a_small_loss_keeps_its_digits(path: Path) -> None:
    # Late in training the target outweighs all others; loss and gradient are what is left of 1.
    generator = torch.Generator().manual_seed(0)
    head = build_head(HeadConfig(path=path, block=64), num_identities=503, embedding_dim=128)
    prototypes = torch.randn(503, 128, generator=generator)
    head.sharded_state()["prototypes"].detach().copy_(prototypes)
    identity = torch.randint(503, (32,), generator=generator)
    embeddings = 1.2 * prototypes[identity] + torch.randn(32, 128, generator=generator)
    loss = head(embeddings.requires_grad_(), identity)
    loss.backward()
    exact = ReferenceHead(head.config, prototypes).step(embeddings.detach(), identity, StepSize())
    assert exact.loss < 0.05
    assert loss.item() == pytest.approx(exact.loss, rel=2e-4)
    assert embeddings.grad is not None
    assert relative_error(embeddings.grad, exact.gradient) < 3e-5


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("config", CONFIGS, ids=describe)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_loss_of_half_precision_embeddings_is_computed_in_float32(
    config: HeadConfig, dtype: torch.dtype, path: Path
) -> None:
    head, embeddings, identity = head_and_batch_at_all_angles(config, path)
    halved = embeddings.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = head(halved, identity)
    loss.backward()
    assert loss.dtype == torch.float32
    assert halved.grad is not None
    assert halved.grad.dtype == dtype
    other, _, _ = head_and_batch_at_all_angles(config, path)
    assert loss.item() == other(halved.detach().float(), identity).item()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "config", [c for c in CONFIGS if c.kind not in ("softmax", "adaface")], ids=describe
)
def test_only_directions_count_when_cosines_do(config: HeadConfig, path: Path) -> None:
    head, embeddings, identity = head_and_batch_at_all_angles(config, path)
    before = head(embeddings, identity).item()
    head.sharded_state()["prototypes"].detach().mul_(7)
    assert head(embeddings * 0.1, identity).item() == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_a_zero_embedding_and_a_zero_prototype_leave_gradients_finite(config: HeadConfig) -> None:
    head, embeddings, identity = head_and_batch_at_all_angles(config)
    prototypes = head.get_parameter("prototypes")
    prototypes.detach()[2] = 0
    embeddings[5] = 0
    embeddings.requires_grad_()
    head(embeddings, identity).backward()
    for gradient in (embeddings.grad, prototypes.grad):
        assert gradient is not None
        assert gradient.isfinite().all()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Hundreds of tiny steps: on a busy machine, threads that wait for each other cost seconds."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("config", CONFIGS, ids=describe)
def test_a_head_teaches_identities_that_can_be_told_apart(config: HeadConfig, path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    faces = torch.randn(20, 32, generator=generator)
    torch.manual_seed(0)
    network = torch.nn.Linear(32, 16)
    head = build_head(replace(config, path=path), num_identities=20, embedding_dim=16)
    optimizer = torch.optim.SGD([*network.parameters(), *head.parameters()], lr=0.1, momentum=0.9)
    size = StepSize(learning_rate=0.1, momentum=0.9)
    losses = []
    for number in range(200):
        identity = torch.randint(20, (64,), generator=generator)
        noise = torch.randn(64, 32, generator=generator)
        embeddings = network(faces[identity] + 0.2 * noise)
        loss = head(embeddings, identity, Step(number=number, size=size))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < 0.25 * sum(losses[:20])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("wrong", [-1, IDENTITIES])
def test_an_identity_without_prototype_is_named(wrong: int, path: Path) -> None:
    head, embeddings, identity = head_and_batch_at_all_angles(CONFIGS[1], path)
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
        ({"margins": (0.5, 0.0, 0.0)}, "head.margins: found .*; allowed: 1 to 4, 0 to 1.57"),
        ({"path": "fusd"}, "head.path: found fusd; allowed: fused, dense; did you mean fused"),
        ({"backward": "keep"}, "head.backward: found keep; .*did you mean keep_exp"),
        ({"update": "later"}, "head.update: found later; allowed: fused, deferred"),
        ({"unsampled": "dense"}, "head.unsampled: found dense; allowed: sparse, dense_equivalent"),
        ({"gemm": "float16"}, "head.gemm: found float16; allowed: float32, bfloat16"),
        ({"block": 0}, "head.block: found 0; allowed: from 1"),
        ({"scale": -1.0, "block": 0}, "head.scale.*\\nhead.block"),
    ],
)
def test_a_wrong_configuration_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        HeadConfig(**fields)
