"""Progress on identities that training never sees: chosen once, measured at every evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from openmfr.checkpoint import embed_batch
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.distributed import Ranks
from openmfr.embed import decode_batch
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.sampling import sample_pairs
from openmfr.evaluation.verification import measure as verify
from openmfr.evaluation.verification_report import write_verification_report
from openmfr.run import Run

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
        is_held_out = self.training_labels.is_held_out
        is_held_out[store.quarantined] = False
        self.rows = np.flatnonzero(is_held_out)
        self.identity = labels.identity[self.rows]
        everyone = np.ones(len(self.rows), dtype=np.bool_)
        self.pairs = sample_pairs(self.identity, everyone, pairs=PAIRS, seed=seed)

    def compare(
        self,
        backbone: nn.Module,
        input_size: int,
        precision: str,
        device: torch.device,
        ranks: Ranks,
    ) -> Comparisons:
        """Embed the held-out images, each rank its share, and score their pairs.

        Args:
            backbone: The network; left in evaluation mode.
            input_size: Height and width that it takes.
            precision: As in `embed_batch`.
            device: Where the network is.
            ranks: Those that share the work; all of them call this together.
        """
        backbone.eval()
        first, last = ranks.bounds(len(self.rows))
        own = self.rows[first:last]
        parts = [
            embed_batch(
                backbone,
                torch.from_numpy(decode_batch(self.store, own[i : i + BATCH])).to(device),
                input_size=input_size,
                precision=precision,
            )
            for i in range(0, max(len(own), 1), BATCH)  # an empty batch still says D
        ]
        embeddings = torch.from_numpy(np.concatenate(parts)).to(device)
        everyone = ranks.gather(embeddings, len(self.rows)).cpu().numpy()
        return self.pairs.compare(everyone, self.identity)

    def report(
        self, comparisons: Comparisons, out: Path, *, run: Run, configuration: Mapping[str, Any]
    ) -> None:
        """Write the page of a finished run: held-out pairs with intervals, and training curves.

        Args:
            comparisons: The best checkpoint's, from `compare`.
            out: Folder of `report.html` and `report.json`.
            run: Whose metrics to draw.
            configuration: What was trained.
        """
        sources = self.store.column("source")
        write_verification_report(
            out,
            title=f"{out.resolve().name}: {len(np.unique(self.identity))} identities held out",
            results={"best checkpoint": verify(comparisons)},
            configuration=configuration,
            metrics=run.metrics(),
            image=lambda row: self.store.decode(int(self.rows[row])),
            sources=[sources[row] for row in self.rows],
        )


def summarise(comparisons: Comparisons) -> dict[str, float]:
    """Measure quickly, without intervals.

    Returns:
        `holdout_accuracy` (k-fold), `holdout_auc` and `holdout_fnmr@0.01`, each in 0–1; a rate that
        the pairs are too few for is left out.
    """
    result = verify(comparisons, fmrs=(FMR,), replicates=0)
    measured = {
        "holdout_accuracy": result.accuracy.mean.value,
        "holdout_auc": result.auc.value,
        f"holdout_fnmr@{FMR:g}": result.rates[0].fnmr.value,
    }
    return {name: value for name, value in measured.items() if value is not None}
