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
    by: str | None = None,
    store: Path | None = None,
    fmr: tuple[float, ...] = (1e-4, 1e-5, 1e-6),
    precision: Literal["float32", "bfloat16"] = "float32",
    workers: int = 1,
    replicates: int = 1_000,
    seed: int = 0,
) -> None:
    """Compare every image with every other, exactly, and write a report.

    Nothing is sampled, and the pairs are never held: a set of 57,715 images makes 1.7 billion.

    Where the labels say who wears a mask, unmasked faces are compared with each other (uu), masked
    with unmasked ones (mu), and masked ones (mm).

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
        images: CSV with a column path, and the one that --by names.
        by: Column of IMAGES: the images of each of its values are compared with each other too.
        store: Where the embedded store lies now, if it was moved.
        fmr: False match rates at which to give FNMR and TAR.
        precision: What screens the pairs; the figures are the same. bfloat16 takes half the time on
            CPUs that multiply it.
        workers: Processes; the figures are the same.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws.
    """
    from openmfr.cli.evaluating import (
        checked,
        columns_of,
        left_out,
        named_arrays,
        open_labels,
        told,
        write_and_say,
    )
    from openmfr.errors import UserError
    from openmfr.evaluation.all_pairs.rates import group_sets, masked_sets, measure_sets
    from openmfr.evaluation.checks import order_suspicion

    if (by is None) != (images is None):
        raise UserError(
            where="--by",
            found=by or "nothing",
            allowed="a column of the table that --images names; or neither of them",
            next_step="openmfr evaluate all … --images images.csv --by group",
        )
    opened, arrays, images_store = named_arrays(embeddings, store)
    table = open_labels(labels, images_store)
    keep = table.keep & (table.identity >= 0)
    sets = {"all": (keep, keep)}
    if (table.is_masked & keep).any():
        sets = {
            name: (first & keep, second & keep)
            for name, (first, second) in masked_sets(table.is_masked).items()
        }
    if images is not None and by is not None:
        groups = group_sets(columns_of(images, images_store, [by])[by])
        sets |= {
            f"{by} {name}": (first & keep, second & keep)
            for name, (first, second) in groups.items()
            if name
        }
    described = checked(opened, images_store.column("source"), keep)
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
    write_and_say(
        results,
        images_store,
        out,
        title=f"All pairs of {int(keep.sum()):,} images",
        configuration={
            "protocol": "all",
            "replicates": replicates,
            "seed": seed,
            "embeddings": described,
        },
        notes=[*left_out(keep), *told(doubts)],
    )
