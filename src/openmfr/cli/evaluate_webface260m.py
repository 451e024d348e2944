"""`openmfr evaluate webface260m`: the challenge's WebFace260M track."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from openmfr.cli.evaluating import Folders


def main(
    embeddings: Folders,
    *,
    images: Path,
    out: Path,
    labels: Path | None = None,
    store: Path | None = None,
    fmr: float = 1e-5,
    precision: Literal["float32", "bfloat16"] = "float32",
    workers: int = 1,
    replicates: int = 1_000,
    seed: int = 0,
) -> None:
    """Measure embeddings by the WebFace260M track: FNMR of masked (MFR) and standard (SFR) pairs.

    Each over all images, those taken in the wild and those taken under control; the score is
    0.25 MFR-All + 0.75 SFR-All, the lower the better. The track's own images are not public.

    Example: openmfr evaluate webface260m embeddings --images images.csv --out report

    Args:
        embeddings: Folders that openmfr embed wrote, of one store; the report is about the first.
        images: CSV with the columns path, is_masked (1 or 0) and scene (wild or controlled).
        out: Folder for report.html, report.md and report.json.
        labels: Who is on each image; the identity names that the store was made with by default.
        store: Where the embedded store lies now, if it was moved.
        fmr: False match rate; the track's is 1e-5, which small sets cannot support.
        precision: What screens the pairs; the figures are the same.
        workers: Processes; the figures are the same.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws.
    """
    from openmfr.cli.evaluating import columns_of, measure_track, named_arrays, truths
    from openmfr.evaluation.protocols.tracks import Options, WebFace260MTrack

    opened, arrays, images_store = named_arrays(embeddings, store)
    columns = columns_of(images, images_store, ["is_masked", "scene"])
    track = WebFace260MTrack(
        is_masked=truths(columns["is_masked"], where=f"{images}, is_masked"),
        scene=columns["scene"],
        fmr=fmr,
    )
    measure_track(
        track,
        opened,
        arrays,
        images_store,
        out,
        labels=labels,
        options=Options(precision=precision, workers=workers, replicates=replicates, seed=seed),
        title="WebFace260M track",
        table="2",
    )
