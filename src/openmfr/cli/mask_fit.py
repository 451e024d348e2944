"""`openmfr mask fit`: a store → the geometry of its faces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from openmfr.cli.engine import Engine, cluster_of


def main(
    store: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STORE")],
    *,
    out: Path | None = None,
    workers: int | None = None,
    engine: Engine = "processes",
    address: str | None = None,
) -> None:
    """Reconstruct every face of a store once, so that masks can be rendered at training speed.

    A run that was stopped goes on when the same command is given again. Images without a face, with
    a fit that cannot be theirs, or with a hand or a microphone before the mouth are listed in
    failed.csv with the reason; they stay unmasked.

    Example: openmfr mask fit faces

    Args:
        store: The store's folder; its faces should be bare.
        out: Folder to make; STORE/geometry by default, where the other commands look for it.
        workers: Worker processes; one per core by default.
        engine: What does the work: processes of this machine, or a Ray cluster whose machines
            share the files (extra "cluster").
        address: HOST:PORT of the cluster's head; by default the one that this machine belongs to.
    """
    from openmfr.data.fit import fit_geometry
    from openmfr.data.store import Store

    summary = fit_geometry(Store(store), out, workers=workers, cluster=cluster_of(engine, address))
    print(f"{summary.geometry.path}: {summary.fitted:,} of {summary.images:,} faces fitted")
    if summary.was_finished:
        print("  was finished already")
    else:
        print(f"  {summary.images:,} images in {summary.seconds:.0f} s")
    for reason, images in sorted(summary.failed.items()):
        print(f"  {images:,} stay unmasked: {reason}")
    if summary.failed:
        print(f"  each of them is in {summary.failed_list}")
