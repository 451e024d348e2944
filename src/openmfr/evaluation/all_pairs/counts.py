"""How many pairs a set of images makes, as we count them and as the two tracks do.

Rates do not care whether a pair is counted once or in both orders, but published totals differ,
and one convention changes a rate: a self-pair, an image compared with itself, always matches, so
counting self-pairs as genuine makes every FNMR look smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError, nearest

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating]

#: - unordered: each pair of different images once. Everything is measured so.
#: - webface260m: both orders, and each image with itself as a genuine pair: n² in all. The track's
#:   57,715² = 3,331,021,225 = 3,328,950,920 impostor + 2,070,305 genuine pairs.
#: - insightface: genuine pairs once, impostor pairs n² − n − genuine, no self-pairs. (So impostor
#:   pairs are counted in both orders, and genuine ones taken off once: the published 4,689,037
#:   genuine pairs of MR-All are an odd number, which pairs in both orders cannot be.)
Convention = Literal["unordered", "webface260m", "insightface"]


class Totals(NamedTuple):
    """Numbers of pairs under one convention."""

    genuine: int
    impostor: int
    self_pairs: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PairCounts:
    """Images of each identity, from which every number of pairs follows.

    Attributes:
        identities: Those with an image on either side, ascending, shape (C,).
        first: Images of each in the first set, shape (C,).
        second: Images in the second, shape (C,); None if the set is compared with itself.
    """

    identities: IntArray
    first: IntArray
    second: IntArray | None

    @property
    def genuine(self) -> int:
        """Genuine pairs, each once, without self-pairs."""
        if self.second is None:
            return int((self.first * (self.first - 1) // 2).sum())
        return int(self.first @ self.second)

    @property
    def impostors(self) -> int:
        """Impostor pairs, each once."""
        images = int(self.first.sum())
        if self.second is None:
            return images * (images - 1) // 2 - self.genuine
        return images * int(self.second.sum()) - self.genuine

    def weighted_impostors(self, multiplicity: FloatArray) -> float:
        """Weight of all impostor pairs if each identity counts so often, without listing them.

        Args:
            multiplicity: How often each identity counts: whole numbers from 0, shape (C,).

        Returns:
            Σ mₐ m_b over all impostor pairs: ((Σ m n)² − Σ (m n)²) / 2 within a set,
            Σ m n · Σ m n′ − Σ m² n n′ between two.

        Example:
            >>> count_pairs(np.array([0, 0, 1])).weighted_impostors(np.array([2.0, 3.0]))
            12.0
        """
        first = multiplicity * self.first
        second = first if self.second is None else multiplicity * self.second
        pairs = float(first.sum() * second.sum() - first @ second)
        return pairs / 2 if self.second is None else pairs

    def total(self, convention: Convention = "unordered") -> Totals:
        """Count the pairs as a convention does.

        Raises:
            UserError: If the convention is unknown, or counts a set with itself and there are two.

        Example:
            >>> count_pairs(np.array([0, 0, 1])).total("webface260m")
            Totals(genuine=5, impostor=4, self_pairs=3)
        """
        if convention not in get_args(Convention):
            raise UserError(
                where="convention",
                found=str(convention),
                allowed=", ".join(get_args(Convention)),
                next_step=nearest(str(convention), get_args(Convention)),
            )
        if convention == "unordered":
            return Totals(self.genuine, self.impostors, 0)
        if self.second is not None:
            raise UserError(
                where="convention",
                found=f"{convention} for two sets",
                allowed="unordered",
                next_step="two sets have no self-pairs, and each pair has one order",
            )
        images = int(self.first.sum())
        if convention == "webface260m":
            return Totals(2 * self.genuine + images, 2 * self.impostors, images)
        return Totals(self.genuine, images * images - images - self.genuine, 0)


def count_pairs(first: IntArray, second: IntArray | None = None) -> PairCounts:
    """Count the images of each identity.

    Args:
        first: Identity of each image, shape (N,).
        second: Identity of each image of another set that it is compared with, shape (M,); None to
            compare the set with itself.

    Example:
        >>> counts = count_pairs(np.array([0, 0, 1]))
        >>> counts.genuine, counts.impostors
        (1, 2)
        >>> count_pairs(np.array([0, 0, 1]), np.array([1])).impostors
        2
    """
    everyone = first if second is None else np.concatenate([first, second])
    identities, code = np.unique(everyone, return_inverse=True)
    sides = (code[: first.size], code[first.size :])
    tallies = [np.bincount(side, minlength=identities.size).astype(np.int64) for side in sides]
    return PairCounts(
        identities=identities, first=tallies[0], second=None if second is None else tallies[1]
    )
