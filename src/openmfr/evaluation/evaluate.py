"""Embeddings and a protocol → a result and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.data.labels import IntArray
from openmfr.embed import Embeddings
from openmfr.errors import UserError
from openmfr.evaluation.accuracy import Thresholds
from openmfr.evaluation.checks import check_embeddings, suspicion
from openmfr.evaluation.comparisons import VerificationProtocol
from openmfr.evaluation.verification import DEFAULT_FMRS, VerificationResult, measure
from openmfr.evaluation.verification_report import write_verification_report

FloatArray = npt.NDArray[np.floating]


def evaluate(
    protocol: VerificationProtocol,
    embeddings: Sequence[Embeddings],
    identity: IntArray,
    out: Path,
    *,
    title: str,
    masked: Sequence[Embeddings] = (),
    store_path: Path | None = None,
    fmrs: Sequence[float] = DEFAULT_FMRS,
    replicates: int = 1_000,
    seed: int = 0,
    thresholds: Thresholds = "exact",
    configuration: Mapping[str, Any] | None = None,
    metrics: Sequence[Mapping[str, float]] = (),
) -> dict[str, VerificationResult]:
    """Measure embeddings of one store by one protocol and write the report.

    Args:
        protocol: Which images are compared; `MaskedPairs` where there are masked embeddings.
        embeddings: The first is the report's subject, the others stand beside it.
        identity: Who is on each image of the store, shape (N,).
        out: Folder for `report.html` and `report.json`.
        title: Heading of the report.
        masked: For each of `embeddings`, those of the masked store by the same model.
        store_path: Where the store lies now, if it was moved since it was embedded.
        fmrs: False match rates at which to give FNMR and TAR.
        replicates: Draws of identities for the intervals; 0 for none.
        seed: Of the draws.
        thresholds: How accuracy searches a fold's threshold: exact, or on InsightFace's grid.
        configuration: What else belongs into the report's configuration.
        metrics: Rows of the training run's metrics, for its curves.

    Returns:
        The results, by the name of the embeddings' folder.

    Raises:
        UserError: If two folders have one name or embed different stores, masked embeddings are of
            other models or images, or the protocol cannot be measured.
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
    store = next(iter(stores.values()))
    arrays = {name: part.array for name, part in named.items()}
    pictures, sources = [store], store.column("source")
    if masked:
        arrays = _stacked(named, masked)
        pictures.append(masked[0].open_store())
        sources = [*sources, *(f"{source} (masked)" for source in sources)]
    needed = protocol.rows()
    lengths = {
        name: check_embeddings(array, sources=sources, needed=needed)
        for name, array in arrays.items()
    }
    results = {}
    for name, array in arrays.items():
        comparisons = protocol.compare(array, identity)
        result = measure(
            comparisons, fmrs=fmrs, replicates=replicates, seed=seed, thresholds=thresholds
        )
        doubt = suspicion(comparisons)
        results[name] = replace(result, notes=(*result.notes, doubt)) if doubt else result
    write_verification_report(
        out,
        title=title,
        results=results,
        configuration={
            **(configuration or {}),
            "store": str(store.path),
            "seed": seed,
            "replicates": replicates,
            "embeddings": {
                name: {**part.settings, "length": vars(lengths[name])}
                for name, part in named.items()
            },
        },
        metrics=metrics,
        image=lambda row: pictures[row // len(store)].decode(row % len(store)),
        sources=sources,
    )
    return results


def _stacked(
    named: Mapping[str, Embeddings], masked: Sequence[Embeddings]
) -> dict[str, FloatArray]:
    """Put each model's masked embeddings below its bare ones."""
    if len(masked) != len(named):
        raise UserError(
            where="masked embeddings",
            found=f"{len(masked)} folders",
            allowed=f"{len(named)}: one for each of the others, in their order",
            next_step="embed the masked store with each model",
        )
    stacked = {}
    for (name, bare), covered in zip(named.items(), masked, strict=True):
        if covered.model_fingerprint != bare.model_fingerprint or len(covered) != len(bare):
            raise UserError(
                where=str(covered.path),
                found=f"{len(covered):,} images by model {covered.model_fingerprint}",
                allowed=f"{len(bare):,} images by model {bare.model_fingerprint}, as {bare.path}",
                next_step="embed the masked store with the same checkpoint",
            )
        stacked[name] = np.concatenate([bare.array, covered.array])
    return stacked
