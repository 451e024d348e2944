"""Progress on identities that training never sees: chosen once, measured at every evaluation."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from openmfr.checkpoint import embed_batch
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.embed import decode_batch
from openmfr.evaluation.pairs import sample_pairs
from openmfr.evaluation.rates import auc, fnmr_at_fmr
from openmfr.evaluation.verification import fold_accuracy, pair_scores

#: Pairs of each kind; the rates of a hundred identities move less than this resolves.
PAIRS = 6_000
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
        is_held_out = self.training_labels.is_held_out
        self.rows = np.flatnonzero(is_held_out)
        self.pairs = sample_pairs(labels.identity[self.rows], pairs=PAIRS, seed=seed)

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
            `holdout_accuracy` (k-fold), `holdout_auc` and `holdout_fnmr@1e-2`, each in 0–1.
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
        scores = pair_scores(np.concatenate(parts), self.pairs)
        genuine, impostor = scores[self.pairs.is_genuine], scores[~self.pairs.is_genuine]
        return {
            "holdout_accuracy": fold_accuracy(scores, self.pairs),
            "holdout_auc": auc(genuine, impostor),
            "holdout_fnmr@1e-2": fnmr_at_fmr(genuine, impostor, fmr=1e-2).fnmr,
        }
