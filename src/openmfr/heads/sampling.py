"""Which identities take part in a step, and what happens to those that do not.

The sample is a property of the identity, not of who draws it: identity c takes part in a step when
a hash of (seed, step, c) is small. Every rank can ask it of its own identities, and any number of
ranks comes to the same sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

#: Steps that are remembered before all prototypes are brought up to date at once.
MOST_STEPS = 4096


def sample_identities(
    first: int, last: int, *, rate: float, seed: int, step: int, positives: Tensor
) -> Tensor:
    """Choose the identities of a shard that take part in a step.

    Args:
        first: First identity of the shard.
        last: The one after its last.
        rate: Share of the identities to choose, above 0 to 1.
        seed: Of the run.
        step: From 0; every step has its own sample.
        positives: Identities of the batch, int64, of any shard; those of this one always take part.

    Returns:
        Identities in rising order, int64, from 0 at `first`, on the device of `positives`.

    Example:
        >>> batch = torch.tensor([3, 500])
        >>> whole = sample_identities(0, 1000, rate=0.1, seed=0, step=7, positives=batch)
        >>> left = sample_identities(0, 400, rate=0.1, seed=0, step=7, positives=batch)
        >>> 60 < len(whole) < 140, torch.equal(left, whole[whole < 400])
        (True, True)
    """
    identity = torch.arange(first, last, dtype=torch.int32, device=positives.device)
    largest = max(round(rate * 2**32) - 1, 0) - 2**31  # of the hashes that take part
    takes_part = _hash(identity, seed=seed, step=step) <= largest
    if rate >= 1:
        takes_part.fill_(True)
    own = positives[(positives >= first) & (positives < last)] - first
    takes_part[own] = True
    return takes_part.nonzero().squeeze(1)


def _hash(values: Tensor, *, seed: int, step: int) -> Tensor:
    """Scramble int32 values into int32 values that look independent of them, in place.

    Source:
        The multiply-and-shift finaliser "lowbias32", https://nullprogram.com/blog/2018/07/31/, with
        a key before and after.
    """
    before, after = np.random.SeedSequence([seed, step]).generate_state(2, np.uint32)
    values ^= int(before.astype(np.int32))
    for shift, factor in ((16, 0x7FEB352D), (15, -0x7B935975)):
        values ^= (values >> shift) & ((1 << (32 - shift)) - 1)
        values *= factor
    values ^= (values >> 16) & 0xFFFF
    values ^= int(after.astype(np.int32))
    return values


@dataclass(frozen=True, kw_only=True)
class StepSize:
    """How prototypes move in a step.

    Attributes:
        learning_rate: Factor of the momentum.
        momentum: Factor of the earlier gradients.
        weight_decay: Factor of the prototype in its own gradient.
    """

    learning_rate: float = 0.0
    momentum: float = 0.0
    weight_decay: float = 0.0


class SkippedSteps:
    """Moves prototypes afterwards through the steps in which they took no part.

    A dense optimizer moves a prototype of gradient 0 too: momentum m and weight w become
    m' = μ m + λ w and w' = w − η m'. That is a 2 × 2 matrix, the same for all prototypes of a step,
    so the steps that one has missed are one product of matrices.

    Args:
        prototypes: (Cs, D), moved in place.
        momentum: (Cs, D), moved in place.
    """

    def __init__(self, prototypes: Tensor, momentum: Tensor) -> None:
        self._prototypes = prototypes
        self._momentum = momentum
        self._done = torch.zeros(prototypes.shape[0], dtype=torch.int64, device=prototypes.device)
        #: products[j]: from the state after j recorded steps to that after all of them.
        self._products: npt.NDArray[np.float64] = np.eye(2)[None]

    def catch_up(self, rows: Tensor | slice, *, block: int) -> None:
        """Bring prototypes to where a dense optimizer would have them now.

        Args:
            rows: Which, from 0 at the shard's first.
            block: How many at once.
        """
        if isinstance(rows, slice):
            rows = torch.arange(self._prototypes.shape[0], device=self._done.device)[rows]
        late = rows[self._done[rows] < len(self._products) - 1]
        products = torch.from_numpy(self._products).to(self._prototypes)
        for part in torch.split(late, block):
            matrix = products[self._done[part]]
            momentum, weight = self._momentum[part], self._prototypes[part]
            self._momentum[part] = matrix[:, 0, :1] * momentum + matrix[:, 0, 1:] * weight
            self._prototypes[part] = matrix[:, 1, :1] * momentum + matrix[:, 1, 1:] * weight
        self._done[late] = len(self._products) - 1

    def record(self, moved: Tensor | slice, size: StepSize, *, block: int) -> None:
        """Note a step.

        Args:
            moved: The prototypes that took part, which the step has moved already.
            size: How it moved them.
            block: How many to process at once, if all must be brought up to date.
        """
        rate, momentum, decay = size.learning_rate, size.momentum, size.weight_decay
        step = np.array([[momentum, decay], [-rate * momentum, 1 - rate * decay]])
        self._products = np.concatenate([step @ self._products, np.eye(2)[None]])
        self._done[moved] = len(self._products) - 1
        if len(self._products) > MOST_STEPS:
            self.settle(block=block)

    def settle(self, *, block: int) -> None:
        """Bring all prototypes up to date, and forget the steps."""
        self.catch_up(slice(None), block=block)
        self._done.zero_()
        self._products = np.eye(2)[None]
