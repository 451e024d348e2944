"""Measure embeddings that you already have, from any model: an .npz file and a list of pairs.

    python examples/evaluate_own_embeddings.py embeddings.npz --pairs pairs.csv --out report

The .npz file holds `embedding`, shape (N, D), and `path`, shape (N,): how the list of pairs names
each image. Who is on an image is the folder in its path, as in `Ann/0001.jpg`. The list has the
columns path_a, path_b, genuine (1 or 0) and, if wanted, fold and kind; LFW's pairs.txt will do too.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import tyro

import openmfr


def main(
    embeddings: tyro.conf.Positional[Path], *, pairs: Path, out: Path
) -> openmfr.VerificationResult:
    """Compare the pairs, measure error rates with intervals, and write a report.

    Args:
        embeddings: The .npz file.
        pairs: The list.
        out: Folder for report.html and report.json.
    """
    with np.load(embeddings, allow_pickle=False) as content:
        embedding, paths = content["embedding"], content["path"].tolist()
    _, identity = np.unique([str(PurePosixPath(p).parent) for p in paths], return_inverse=True)

    comparisons = openmfr.read_pairs(pairs, paths).compare(embedding, identity)
    result = openmfr.measure(comparisons)
    openmfr.write_verification_report(
        out,
        title=f"{embeddings.name} on {pairs.name}",
        results={embeddings.stem: result},
        configuration={"embeddings": str(embeddings), "pairs": str(pairs)},
        sources=paths,
    )
    return result


if __name__ == "__main__":
    measured = tyro.cli(main)
    print(f"accuracy {measured.accuracy.mean.value:.2%}, EER {measured.eer.value:.2%}")
    for rate in measured.rates:
        found = rate.fnmr.flag if rate.fnmr.value is None else f"{rate.fnmr.value:.2%}"
        print(f"FNMR at FMR {rate.fmr:g}: {found}")
