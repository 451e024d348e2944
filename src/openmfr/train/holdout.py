"""Progress on identities that training never sees: chosen once, measured at every evaluation."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from openmfr.checkpoint import embed_batch
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.embed import decode_batch
from openmfr.evaluation.sampling import sample_pairs
from openmfr.evaluation.verification import measure

#: Pairs of each kind; the rates of a hundred identities move less than this resolves.
PAIRS = 6_000
FMR = 0.01
BATCH = 64


class Holdout:
    """Identities set aside, and the pairs of their images.

    Args:
        store: The images.
        labels: A table in which the identities are still kept.
        identities: How many to set aside.
        seed: Of their choice and of the pairs.

    Attributes:
        training_labels: The child table without them.
    """

    def __init__(self, store: Store, labels: Labels, *, identities: int, seed: int) -> None:
        self.store = store
        self.training_labels = labels.hold_out(identities, seed=seed)
        self.rows = np.flatnonzero(self.training_labels.is_held_out)
        self.identity = labels.identity[self.rows]
        everyone = np.ones(len(self.rows), dtype=np.bool_)
        self.pairs = sample_pairs(self.identity, everyone, pairs=PAIRS, seed=seed)

    def measure(
        self, backbone: nn.Module, input_size: int, precision: str, device: torch.device
    ) -> dict[str, float]:
        """Embed the held-out images and verify their pairs.

        Args:
            backbone: The network; left in evaluation mode.
            input_size: Height and width that it takes.
            precision: As in `embed_batch`.
            device: Where the network is.

        Returns:
            `holdout_accuracy` (k-fold), `holdout_auc` and `holdout_fnmr@0.01`, each in 0–1; a rate
            that the pairs are too few for is left out.
        """
        backbone.eval()
        parts = [
            embed_batch(
                backbone,
                torch.from_numpy(decode_batch(self.store, self.rows[i : i + BATCH])).to(device),
                input_size=input_size,
                precision=precision,
            )
            for i in range(0, len(self.rows), BATCH)
        ]
        compared = self.pairs.compare(np.concatenate(parts), self.identity)
        result = measure(compared, fmrs=(FMR,), replicates=0)
        measured = {
            "holdout_accuracy": result.accuracy.mean.value,
            "holdout_auc": result.auc.value,
            f"holdout_fnmr@{FMR:g}": result.rates[0].fnmr.value,
        }
        return {name: value for name, value in measured.items() if value is not None}
