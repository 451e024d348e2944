"""`openmfr evaluate all`: every image against every other."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from openmfr.cli.evaluating import Folders


def main(
    embeddings: Folders,
    *,
    out: Path,
    labels: Path | None = None,
    images: Path | None = None,
    by: tuple[str, ...] = (),
    store: Path | None = None,
    fmr: tuple[float, ...] = (1e-4, 1e-5, 1e-6),
    precision: Literal["float32", "bfloat16"] = "float32",
    workers: int = 1,
    replicates: int = 1_000,
    seed: int = 0,
) -> None:
    """Compare every image with every other, exactly, and write a report.

    Nothing is sampled, and the pairs are never held: a set of 57,715 images makes 1.7 billion.

    Where labels or a table say who wears a mask, unmasked faces are compared with each other (uu),
    masked with unmasked ones (mu), and masked ones (mm).

    Example: openmfr evaluate all embeddings --out report --fmr 1e-4 1e-5

    Example: openmfr evaluate all baseline-embeddings my-embeddings --images images.csv --by region
    --out report

    where images.csv has a row for each image of the store, for example

        path,region
        ann/ann_1.jpg,north
        bob/bob_1.jpg,south

    Models stand side by side, with paired differences to the first.

    Args:
        embeddings: Folders that openmfr embed wrote, of one store; the report is about the first.
        out: Folder for report.html, report.md and report.json.
        labels: Who is on each image, and who wears a mask; what it does not keep is left out. The
            identity names that the store was made with by default.
        images: CSV with a column path, and those that --by names.
        by: Columns of IMAGES: the images of each group in one are compared with each other too. A
            column mask, or one whose name begins with mask_, says who wears which mask, with an
            empty cell for a bare face: the masks of each look are compared with bare faces.
        store: Where the embedded store lies now, if it was moved.
        fmr: False match rates at which to give FNMR and TAR.
        precision: What screens the pairs; the figures are the same. bfloat16 takes half the time on
            CPUs that multiply it.
        workers: Processes; the figures are the same.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws.
    """
    from openmfr.cli.evaluating import (
        check_numbers,
        checked,
        left_out,
        named_arrays,
        open_labels,
        say_all_pairs,
        told,
    )
    from openmfr.cli.traits import open_traits
    from openmfr.evaluation.all_pairs.sets import measurable_sets, measure_sets, trait_sets
    from openmfr.evaluation.checks import order_suspicion

    check_numbers(fmr, replicates=replicates, seed=seed)
    opened, arrays, faces = named_arrays(embeddings, store)
    table = open_labels(labels, faces)
    keep = table.keep & (table.identity >= 0)
    traits = open_traits(faces, table, images=images, by=by)
    sets, unmeasured = measurable_sets(table.identity, trait_sets(traits, keep, by=by))
    described = checked(opened, faces.column("source"), keep)
    doubts = {name: order_suspicion(array, table.identity, keep) for name, array in arrays.items()}
    results = {
        model: measure_sets(
            array,
            table.identity,
            sets,
            fmrs=fmr,
            precision=precision,
            workers=workers,
            replicates=replicates,
            seed=seed,
        )
        for model, array in arrays.items()
    }
    say_all_pairs(
        results,
        faces,
        out,
        title=f"All pairs of {int(keep.sum()):,} images",
        configuration={
            "protocol": "all",
            "replicates": replicates,
            "seed": seed,
            "embeddings": described,
        },
        notes=[*left_out(keep), *unmeasured, *told(doubts)],
    )
