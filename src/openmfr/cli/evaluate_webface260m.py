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

    Example: openmfr evaluate webface260m embeddings --images images.csv --out report --fmr 1e-3

    where images.csv has a row for each image of the store, for example

        path,is_masked,scene
        ann/ann_1.jpg,0,wild
        ann/ann_2.jpg,1,controlled
        bob/bob_1.jpg,0,

    More folders of embeddings stand side by side, with paired differences to the first.

    Args:
        embeddings: Folders that openmfr embed wrote, of one store; the report is about the first.
        images: CSV with the columns path, is_masked (1 or 0) and scene (wild, controlled, or
            nothing).
        out: Folder for report.html, report.md and report.json.
        labels: Who is on each image; what it does not keep is left out. The identity names that the
            store was made with by default.
        store: Where the embedded store lies now, if it was moved.
        fmr: False match rate; the track's is 1e-5, which small sets cannot support.
        precision: What screens the pairs; the figures are the same.
        workers: Processes; the figures are the same.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws.
    """
    from openmfr.cli.evaluating import evaluate_track
    from openmfr.evaluation.protocols.tracks import Options, WebFace260MTrack

    evaluate_track(
        lambda is_masked, scene: WebFace260MTrack(is_masked=is_masked, scene=scene, fmr=fmr),
        "scene",
        embeddings,
        images=images,
        out=out,
        labels=labels,
        store=store,
        options=Options(precision=precision, workers=workers, replicates=replicates, seed=seed),
        title="WebFace260M track",
        table="2",
    )
