"""`openmfr evaluate identities`: pairs sampled from identities."""

from __future__ import annotations

from pathlib import Path

from openmfr.cli.evaluating import Folders


def main(
    embeddings: Folders,
    *,
    out: Path,
    labels: Path | None = None,
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
        out: Folder for report.html and report.json.
        labels: Who is on each image; only what it keeps is compared. The identity names that the
            store was made with by default.
        store: Where the embedded store lies now, if it was moved.
        run: The run that trained the model: its training curves and configuration join the report.
        fmr: False match rates at which to give FNMR and TAR.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws and the sampled pairs.
    """
    from openmfr.cli.evaluating import open_embeddings, open_labels, say
    from openmfr.evaluation.evaluate import evaluate
    from openmfr.evaluation.sampling import sample_pairs
    from openmfr.run import run_metrics, run_settings

    opened = open_embeddings(embeddings)
    table = open_labels(labels, opened[0].open_store(store))
    results = evaluate(
        sample_pairs(table.identity, table.keep, seed=seed),
        opened,
        table.identity,
        out,
        title=f"Verification on {table.kept_identities.size:,} identities",
        store_path=store,
        fmrs=fmr,
        replicates=replicates,
        seed=seed,
        configuration={
            "protocol": "identities",
            "pairs": "sampled from the labels",
            **(run_settings(run) if run else {}),
        },
        metrics=run_metrics(run) if run else (),
    )
    say(results, out)
