"""The fused head on a GPU is that of the CPU; run wherever there is one (`pytest -m gpu`)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openmfr.heads import HeadConfig, Step, StepSize, build_head

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine"),
]

IDENTITIES, DIM, BATCH = 5_003, 128, 64


def two_steps(config: HeadConfig, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of the second step, its gradient by the embeddings, and the prototypes after it."""
    head = build_head(config, num_identities=IDENTITIES, embedding_dim=DIM, seed=3).to(device)
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(BATCH, DIM, generator=generator).to(device).requires_grad_()
    identity = torch.randint(IDENTITIES, (BATCH,), generator=generator).to(device)
    for number in range(2):
        embeddings.grad = None
        size = StepSize(learning_rate=1e-3, momentum=0.9, weight_decay=1e-4)
        loss = head(embeddings, identity, Step(number=number, size=size))
        loss.backward()
        head.finish_step(is_skipped=False)
    head.settle()
    assert embeddings.grad is not None
    results = loss.detach(), embeddings.grad, head.sharded_state()["prototypes"]
    loss_, gradient, prototypes = (tensor.cpu() for tensor in results)
    return loss_, gradient, prototypes


@pytest.mark.parametrize(
    ("config", "tolerance"),
    [
        (HeadConfig(), 1e-5),
        (HeadConfig(kind="arcface", margin=0.5), 1e-5),
        (HeadConfig(sample_rate=0.3, unsampled="dense_equivalent"), 1e-5),
        (HeadConfig(update="deferred"), 1e-5),
        (HeadConfig(backward="keep_exp"), 1e-3),
        (HeadConfig(gemm="bfloat16"), 1e-2),
    ],
    ids=str,
)
def test_the_fused_head_is_the_same_on_gpu_and_cpu(config: HeadConfig, tolerance: float) -> None:
    for ours, theirs in zip(two_steps(config, "cuda"), two_steps(config, "cpu"), strict=True):
        assert ((ours - theirs).norm() / theirs.norm()).item() < tolerance
