"""The fused head: it never holds the logits, nor the gradient of its prototypes.

The prototypes are processed in blocks. The forward pass keeps the running maximum and sum of the
softmax, one float per image each. The backward pass forms each block's logits again, adds to the
gradient of the embeddings, and moves the block at once with momentum and weight decay. Beside the
prototypes and their momentum, only one block lives at a time.

What this changes against an optimizer that comes after the backward pass: the prototypes have moved
when the backbone's gradient is known. All inputs and sums are therefore checked on all ranks before
the first block moves; where the backbone's gradient overflows later, only the backbone's step can
be skipped (`update="deferred"` skips both). Clipping reaches the backbone only, and gradients of
several batches cannot be added up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from openmfr.heads.blocked import BlockedSoftmax, Rows
from openmfr.heads.head import Head, Step
from openmfr.heads.sampling import SkippedSteps, StepSize, sample_identities


class FusedSoftmax(Head):
    """Cross entropy over all, or a sample of, the prototypes, which it moves by itself.

    Attributes:
        prototypes: (Cs, D), float32, one row per identity of the shard; only its direction counts,
            except with the plain softmax. Not a parameter: no optimizer shall move it.
        momentum: (Cs, D), float32.
    """

    prototypes: Tensor
    momentum: Tensor

    def _make_prototypes(self, rows: int) -> Tensor:
        self.register_buffer("prototypes", torch.empty(rows, self.embedding_dim))
        self.register_buffer("momentum", torch.zeros(rows, self.embedding_dim))
        self._skipped: SkippedSteps | None = None
        self._pending: _Pending | None = None
        return self.prototypes

    def forward(self, embeddings: Tensor, identity: Tensor, step: Step = Step()) -> Tensor:  # noqa: B008
        """Compute the mean loss of the global batch; see `Head.forward`.

        Its backward pass moves the prototypes by `step.size`, or holds their gradient until
        `finish_step` with a deferred update.
        """
        self._check_identities(identity)
        with torch.autocast(embeddings.device.type, enabled=False):
            loss: Tensor = _FusedLoss.apply(  # type: ignore[no-untyped-call]
                embeddings.float(), identity, self, step
            )
        return loss

    def finish_step(self, *, is_skipped: bool) -> None:
        """Move the prototypes by the gradient held, or forget it."""
        if self._pending is not None and not is_skipped:
            self._move_deferred(self._pending)
        self._pending = None

    def settle(self) -> None:
        """Move prototypes that sat out the last steps to where a dense optimizer has them."""
        if self._skipped is not None:
            self._skipped.settle(block=self.config.block)

    def sharded_state(self) -> dict[str, Tensor]:
        """Prototypes and momentum of the shard."""
        return {"prototypes": self.prototypes, "momentum": self.momentum}

    def start(self, embeddings: Tensor, identity: Tensor, step: Step) -> BlockedSoftmax:
        """Gather the batch of all ranks, and choose the rows that take part."""
        images = step.images or embeddings.shape[0]
        embeddings = self.ranks.gather(embeddings, images)
        identity = self.ranks.gather(identity, images)
        index = self._choose_rows(identity, step)
        return BlockedSoftmax(
            self.config,
            self.ranks,
            Rows(self.prototypes, self.momentum, index, block=self.config.block),
            embeddings=embeddings,
            identity=identity - self.first,
            quality=self._quality,
        )

    def finish_backward(self, rows: Rows, held: Tensor | None, size: StepSize) -> None:
        """Note that a step has moved these rows, or keep their gradient until the step is over."""
        if held is not None:
            self._pending = _Pending(rows, held, size)
        else:
            self._record(rows, size)

    def _choose_rows(self, identity: Tensor, step: Step) -> Tensor | None:
        """Rows of the shard that take part in a step, (Ss,), rising; None for all."""
        if self.config.sample_rate >= 1:
            return None
        rows = sample_identities(
            self.first,
            self.last,
            rate=self.config.sample_rate,
            seed=self.seed,
            step=step.number,
            positives=identity,
        )
        if self.config.unsampled == "dense_equivalent":
            if self._skipped is None:
                self._skipped = SkippedSteps(self.prototypes, self.momentum)
            self._skipped.catch_up(rows, block=self.config.block)
        return rows

    def _record(self, rows: Rows, size: StepSize) -> None:
        if self._skipped is not None and rows.index is not None:
            self._skipped.record(rows.index, size, block=self.config.block)

    @torch.no_grad()
    def _move_deferred(self, pending: _Pending) -> None:
        for block in pending.rows.blocks():
            momentum = pending.rows.momentum(block).mul_(pending.size.momentum)
            momentum.add_(pending.gradient[block.start : block.stop])
            momentum.add_(block.prototypes, alpha=pending.size.weight_decay)
            pending.rows.move(block, momentum, pending.size)
        self._record(pending.rows, pending.size)


@dataclass(frozen=True)
class _Pending:
    """A gradient that waits for the end of its step: (Ss, D) of the rows that took part."""

    rows: Rows
    gradient: Tensor
    size: StepSize


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, identity: Tensor, head: FusedSoftmax, step: Step
    ) -> Tensor:
        ctx.softmax = head.start(embeddings, identity, step)
        ctx.head, ctx.size = head, step.size
        loss: Tensor = ctx.softmax.loss()
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        if ctx.softmax is None:
            raise RuntimeError(
                "backward was called twice on one loss of a fused head: its prototypes have moved "
                "already, and would move again; call the head again for another loss"
            )
        softmax: BlockedSoftmax = ctx.softmax
        ctx.softmax = None  # and with it the exponentials that were kept
        gradient, held = softmax.backward(ctx.size)
        ctx.head.finish_backward(softmax.rows, held, ctx.size)
        # The scale of a GradScaler is in `gradients`; the prototypes move by the true gradient.
        return gradient * gradients[0], None, None, None
