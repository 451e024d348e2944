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

    Args:
        embeddings: Folders that openmfr embed wrote, of one store; the report is about the first.
        images: CSV with the columns path, is_masked (1 or 0) and test_set (mask, children, african,
            caucasian, south_asian, east_asian).
        out: Folder for report.html, report.md and report.json.
        labels: Who is on each image; the identity names that the store was made with by default.
        store: Where the embedded store lies now, if it was moved.
        precision: What screens the pairs; the figures are the same.
        workers: Processes; the figures are the same.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws.
    """
    from openmfr.cli.evaluating import columns_of, measure_track, named_arrays, truths
    from openmfr.evaluation.protocols.tracks import InsightFaceTrack, Options

    opened, arrays, images_store = named_arrays(embeddings, store)
    columns = columns_of(images, images_store, ["is_masked", "test_set"])
    track = InsightFaceTrack(
        is_masked=truths(columns["is_masked"], where=f"{images}, is_masked"),
        test_set=columns["test_set"],
    )
    measure_track(
        track,
        opened,
        arrays,
        images_store,
        out,
        labels=labels,
        options=Options(precision=precision, workers=workers, replicates=replicates, seed=seed),
        title="InsightFace track",
        table="1",
    )
