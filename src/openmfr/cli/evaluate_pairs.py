"""`openmfr evaluate pairs`: a list of pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from openmfr.cli.evaluating import Folders
from openmfr.cli.evaluating_lists import Flags


def main(
    embeddings: Folders,
    *,
    pairs: Path,
    flags: Flags,
    thresholds: Literal["exact", "insightface"] = "exact",
) -> None:
    """Measure embeddings by a list of pairs, and write a report.

    Example: openmfr evaluate pairs lfw-embeddings --pairs pairs.csv --out lfw-report

    Example: openmfr evaluate pairs lfw-embeddings --masked lfw-masked-embeddings --pairs pairs.csv
    --out lfw-report

    Example: openmfr evaluate pairs embeddings --pairs pairs.csv --images images.csv --by region
    --out report

    Models stand side by side, with paired differences to the first.

    Args:
        embeddings: Folders that openmfr embed wrote, of one store; the report is about the first.
        pairs: The list: CSV with path_a, path_b, genuine and, if wanted, fold and kind; or the
            set's own: pairs.txt of LFW, CALFW, CPLFW; AgeDB-30's .mat; CFP's folder Protocol (FP);
            RFW's folder of lists. Images are found by the end of their paths.
        flags: What lists of pairs are measured with.
        thresholds: How accuracy finds a fold's threshold on the others: among all scores, or on the
            grid of InsightFace's verification.py, to repeat its figures.
    """
    from openmfr.cli.evaluating_lists import evaluate_list, open_faces
    from openmfr.evaluation.protocols.lists import identities_from_pairs, read_pairs

    opened, faces, table = open_faces(embeddings, flags)
    listed = read_pairs(pairs, faces.column("source"))
    identity = table.identity
    if (identity[listed.rows()] < 0).any():  # sets such as CALFW name nobody
        identity = identities_from_pairs(
            listed.index_a, listed.index_b, listed.is_genuine, count=len(faces)
        )
    evaluate_list(
        listed,
        opened,
        faces,
        table,
        flags,
        title=f"Verification on {pairs.resolve().parent.name}/{pairs.name}",
        configuration={"protocol": "pairs", "pairs": str(pairs)},
        identity=identity,
        thresholds=thresholds,
    )
