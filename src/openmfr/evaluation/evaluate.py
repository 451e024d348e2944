"""Embeddings and a protocol → a result and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openmfr.data.labels import IntArray
from openmfr.embed import Embeddings
from openmfr.errors import UserError
from openmfr.evaluation.comparisons import VerificationProtocol
from openmfr.evaluation.verification import DEFAULT_FMRS, VerificationResult, measure
from openmfr.evaluation.verification_report import write_verification_report


def evaluate(
    protocol: VerificationProtocol,
    embeddings: Sequence[Embeddings],
    identity: IntArray,
    out: Path,
    *,
    title: str,
    store_path: Path | None = None,
    fmrs: Sequence[float] = DEFAULT_FMRS,
    replicates: int = 1_000,
    seed: int = 0,
    configuration: Mapping[str, Any] | None = None,
    metrics: Sequence[Mapping[str, float]] = (),
) -> dict[str, VerificationResult]:
    """Measure embeddings of one store by one protocol and write the report.

    Args:
        protocol: Which images are compared.
        embeddings: The first is the report's subject, the others stand beside it.
        identity: Who is on each image of the store, shape (N,).
        out: Folder for `report.html` and `report.json`.
        title: Heading of the report.
        store_path: Where the store lies now, if it was moved since it was embedded.
        fmrs: False match rates at which to give FNMR and TAR.
        replicates: Draws of identities for the intervals; 0 for none.
        seed: Of the draws.
        configuration: What else belongs into the report's configuration.
        metrics: Rows of the training run's metrics, for its curves.

    Returns:
        The results, by the name of the embeddings' folder.

    Raises:
        UserError: If two folders have one name or embed different stores, or the protocol cannot
            be measured.
    """
    named = {part.path.resolve().name: part for part in embeddings}
    if len(named) < len(embeddings):
        raise UserError(
            where="embeddings",
            found="two folders of one name",
            allowed="a different name for each",
            next_step="rename one: the report tells them apart by it",
        )
    stores = {name: part.open_store(store_path) for name, part in named.items()}
    results = {
        name: measure(
            protocol.compare(part.array, identity), fmrs=fmrs, replicates=replicates, seed=seed
        )
        for name, part in named.items()
    }
    store = next(iter(stores.values()))
    write_verification_report(
        out,
        title=title,
        results=results,
        configuration={
            **(configuration or {}),
            "store": str(store.path),
            "seed": seed,
            "replicates": replicates,
            "embeddings": {name: part.settings for name, part in named.items()},
        },
        metrics=metrics,
        image=store.decode,
        sources=store.column("source"),
    )
    return results
