"""Synthetic faces → a trained network → its error rates on people that it never saw.

    python examples/train_and_evaluate.py --out runs/a --identities 200 --images 16 --epochs 20

The defaults are tiny, to show the steps in seconds: they leave a network that has hardly begun.
Stopped and repeated with the same arguments, the script goes on where it was.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import tyro

import openmfr


def main(
    *, out: Path = Path("runs/example"), identities: int = 24, images: int = 6, epochs: float = 1.0
) -> openmfr.VerificationResult:
    """Train on synthetic people, measure on others, and write a report.

    Args:
        out: Folder for everything.
        identities: People to train on.
        images: Images of each.
        epochs: Length of training.
    """
    faces, _ = openmfr.synthesise(out / "faces", identities=identities, images=images, seed=0)

    recipe = openmfr.load_recipe("tiny_synthetic")
    recipe = replace(
        recipe,
        schedule=replace(recipe.schedule, epochs=epochs, warmup_epochs=epochs / 10),
        holdout_identities=0,  # nobody set aside: the people to measure on are made below
    )
    trainer = openmfr.Training(config=recipe, store=faces.path).trainer(
        out / "run", device=openmfr.choose_device(None)
    )
    checkpoint = openmfr.Checkpoint.open(trainer.fit())

    # Another seed makes other people.
    others, labels = openmfr.synthesise(out / "others", identities=20, images=6, seed=1)
    embedder = openmfr.CheckpointEmbedder(checkpoint)
    embeddings = openmfr.embed_store(embedder, others, out / "embeddings")

    pairs = openmfr.sample_pairs(labels.identity, labels.keep, seed=0)
    results = openmfr.evaluate(
        pairs, [embeddings], labels.identity, out / "report", title="20 people never seen before"
    )
    return results["embeddings"]


if __name__ == "__main__":
    result = tyro.cli(main)
    print(f"accuracy {result.accuracy.mean.value:.1%}, EER {result.eer.value:.1%}")
