"""`openmfr evaluate identities`: pairs sampled from identities."""

from __future__ import annotations

from openmfr.cli.evaluating import Folders
from openmfr.cli.evaluating_lists import Flags


def main(embeddings: Folders, *, flags: Flags) -> None:
    """Measure embeddings on 3,000 genuine and 3,000 impostor pairs, and write a report.

    Example: openmfr evaluate identities embeddings --labels held_out.parquet --out report

    Only images that the labels keep are compared. Models stand side by side, with paired
    differences to the first.

    Args:
        embeddings: Folders that openmfr embed wrote, of one store; the report is about the first.
        flags: What lists of pairs are measured with.
    """
    from openmfr.cli.evaluating_lists import evaluate_list, open_faces
    from openmfr.evaluation.sampling import sample_pairs

    opened, faces, table = open_faces(embeddings, flags)
    evaluate_list(
        sample_pairs(table.identity, table.keep, seed=flags.seed),
        opened,
        faces,
        table,
        flags,
        title=f"Verification on {table.kept_identities.size:,} identities",
        configuration={"protocol": "identities", "pairs": "sampled from the labels"},
    )
