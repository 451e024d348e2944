"""`openmfr clean plant`: labels → the same with known noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    labels: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="LABELS")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    *,
    outliers: float = 0.10,
    outlier_identities: int = 120,
    flips: float = 0.10,
    lookalike_flips: float = 0.0,
    splits: float = 0.20,
    least_images: int = 8,
    embeddings: Path | None = None,
    seed: int = 0,
) -> None:
    """Plant wrong labels on purpose, and keep the truth, to see what a cleaning would find.

    OUT gets noisy.parquet, to train on and to clean, and truth.parquet, which openmfr clean judge
    compares with. The images that stand for strangers are those of whole identities set aside.

    Example: openmfr clean plant faces/labels.parquet planted

    Args:
        labels: Label table, taken to be true.
        out: Folder to make.
        outliers: Images of strangers, as a share of the images that stay, 0 to 1.
        outlier_identities: Identities set aside, which lend those images.
        flips: Images under the name of another identity, as a share, 0 to 1.
        lookalike_flips: Which share of the flips goes to somebody who looks alike, 0 to 1; needs
            EMBEDDINGS.
        splits: Identities in two parts, as a share of those with LEAST_IMAGES, 0 to 1.
        least_images: Images that an identity must have to be split.
        embeddings: Say who looks alike.
        seed: Of all draws.
    """
    from openmfr.cleaning.centers import sum_centers
    from openmfr.data.labels import Labels
    from openmfr.data.noise import NOISY, TRUTH, NoiseConfig, plant_noise
    from openmfr.embed import Embeddings

    config = NoiseConfig(
        outliers=outliers,
        outlier_identities=outlier_identities,
        flips=flips,
        lookalike_flips=lookalike_flips,
        splits=splits,
        least_images=least_images,
        seed=seed,
    )
    table = Labels.read(labels)
    centers = None
    if embeddings is not None:
        opened = Embeddings(embeddings)
        table.check_store(opened.open_store(), where=str(labels))
        centers = sum_centers(opened.array, table.identity, table.keep).unit()
    planted = plant_noise(table, config, centers=centers)
    planted.write(out)
    noisy = planted.noisy
    print(
        f"{int(noisy.keep.sum()):,} images of {noisy.kept_identities.size:,} identities, of them "
        + ", ".join(f"{count:,} {kind}" for kind, count in planted.counts().items())
    )
    print(f"noisy labels: {out / NOISY}")
    print(f"truth: {out / TRUTH}")
