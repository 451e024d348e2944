"""The dense head: softmax over all identities, with or without a margin, in float32.

Everything here is float32 whatever the backbone's precision: with a scale of 64, the bfloat16
rounding of a cosine would move a logit by up to 0.25.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openmfr.errors import UserError
from openmfr.heads.head import Head, HeadConfig
from openmfr.heads.margins import MARGINS

#: Shortest prototype or embedding that is scaled to length 1; below it, a cosine tends to 0.
MIN_NORM = 1e-12

BYTES_PER_WEIGHT = 12  # float32 value, gradient, momentum
BYTES_PER_LOGIT = 8  # float32 value, gradient


class MarginSoftmax(Head):
    """Cross entropy of softmax, CosFace or ArcFace over all prototypes, on one device.

    Attributes:
        prototypes: (C, D), float32, one row per identity; only its direction counts, except with
            the plain softmax.

    Args:
        config: Kind, margin and scale.
        num_identities: C, at least 2.
        embedding_dim: D.

    Raises:
        UserError: If there are fewer than two identities.
    """

    def __init__(self, config: HeadConfig, *, num_identities: int, embedding_dim: int) -> None:
        super().__init__()
        if num_identities < 2:
            raise UserError(
                where="identities",
                found=str(num_identities),
                allowed="at least 2: a recogniser learns from differences",
                next_step="add photos of other people",
            )
        self.config = config
        self.num_identities = num_identities
        self.embedding_dim = embedding_dim
        self.prototypes = nn.Parameter(torch.empty(num_identities, embedding_dim))
        nn.init.normal_(self.prototypes, std=0.01)

    def forward(self, embeddings: Tensor, identity: Tensor) -> Tensor:
        """Compute the mean loss of a batch; shapes as in `Head.forward`.

        Raises:
            UserError: If an identity is not a row of the prototypes. On a GPU the device itself
                stops such a step: looking at the values would make every step wait.
        """
        if identity.device.type == "cpu":
            self._check_identities(identity)
        with torch.autocast(embeddings.device.type, enabled=False):
            logits = self._logits(embeddings.float(), identity)
            return F.cross_entropy(logits, identity)

    def memory_bytes(self, batch: int) -> int:
        """Predict the memory of prototypes and logits while training with SGD and momentum.

        Temporary copies, which live for a part of the step, come on top: at C = 100,000, D = 512
        and B = 128 the peak was 1.4 times this.

        Source:
            MFR paper, §2.1: 3 · Mem_w + 2 · Mem_logits.

        Example:
            >>> head = MarginSoftmax(HeadConfig(), num_identities=1000, embedding_dim=512)
            >>> head.memory_bytes(64) == 12 * 1000 * 512 + 8 * 64 * 1000
            True
        """
        weights = self.num_identities * self.embedding_dim
        return BYTES_PER_WEIGHT * weights + BYTES_PER_LOGIT * batch * self.num_identities

    def _logits(self, embeddings: Tensor, identity: Tensor) -> Tensor:
        prototypes = self.prototypes.float()
        if self.config.kind == "softmax":
            return embeddings @ prototypes.T
        # Dividing the products (B, C) by the prototypes' lengths costs less time and memory than
        # normalising the prototypes (C, D): a batch is smaller than an embedding is long.
        lengths = torch.linalg.vector_norm(prototypes, dim=1).clamp_min(MIN_NORM)
        directions = F.normalize(embeddings, eps=MIN_NORM)
        cosines = directions @ prototypes.T / lengths
        index = identity[:, None]
        margin = MARGINS[self.config.kind].apply
        target = margin(cosines.gather(1, index), margin=self.config.margin)
        logits: Tensor = self.config.scale * cosines.scatter(1, index, target)
        return logits

    def _check_identities(self, identity: Tensor) -> None:
        smallest, largest = (int(bound) for bound in identity.aminmax())
        if smallest < 0 or largest >= self.num_identities:
            raise UserError(
                where="identity",
                found=str(smallest if smallest < 0 else largest),
                allowed=f"0 to {self.num_identities - 1}, the prototypes of this head",
                next_step="build the head for the labels that it is trained on",
            )


def build_head(config: HeadConfig, *, num_identities: int, embedding_dim: int) -> Head:
    """Build the head with fresh prototypes, drawn from torch's global generator.

    Args:
        config: Which loss.
        num_identities: C, as the labels have it.
        embedding_dim: D, as the backbone has it.

    Raises:
        UserError: If there are fewer than two identities.
    """
    return MarginSoftmax(config, num_identities=num_identities, embedding_dim=embedding_dim)
