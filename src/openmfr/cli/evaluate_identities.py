"""`openmfr evaluate identities`: pairs sampled from identities."""

from __future__ import annotations

from pathlib import Path

from openmfr.cli.evaluating import Folders


def main(
    embeddings: Folders,
    *,
    out: Path,
    masked: tuple[Path, ...] = (),
    labels: Path | None = None,
    images: Path | None = None,
    by: tuple[str, ...] = (),
    common_fmr: float | None = None,
    reference: str | None = None,
    store: Path | None = None,
    run: Path | None = None,
    fmr: tuple[float, ...] = (1e-1, 1e-2, 1e-3),
    replicates: int = 1_000,
    seed: int = 0,
) -> None:
    """Measure embeddings on 3,000 genuine and 3,000 impostor pairs, and write a report.

    Example: openmfr evaluate identities embeddings --labels held_out.parquet --out report

    Args:
        embeddings: Folders that openmfr embed wrote, of one store; the report is about the first.
        out: Folder for report.html, report.md and report.json.
        masked: For each of EMBEDDINGS, those of the same images with masks (openmfr mask render):
            every pair is then measured bare (uu), masked with bare (mu), and masked (mm).
        labels: Who is on each image; only what it keeps is compared. The identity names that the
            store was made with by default.
        images: CSV with a column path, and those that --by names.
        by: Columns of IMAGES. Each group of people in one is measured at a common threshold, and so
            are the labels' groups; a column whose name begins with mask_ is what masks look like.
        common_fmr: False match rate that sets the common threshold, on all impostor pairs for
            groups, on bare ones for masks; by default the smallest of FMR that is supported.
        reference: Group whose impostor pairs set it instead.
        store: Where the embedded store lies now, if it was moved.
        run: The run that trained the model: its training curves and configuration join the report.
        fmr: False match rates at which to give FNMR and TAR.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws and the sampled pairs.
    """
    from openmfr.cli.evaluating import open_embeddings, open_labels, say
    from openmfr.cli.traits import open_traits
    from openmfr.embed import Embeddings
    from openmfr.evaluation.breakdown_tables import breakdown_summary
    from openmfr.evaluation.comparisons import VerificationProtocol
    from openmfr.evaluation.evaluate import evaluate
    from openmfr.evaluation.masked import MaskedPairs
    from openmfr.evaluation.sampling import sample_pairs
    from openmfr.run import run_metrics, run_settings

    opened = open_embeddings(embeddings)
    faces = opened[0].open_store(store)
    table = open_labels(labels, faces)
    sampled = sample_pairs(table.identity, table.keep, seed=seed)
    listed: VerificationProtocol = sampled
    covered = [Embeddings(path) for path in masked]
    masks = covered[0].open_store() if covered else None
    if masks is not None:
        listed = MaskedPairs.of(sampled, bare=faces, masked=masks)
    results = evaluate(
        listed,
        opened,
        table.identity,
        out,
        title=f"Verification on {table.kept_identities.size:,} identities",
        masked=covered,
        store_path=store,
        fmrs=fmr,
        replicates=replicates,
        seed=seed,
        traits=open_traits(faces, table, images=images, by=by, masked=masks),
        common_fmr=common_fmr,
        reference=reference,
        configuration={
            "protocol": "identities",
            "pairs": "sampled from the labels",
            **(run_settings(run) if run else {}),
        },
        metrics=run_metrics(run) if run else (),
    )
    for name, result in results.items():
        print(breakdown_summary(name, result.breakdown), end="")
    say(results, out)
