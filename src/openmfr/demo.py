"""The whole line on data that needs no download: synthetic faces → recogniser → report.

The people it is measured on are none of those it was trained on, and beside the network stands the
best that a shortcut can do (mean colour and a thumbnail, in a metric learned on the same images).

Every pair is measured bare, with a mask on one face, and with masks on both. The first network has
seen no mask: that is the gap. The second one is the first, fine-tuned on masked faces: the cure.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from openmfr.checkpoint import Checkpoint, CheckpointEmbedder
from openmfr.config import to_dict
from openmfr.data.geometry import FOLDER as GEOMETRY
from openmfr.data.geometry import Geometry
from openmfr.data.labels import IntArray, Labels
from openmfr.data.store import Store
from openmfr.embed import FloatArray, decode_batch, embed_store
from openmfr.evaluation.masked import MaskedPairs
from openmfr.evaluation.sampling import sample_pairs
from openmfr.evaluation.verification import VerificationResult, measure
from openmfr.evaluation.verification_report import write_verification_report
from openmfr.masking.augment import Masker
from openmfr.masking.config import MaskConfig
from openmfr.masking.render_store import LABELS, render_store
from openmfr.recipes import masked_finetune, tiny_synthetic
from openmfr.synthetic.dataset import synthesise
from openmfr.synthetic.shortcut import ShortcutEmbedder
from openmfr.train import TrainConfig, Trainer, Training
from openmfr.train.trainer import HELD_OUT_FILE

IDENTITIES, IMAGES = 400, 16

#: Seed of the test's masks; training draws its own from 0.
TEST_MASKS = 1_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Demo:
    """What the demo reached on identities that training never saw.

    Each result has the kinds "uu" (both faces bare), "mu" (one masked) and "mm" (both masked).

    Attributes:
        network: Of the network trained on bare faces.
        cured: Of the same network, fine-tuned on masked ones.
        shortcut: Of the shortcut baseline on the same pairs.
        report: Path of the page.
    """

    network: VerificationResult
    cured: VerificationResult
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
        out / "faces", identities=identities, images=images, seed=config.seed, geometry=True
    )
    trainer = _train(config, store, out / "run", device)
    cured = _train(
        masked_finetune(config), store, out / "run-masked", device, start_from=out / "run"
    )
    held_out = Labels.read(out / "run" / HELD_OUT_FILE)
    masked = _masked(store, labels, out / "faces-masked")
    pairs = MaskedPairs.of(
        sample_pairs(held_out.identity, held_out.keep, seed=config.seed), bare=store, masked=masked
    )
    rows = held_out.kept()
    embedded = {
        "network": _embed(trainer, (store, masked), rows, out / "embeddings"),
        "fine-tuned on masks": _embed(cured, (store, masked), rows, out / "embeddings-masked"),
        "shortcut": _shortcut((store, masked), trainer.labels, rows),
    }
    results = {
        name: measure(pairs.compare(array, labels.identity)) for name, array in embedded.items()
    }
    sources = store.column("source")
    report = write_verification_report(
        out / "report",
        title="openmfr demo: synthetic faces that training never saw",
        results=results,
        configuration={
            "people trained on": trainer.learner.head.num_identities,
            "people measured on": config.holdout_identities,
            "images of each": images,
            **to_dict(config),
        },
        metrics=trainer.run.metrics(),
        image=lambda row: (store, masked)[row // len(store)].decode(row % len(store)),
        sources=[*sources, *(f"{source} (masked)" for source in sources)],
    )
    network, fine_tuned, shortcut = results.values()
    return Demo(network=network, cured=fine_tuned, shortcut=shortcut, report=report)


def _train(
    config: TrainConfig,
    store: Store,
    out: Path,
    device: torch.device,
    *,
    start_from: Path | None = None,
) -> Trainer:
    training = Training(config=config, store=store.path, start_from=start_from)
    trainer = training.trainer(out, device=device)
    trainer.fit()
    return trainer


def _masked(store: Store, labels: Labels, out: Path) -> Store:
    """The same faces in masks that training never saw."""
    config = MaskConfig(probability=1.0, seed=TEST_MASKS)
    masker = Masker(config, seed=TEST_MASKS, geometry=Geometry.open(store.path / GEOMETRY, store))
    return render_store(store, labels, out, masker=masker)[0]


def _embed(trainer: Trainer, stores: tuple[Store, Store], rows: IntArray, out: Path) -> FloatArray:
    """Embed the held-out faces of both stores, one below the other, shape (2N, D)."""
    last = trainer.checkpoints.last()  # not the best: that one was chosen on the people measured
    assert last is not None
    embedder = CheckpointEmbedder(Checkpoint.open(last), device=trainer.device)
    parts = []
    for name, store in zip(("bare", "masked"), stores, strict=True):
        chosen = Labels.read(store.path / LABELS)
        is_left_out = np.isin(np.arange(len(store)), rows, invert=True)
        chosen = chosen.without(is_left_out, reason="not held out")
        parts.append(embed_store(embedder, store, out / name, labels=chosen).array)
    return np.concatenate(parts)


def _shortcut(stores: tuple[Store, Store], training: Labels, rows: IntArray) -> FloatArray:
    """Embeddings of the shortcut baseline, shape (2N, D); NaN where an image is not held out."""
    bare, seen = stores[0], training.kept()
    baseline = ShortcutEmbedder.fit(decode_batch(bare, seen), training.identity[seen])
    embedded = [baseline.embed(decode_batch(store, rows)) for store in stores]
    embeddings = np.full((2 * len(bare), embedded[0].shape[1]), np.nan, dtype=np.float32)
    embeddings[rows], embeddings[rows + len(bare)] = embedded
    return embeddings
