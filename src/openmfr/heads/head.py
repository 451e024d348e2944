"""What a trainer asks of a head, whichever one it is.

A head holds one prototype per identity and turns a batch of embeddings into a loss. The trainer
calls `head(embeddings, identity)` and gives `head.parameters()` to the optimizer, and knows nothing
more: a head that keeps only its own shard of the prototypes, or draws a sample of them in each
step, is another subclass.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from openmfr.errors import UserError, nearest, raise_together
from openmfr.heads.margins import MARGINS


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Which loss trains the embeddings.

    Attributes:
        kind: "cosface" or "arcface", a name of `openmfr.heads.margins.MARGINS`: the softmax of
            scaled cosines with that margin on the target. "softmax": the plain linear classifier,
            the softmax of inner products without bias, as embeddings are compared without one; it
            has neither margin nor scale. The *normalised* softmax is "cosface" with margin 0.
        margin: 0 to 1 for "cosface", 0 to π / 2 (radians) for "arcface". Small training sets learn
            faster with a smaller one.
        scale: Factor of the cosines before the softmax, above 0.

    Raises:
        UserError: If the kind is unknown or a number is out of range; all faults together.

    Source:
        MFR paper, Table 9 (CosFace 0.4 best); the scale is arcface_torch's.
    """

    kind: str = "cosface"
    margin: float = 0.4
    scale: float = 64.0

    def __post_init__(self) -> None:
        raise_together(list(self._faults()))

    def _faults(self) -> Iterable[UserError]:
        kinds = ("softmax", *MARGINS)
        if self.kind not in kinds:
            yield UserError(
                where="head.kind",
                found=self.kind,
                allowed=", ".join(kinds),
                next_step=nearest(self.kind, kinds),
            )
        margin = MARGINS.get(self.kind, MARGINS["cosface"])
        if not 0 <= self.margin <= margin.largest:
            yield UserError(
                where="head.margin",
                found=str(self.margin),
                allowed=f"0 to {margin.largest:.3g}",
                next_step=f"use {margin.usual}",
            )
        if not 0 < self.scale < math.inf:
            yield UserError(
                where="head.scale",
                found=str(self.scale),
                allowed="above 0",
                next_step="use 64, or 30 for a few hundred identities",
            )


class Head(nn.Module, ABC):
    """Base of all heads.

    Attributes:
        num_identities: C, over all ranks.
        embedding_dim: D.
    """

    num_identities: int
    embedding_dim: int

    @abstractmethod
    def forward(self, embeddings: Tensor, identity: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            embeddings: (B, D), any floating type, not normalised.
            identity: (B,), int64, 0 to C − 1.

        Returns:
            The mean loss, a float32 scalar.
        """

    @abstractmethod
    def memory_bytes(self, batch: int) -> int:
        """Predict the memory of this rank's prototypes and logits while training, in bytes.

        Args:
            batch: B, images of this rank in one step.
        """
