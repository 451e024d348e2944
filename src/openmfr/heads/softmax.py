"""The dense head: it holds all logits of its shard, and PyTorch differentiates them.

This is the distributed softmax as it is known: prototypes split over the ranks, the sums of the
softmax added over them. It needs 3 · Mem_w + 2 · Mem_logits on each rank. `FusedSoftmax` computes
the same with less; this one is what that is held against.

Everything here is float32 whatever the backbone's precision: with a scale of 64, the bfloat16
rounding of a cosine would move a logit by up to 0.25.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openmfr.distributed import gather, sum_over_ranks
from openmfr.heads.head import MIN_NORM, Head, Step


class MarginSoftmax(Head):
    """Cross entropy over all prototypes, with or without a margin.

    Attributes:
        prototypes: (Cs, D), float32, one row per identity of the shard; only its direction counts,
            except with the plain softmax.
    """

    def _make_prototypes(self, rows: int) -> Tensor:
        self.prototypes = nn.Parameter(torch.empty(rows, self.embedding_dim))
        return self.prototypes

    def forward(self, embeddings: Tensor, identity: Tensor, step: Step = Step()) -> Tensor:  # noqa: B008
        """Compute the mean loss of the global batch; see `Head.forward`."""
        self._check_identities(identity)
        images = step.images or embeddings.shape[0]
        with torch.autocast(embeddings.device.type, enabled=False):
            everyone = self.ranks.gather(identity, images)
            logits, is_own, target = self._logits(
                gather(embeddings.float(), images, self.ranks), everyone
            )
            # Any top gives the same softmax: it only keeps the exponentials in range.
            top = self.ranks.max_(_row_max(logits.detach()))
            total = sum_over_ranks((logits - top[:, None]).exp().sum(1), self.ranks)
            own = torch.zeros_like(top).index_put((is_own,), target - top[is_own])
            own = sum_over_ranks(own, self.ranks)
            return (total.log() - own).mean()

    def sharded_state(self) -> dict[str, Tensor]:
        """The prototypes of the shard."""
        return {"prototypes": self.prototypes}

    def _logits(self, embeddings: Tensor, identity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (G, Cs), images whose identity lies in this shard (T,), and their own logits."""
        is_own = ((identity >= self.first) & (identity < self.last)).nonzero().squeeze(1)
        column = identity[is_own] - self.first
        if not self.config.has_cosines:
            logits = embeddings @ self.prototypes.T
            return logits, is_own, logits[is_own, column]
        # Dividing the products (G, Cs) by the prototypes' lengths costs less time and memory than
        # normalising the prototypes (Cs, D): a batch is smaller than an embedding is long.
        lengths = torch.linalg.vector_norm(self.prototypes, dim=1).clamp_min(MIN_NORM)
        norms = torch.linalg.vector_norm(embeddings, dim=1)
        cosines = F.normalize(embeddings, eps=MIN_NORM) @ self.prototypes.T / lengths
        quality = self._quality(norms.detach())
        lowered = self.config.lower(
            cosines[is_own, column], None if quality is None else quality[is_own]
        )
        logits = self.config.scale * cosines.index_put((is_own, column), lowered)
        return logits, is_own, self.config.scale * lowered


def _row_max(logits: Tensor) -> Tensor:
    """Largest value of each row, (G,); −∞ for an empty shard."""
    if logits.shape[1] == 0:
        return logits.new_full((logits.shape[0],), -torch.inf)
    return logits.amax(1)
