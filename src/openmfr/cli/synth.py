"""`openmfr synth`: make identity-labelled synthetic faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    /,
    identities: int = 200,
    images: int = 20,
    seed: int = 0,
    size: int = 112,
    workers: int | None = None,
) -> None:
    """Make synthetic faces from openmfr's own head model: a store and its labels.

    The same seed makes the same bytes, however many workers there are. A run that was stopped goes
    on when the same command is given again.

    Example: openmfr synth faces --identities 200 --images 20 --seed 0

    Args:
        out: Folder of the store to make; labels.parquet is written into it.
        identities: How many people.
        images: Images of each.
        seed: Another seed makes other people.
        size: Height and width of the images in pixels.
        workers: Processes; one for each CPU by default.
    """
    from openmfr.synthetic.dataset import LABELS, synthesise

    store, labels = synthesise(
        out,
        identities=identities,
        images=images,
        seed=seed,
        size=size,
        workers=workers,
        geometry=True,
    )
    print(f"{len(store):,} images of {len(labels.kept_identities):,} identities: {store.path}")
    print(f"labels: {store.path / LABELS}")
