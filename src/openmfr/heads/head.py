"""What a trainer asks of a head, whichever one it is.

A head holds one prototype per identity and turns a batch of embeddings into a loss. On several
ranks each holds a shard of the prototypes, gathers the embeddings of all, and returns the same
loss: the mean over the global batch. The trainer calls `head(embeddings, identity, step)`, gives
those of `head.parameters()` that require a gradient to its optimizer, and knows nothing more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from openmfr.distributed import Ranks
from openmfr.errors import UserError
from openmfr.heads.config import HeadConfig
from openmfr.heads.margins import adaface_quality
from openmfr.heads.sampling import StepSize

#: Shortest prototype or embedding that is scaled to length 1; below it, a cosine tends to 0.
MIN_NORM = 1e-12

#: Prototypes drawn with one seed; each rank draws the groups that its shard touches.
DRAWN_TOGETHER = 4096
PROTOTYPE_STD = 0.01

#: AdaFace: how fast the statistics of the embeddings' lengths follow the batches.
NORM_UPDATE = 0.01


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a head must know of the step that it takes part in.

    Attributes:
        number: From 0; says which identities are sampled.
        size: How a head that moves its own prototypes moves them.
        images: Images of all ranks in this step; by default those of this rank alone.
    """

    number: int = 0
    size: StepSize = field(default_factory=StepSize)
    images: int | None = None


class NotFiniteError(Exception):
    """Embeddings or sums of a step are infinite or not a number; nothing has moved.

    Attributes:
        rows: Images of the global batch that are concerned, from 0.
    """

    def __init__(self, rows: list[int]) -> None:
        super().__init__(f"no finite loss for images {rows[:10]} of the batch")
        self.rows = rows


class Head(nn.Module, ABC):
    """Base of all heads.

    Attributes:
        config: Loss and way of working.
        num_identities: C, over all ranks.
        embedding_dim: D.
        ranks: Those that share the prototypes.
        first: First identity of this rank's shard.
        last: The one after its last.
        seed: Of the prototypes and of the samples.

    Args:
        config: Loss and way of working.
        num_identities: C, at least 2.
        embedding_dim: D.
        ranks: Those that share the prototypes; by default this process alone.
        seed: Of the prototypes and of the samples.

    Raises:
        UserError: If there are fewer than two identities.
    """

    norm_mean: Tensor
    norm_std: Tensor

    def __init__(
        self,
        config: HeadConfig,
        *,
        num_identities: int,
        embedding_dim: int,
        ranks: Ranks | None = None,
        seed: int = 0,
    ) -> None:
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
        self.ranks = ranks or Ranks()
        self.seed = seed
        self.first, self.last = self.ranks.bounds(num_identities)
        if config.kind == "adaface":
            self.register_buffer("norm_mean", torch.tensor(20.0))
            self.register_buffer("norm_std", torch.tensor(100.0))
        draw_prototypes(self._make_prototypes(self.last - self.first), first=self.first, seed=seed)

    @abstractmethod
    def _make_prototypes(self, rows: int) -> Tensor:
        """Allocate what the shard holds; return its prototypes, (Cs, D), not drawn yet."""

    @abstractmethod
    def forward(self, embeddings: Tensor, identity: Tensor, step: Step = Step()) -> Tensor:
        """Compute the mean loss of the global batch.

        Args:
            embeddings: (B, D), any floating type, not normalised.
            identity: (B,), int64, 0 to C − 1.
            step: What the head must know of the step.

        Returns:
            A float32 scalar, the same on every rank. Its gradient by `embeddings` is whole: nothing
            is left to be divided by the number of ranks.

        Raises:
            UserError: If an identity is not a row of the prototypes. On a GPU the device itself
                stops such a step: looking at the values would make every step wait.
            NotFiniteError: If a head that moves its own prototypes meets numbers that are not
                finite.
        """

    def finish_step(self, *, is_skipped: bool) -> None:
        """Take note that the step is over.

        Args:
            is_skipped: Whether the backbone did not move, as its gradient was not finite.
        """

    def settle(self) -> None:
        """Bring all prototypes up to date, before they are saved or compared."""

    def sharded_state(self) -> dict[str, Tensor]:
        """Tensors of which each rank holds the rows of its shard, by name."""
        return {}

    def _check_identities(self, identity: Tensor) -> None:
        if identity.device.type != "cpu" or not len(identity):
            return
        smallest, largest = (int(bound) for bound in identity.aminmax())
        if smallest < 0 or largest >= self.num_identities:
            raise UserError(
                where="identity",
                found=str(smallest if smallest < 0 else largest),
                allowed=f"0 to {self.num_identities - 1}, the prototypes of this head",
                next_step="build the head for the labels that it is trained on",
            )

    def _quality(self, norms: Tensor) -> Tensor | None:
        """AdaFace's image quality, with statistics that include this batch: (G,) from (G,)."""
        if self.config.kind != "adaface":
            return None
        with torch.no_grad():
            lengths = norms.clamp(0.001, 100)
            is_finite = torch.isfinite(norms).all()  # else the step will be refused
            std = lengths.std(correction=1) if len(lengths) > 1 else self.norm_std
            for running, value in ((self.norm_mean, lengths.mean()), (self.norm_std, std)):
                running.lerp_(torch.where(is_finite, value, running), NORM_UPDATE)
            return adaface_quality(norms, mean=self.norm_mean, std=self.norm_std)


@torch.no_grad()
def draw_prototypes(prototypes: Tensor, *, first: int, seed: int) -> None:
    """Fill a shard with fresh prototypes, the same ones whatever the number of ranks.

    Args:
        prototypes: (Cs, D), float32, overwritten with normal values.
        first: Identity of its first row.
        seed: Of the run.
    """
    last = first + prototypes.shape[0]
    rows = torch.empty(DRAWN_TOGETHER, prototypes.shape[1])
    for group in range(first // DRAWN_TOGETHER, -(-last // DRAWN_TOGETHER)):
        start = group * DRAWN_TOGETHER
        state = np.random.SeedSequence([seed, group]).generate_state(1)
        generator = torch.Generator().manual_seed(int(state[0]))
        rows.normal_(std=PROTOTYPE_STD, generator=generator)
        begin, end = max(start, first), min(start + DRAWN_TOGETHER, last)
        prototypes[begin - first : end - first] = rows[begin - start : end - start]
