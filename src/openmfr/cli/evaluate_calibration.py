"""`openmfr evaluate calibration`: what a score means, as a false match rate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    embeddings: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EMBEDDINGS")],
    *,
    out: Path,
    masked: Path | None = None,
    labels: Path | None = None,
    images: Path | None = None,
    by: tuple[str, ...] = (),
    store: Path | None = None,
    pairs: int = 1_000_000,
    fmr: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
    fpir: float = 0.01,
    galleries: tuple[int, ...] = (100, 1_000, 10_000, 100_000),
    replicates: int = 200,
    seed: int = 0,
) -> None:
    """Learn which false match rate a score stands for, and write it as JSON with a report.

    Pairs of different people are sampled and scored. Down to the rate of ten false matches a
    score's rate is measured, to a hundredth of that extrapolated, below refused. Where masks are
    known, bare pairs (uu), masked with bare ones (mu) and masked ones (mm) are calibrated apart.

    Example: openmfr evaluate calibration embeddings --out calibrated

    Example: openmfr evaluate calibration embeddings --masked masked-embeddings --out calibrated

    Args:
        embeddings: Folder that openmfr embed wrote.
        out: Folder for calibration.json, report.html, report.md and report.json.
        masked: Embeddings of the same images with masks (openmfr mask render) by the same model.
        labels: Who is on each image, and who wears a mask; only what it keeps is compared. The
            identity names that the store was made with by default.
        images: CSV with a column path, and those that --by names.
        by: Columns of IMAGES that say who wears a mask, where labels do not: mask, or names that
            begin with mask_, with an empty cell for a bare face.
        store: Where the embedded store lies now, if it was moved.
        pairs: Impostor pairs to sample; all, if there are no more.
        fmr: False match rates to show thresholds for.
        fpir: False positive identification rate to show galleries' thresholds for.
        galleries: Their sizes, in templates.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws and the sampled pairs.
    """
    from openmfr.cli.evaluating import check_numbers, open_labels, say
    from openmfr.cli.traits import open_traits
    from openmfr.embed import Embeddings
    from openmfr.evaluation.calibration import FILE, fmr_for_fpir
    from openmfr.evaluation.calibration_report import (
        calibration_summary,
        write_calibration_report,
    )
    from openmfr.evaluation.evaluate import calibrate

    check_numbers(fmr, replicates=replicates, seed=seed)
    for size in galleries:
        fmr_for_fpir(fpir, size)  # says what is out of range before a long calibration
    opened = Embeddings(embeddings)
    faces = opened.open_store(store)
    table = open_labels(labels, faces)
    covered = Embeddings(masked) if masked else None
    worn = covered.open_store() if covered else None
    calibration = calibrate(
        opened,
        faces,
        table,
        masked=covered,
        traits=open_traits(faces, table, images=images, by=by, masked=worn),
        pairs=pairs,
        replicates=replicates,
        seed=seed,
    )
    write_calibration_report(
        out,
        calibration,
        title=f"Calibration of {embeddings.resolve().name}",
        configuration={
            "store": str(faces.path),
            "pairs": pairs,
            "replicates": replicates,
            "seed": seed,
            "embeddings": opened.settings,
        },
        fmrs=fmr,
        fpir=fpir,
        galleries=galleries,
    )
    say([calibration_summary(calibration, fmr), f"calibration: {out / FILE}"], [], out)
