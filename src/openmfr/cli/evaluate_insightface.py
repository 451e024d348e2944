"""`openmfr evaluate insightface`: the challenge's InsightFace track, MFR-ongoing."""

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
    precision: Literal["float32", "bfloat16"] = "float32",
    workers: int = 1,
    replicates: int = 1_000,
    seed: int = 0,
) -> None:
    """Measure embeddings by the InsightFace track: TAR on Mask, Children, four groups, MR-All.

    Mask and Children at FAR 1e-4, the others at 1e-6; the score is 0.25 TAR@Mask +
    0.75 TAR@MR-All, the higher the better. The track's own images are not public.

    Example: openmfr evaluate insightface embeddings --images images.csv --out report

    where images.csv has a row for each image of the store, for example

        path,is_masked,test_set
        ann/ann_1.jpg,0,mask
        ann/ann_2.jpg,1,mask
        bob/bob_1.jpg,0,east_asian
        eve/eve_1.jpg,0,

    More folders of embeddings stand side by side, with paired differences to the first.

    Args:
        embeddings: Folders that openmfr embed wrote, of one store; the report is about the first.
        images: CSV with the columns path, is_masked (1 or 0) and test_set (mask, children, african,
            caucasian, south_asian, east_asian, or nothing).
        out: Folder for report.html, report.md and report.json.
        labels: Who is on each image; what it does not keep is left out. The identity names that the
            store was made with by default.
        store: Where the embedded store lies now, if it was moved.
        precision: What screens the pairs; the figures are the same.
        workers: Processes; the figures are the same.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws.
    """
    from openmfr.cli.evaluating import evaluate_track
    from openmfr.evaluation.protocols.tracks import InsightFaceTrack, Options

    evaluate_track(
        lambda is_masked, test_set: InsightFaceTrack(is_masked=is_masked, test_set=test_set),
        "test_set",
        embeddings,
        images=images,
        out=out,
        labels=labels,
        store=store,
        options=Options(precision=precision, workers=workers, replicates=replicates, seed=seed),
        title="InsightFace track",
        table="1",
    )
