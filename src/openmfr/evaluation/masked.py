"""A list of pairs measured three times: bare faces, a masked one with a bare one, both masked.

A masked store has the images of a bare one in the same order, so a list made for bare faces serves
it. The embeddings of both stand one below the other: rows 0 to N − 1 are the bare images, rows N to
2N − 1 the same images with masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openmfr.data.store import MASK_STYLE, Store
from openmfr.errors import UserError
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.protocols.pairs import PairList

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

#: Kinds of pairs: both bare, the first masked and the second bare, both masked.
BARE, MASKED_BARE, MASKED = "uu", "mu", "mm"


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedPairs:
    """The protocol: each pair once of every kind that its images have masks for.

    Attributes:
        pairs: The list for bare faces, of N images.
        is_masked: Images that wear a mask in the masked store, shape (N,), bool.
    """

    pairs: PairList
    is_masked: BoolArray

    @classmethod
    def of(cls, pairs: PairList, *, bare: Store, masked: Store) -> MaskedPairs:
        """Make the protocol for a store and the one that `openmfr mask render` made of it.

        Raises:
            UserError: If the second holds other images than the first, or says nothing of masks.
        """
        if MASK_STYLE not in masked.column_names:
            raise UserError(
                where=str(masked.path),
                found="a store that does not say who wears a mask",
                allowed=f"one with the column {MASK_STYLE}",
                next_step="openmfr mask render makes it from the bare one",
            )
        if masked.column("source") != bare.column("source"):
            raise UserError(
                where=str(masked.path),
                found="other images, or another order",
                allowed=f"those of {bare.path}",
                next_step="openmfr mask render makes it from the bare one",
            )
        style = masked.column(MASK_STYLE)
        return cls(pairs=pairs, is_masked=np.array([name is not None for name in style]))

    def rows(self) -> IntArray:
        """Rows of the stacked embeddings that are compared, each once, in rising order."""
        return self._everything().rows()

    def compare(self, embedding: FloatArray, identity: IntArray) -> Comparisons:
        """Score the pairs.

        Args:
            embedding: Those of the bare images, then those of the masked, shape (2N, D).
            identity: Who is on each bare image, shape (N,).

        Raises:
            UserError: If no pair has a mask, or the list and the identities contradict each other.
        """
        return self._everything().compare(embedding, np.concatenate([identity, identity]))

    def _everything(self) -> PairList:
        count = len(self.is_masked)
        a, b = self.pairs.index_a, self.pairs.index_b
        has_a, has_b = self.is_masked[a], self.is_masked[b]
        if not has_a.any():
            raise UserError(
                where="masked store",
                found="no mask on the first image of any pair",
                allowed="the pairs' images, masked",
                next_step="openmfr mask render makes a masked store from the bare one",
            )
        kinds = {
            BARE: (a, b, np.ones(len(a), dtype=np.bool_)),
            MASKED_BARE: (a + count, b, has_a),
            MASKED: (a + count, b + count, has_a & has_b),
        }
        keeps = [keep for _, _, keep in kinds.values()]
        fold = self.pairs.fold
        return PairList(
            index_a=np.concatenate([a[keep] for a, _, keep in kinds.values()]),
            index_b=np.concatenate([b[keep] for _, b, keep in kinds.values()]),
            is_genuine=np.concatenate([self.pairs.is_genuine[keep] for keep in keeps]),
            fold=None if fold is None else np.concatenate([fold[keep] for keep in keeps]),
            kind=np.concatenate(
                [np.full(int(keep.sum()), kind) for kind, (_, _, keep) in kinds.items()]
            ),
        )
