"""The whole line on data that needs no download: synthetic faces → recogniser → report.

The people it is measured on are none of those it was trained on, and beside the network stands the
best that a shortcut can do (mean colour and a thumbnail, in a metric learned on the same images).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from openmfr.checkpoint import Checkpoint, CheckpointEmbedder
from openmfr.config import to_dict
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.embed import FloatArray, decode_batch, embed_store
from openmfr.evaluation.sampling import sample_pairs
from openmfr.evaluation.verification import VerificationResult, measure
from openmfr.evaluation.verification_report import write_verification_report
from openmfr.recipes import tiny_synthetic
from openmfr.synthetic.dataset import synthesise
from openmfr.synthetic.shortcut import ShortcutEmbedder
from openmfr.train import TrainConfig, Training
from openmfr.train.trainer import HELD_OUT_FILE

IDENTITIES, IMAGES = 400, 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Demo:
    """What the demo reached on identities that training never saw.

    Attributes:
        network: The trained network's result.
        shortcut: The shortcut baseline's result on the same pairs.
        report: Path of the page.
    """

    network: VerificationResult
    shortcut: VerificationResult
    report: Path


def run_demo(
    out: Path,
    *,
    identities: int = IDENTITIES,
    images: int = IMAGES,
    config: TrainConfig | None = None,
    device: torch.device | None = None,
) -> Demo:
    """Make faces, train, embed, evaluate, and write the report; goes on where it was stopped.

    Args:
        out: Folder for everything.
        identities: Synthetic people; the recipe's held-out ones are among them.
        images: Images of each.
        config: What to train; the recipe `tiny_synthetic` by default.
        device: Where to train; the CPU by default.
    """
    config = config or tiny_synthetic()
    device = device or torch.device("cpu")
    store, labels = synthesise(
        out / "faces", identities=identities, images=images, seed=config.seed
    )
    trainer = Training(config=config, store=store.path).trainer(out / "run", device=device)
    trainer.fit()
    last = trainer.checkpoints.last()  # not the best: that one was chosen on the people measured
    assert last is not None
    checkpoint = Checkpoint.open(last)
    held_out = Labels.read(out / "run" / HELD_OUT_FILE)
    embeddings = embed_store(
        CheckpointEmbedder(checkpoint, device=device), store, out / "embeddings", labels=held_out
    )
    pairs = sample_pairs(held_out.identity, held_out.keep, seed=config.seed)
    results = {
        "network": measure(pairs.compare(embeddings.array, labels.identity)),
        "shortcut": measure(
            pairs.compare(_shortcut(store, trainer.labels, held_out), labels.identity)
        ),
    }
    report = write_verification_report(
        out / "report",
        title="openmfr demo: synthetic faces that training never saw",
        results=results,
        configuration={
            "people trained on": trainer.learner.head.num_identities,
            "people measured on": config.holdout_identities,
            "images of each": images,
            "checkpoint": checkpoint.path.name,
            **to_dict(config),
        },
        metrics=trainer.run.metrics(),
        image=store.decode,
        sources=store.column("source"),
    )
    return Demo(network=results["network"], shortcut=results["shortcut"], report=report)


def _shortcut(store: Store, training: Labels, held_out: Labels) -> FloatArray:
    """Embeddings of the shortcut baseline, shape (N, D); NaN where an image is not held out."""
    rows, seen = held_out.kept(), training.kept()
    baseline = ShortcutEmbedder.fit(decode_batch(store, seen), training.identity[seen])
    embedded = baseline.embed(decode_batch(store, rows))
    embeddings = np.full((len(store), embedded.shape[1]), np.nan, dtype=np.float32)
    embeddings[rows] = embedded
    return embeddings
