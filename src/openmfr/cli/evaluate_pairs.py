"""`openmfr evaluate pairs`: a list of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from openmfr.cli.evaluating import Folders


def main(
    embeddings: Folders,
    *,
    pairs: Path,
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
    thresholds: Literal["exact", "insightface"] = "exact",
    replicates: int = 1_000,
    seed: int = 0,
) -> None:
    """Measure embeddings by a list of pairs, and write a report.

    Example: openmfr evaluate pairs lfw-embeddings --pairs pairs.csv --out lfw-report

    Example: openmfr evaluate pairs lfw-embeddings --masked lfw-masked-embeddings --pairs pairs.csv
    --out lfw-report

    Example: openmfr evaluate pairs embeddings --pairs pairs.csv --images images.csv --by region
    --out report

    Args:
        embeddings: Folders that openmfr embed wrote, of one store; the report is about the first.
        pairs: The list: CSV with path_a, path_b, genuine and, if wanted, fold and kind; or the
            set's own: pairs.txt of LFW, CALFW, CPLFW; AgeDB-30's .mat; CFP's folder Protocol (FP);
            RFW's folder of lists. Images are found by the end of their paths.
        out: Folder for report.html, report.md and report.json.
        masked: For each of EMBEDDINGS, those of the same images with masks (openmfr mask render):
            every pair is then measured bare (uu), masked with bare (mu), and masked (mm).
        labels: Who is on each image; the identity names that the store was made with by default.
        images: CSV with a column path, and those that --by names.
        by: Columns of IMAGES. Each group of people in one is measured at a common threshold, and so
            are the labels' groups; a column whose name begins with mask_ is what masks look like.
        common_fmr: False match rate that sets the common threshold, on all impostor pairs for
            groups, on bare ones for masks; by default the smallest of FMR that is supported.
        reference: Group whose impostor pairs set it instead.
        store: Where the embedded store lies now, if it was moved.
        run: The run that trained the model: its training curves and configuration join the report.
        fmr: False match rates at which to give FNMR and TAR.
        thresholds: How accuracy finds a fold's threshold on the others: among all scores, or on the
            grid of InsightFace's verification.py, to repeat its figures.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws.
    """
    from openmfr.cli.evaluating import open_embeddings, open_labels, say
    from openmfr.cli.traits import open_traits
    from openmfr.embed import Embeddings
    from openmfr.evaluation.breakdown_tables import breakdown_summary
    from openmfr.evaluation.comparisons import VerificationProtocol
    from openmfr.evaluation.evaluate import evaluate
    from openmfr.evaluation.masked import MaskedPairs
    from openmfr.evaluation.protocols.lists import identities_from_pairs, read_pairs
    from openmfr.run import run_metrics, run_settings

    opened = open_embeddings(embeddings)
    faces = opened[0].open_store(store)
    table = open_labels(labels, faces)
    covered = [Embeddings(path) for path in masked]
    pair_list = read_pairs(pairs, faces.column("source"))
    identity = table.identity
    if (identity[pair_list.rows()] < 0).any():  # sets such as CALFW name nobody
        identity = identities_from_pairs(
            pair_list.index_a, pair_list.index_b, pair_list.is_genuine, count=len(faces)
        )
    listed: VerificationProtocol = pair_list
    masks = covered[0].open_store() if covered else None
    if masks is not None:
        listed = MaskedPairs.of(pair_list, bare=faces, masked=masks)
    results = evaluate(
        listed,
        opened,
        identity,
        out,
        title=f"Verification on {pairs.resolve().parent.name}/{pairs.name}",
        masked=covered,
        store_path=store,
        fmrs=fmr,
        replicates=replicates,
        seed=seed,
        thresholds=thresholds,
        traits=open_traits(faces, table, images=images, by=by, masked=masks),
        common_fmr=common_fmr,
        reference=reference,
        configuration={
            "protocol": "pairs",
            "pairs": str(pairs),
            **(run_settings(run) if run else {}),
        },
        metrics=run_metrics(run) if run else (),
    )
    for name, result in results.items():
        print(breakdown_summary(name, result.breakdown), end="")
    say(results, out)
