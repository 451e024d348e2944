"""`openmfr ingest`: photos → a store of aligned faces, labels, and what was refused."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from openmfr.cli.engine import Engine, cluster_of


def main(
    photos: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PHOTOS")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    *,
    labels: Path | None = None,
    landmarks: Path | None = None,
    aligned: tyro.conf.FlagCreatePairsOff[bool] = False,
    align: Literal["five", "eyes-nose"] = "five",
    size: int = 112,
    min_face: float = 32.0,
    workers: int | None = None,
    engine: Engine = "processes",
    address: str | None = None,
) -> None:
    """Detect, align and pack the faces of photos; a run that was stopped goes on when repeated.

    Example: openmfr ingest photos/ faces/

    OUT becomes a store with labels.parquet (who is on which image) and rejected.csv (which photos
    gave no face, and why). Of several faces in a photo the largest central one is taken, and the
    store's column "note" says so.

    Args:
        photos: Folder with one folder of photos per identity, or a RecordIO (train.rec).
        out: Folder to make.
        labels: CSV or Parquet with the columns path and identity, instead of folder names.
        landmarks: CSV or Parquet with path, x0, y0, ... x4, y4 (eyes, nose, corners of the mouth,
            left before right as seen in the picture): no detector is needed.
        aligned: The photos are aligned faces already; JPEGs of the right size are kept as they are.
        align: Landmarks that place a face: five, or eyes-nose, which leaves out the corners of the
            mouth: under a mask they can only be guessed.
        size: Edge of the aligned faces in pixels.
        min_face: Refuse faces smaller than this, in photo pixels along the edge of the crop.
        workers: Worker processes; one per core by default.
        engine: What does the work: processes of this machine, or a Ray cluster whose machines
            share the files (extra "cluster").
        address: HOST:PORT of the cluster's head; by default the one that this machine belongs to.
    """
    from openmfr.data.crop import IngestConfig
    from openmfr.data.ingest import LABELS, ingest
    from openmfr.data.rejected import REJECTED

    summary = ingest(
        photos,
        out,
        config=IngestConfig(size=size, min_face=min_face, is_aligned=aligned, align=align),
        labels=labels,
        landmarks=landmarks,
        workers=workers,
        cluster=cluster_of(engine, address),
    )
    refused = summary.photos - summary.faces
    print(f"{out}: {summary.faces:,} faces of {summary.identities:,} identities")
    if summary.was_finished:
        print("  was finished already")
    else:
        print(f"  {summary.photos:,} photos in {summary.seconds:.0f} s")
    if summary.several_faces:
        print(f"  {summary.several_faces:,} photos showed several faces; the largest central one")
    for kind, photos_refused in sorted(summary.rejected.items()):
        print(f"  {photos_refused:,} refused: {kind}")
    if refused:
        print(f"  the reason for each of the {refused:,} is in {out / REJECTED}")
    if summary.left_out:
        print(f"  {summary.left_out:,} other files in the folder are no photos by their suffix")
    print(f"  labels: {out / LABELS}")
