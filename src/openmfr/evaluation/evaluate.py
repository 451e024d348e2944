"""Embeddings and a protocol → a result and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.data.labels import IntArray, Labels
from openmfr.data.store import Store
from openmfr.embed import Embeddings
from openmfr.errors import UserError
from openmfr.evaluation.accuracy import Thresholds
from openmfr.evaluation.breakdown import Traits, break_down, mask_kinds
from openmfr.evaluation.calibrating import impostor_pairs
from openmfr.evaluation.calibration import Calibration
from openmfr.evaluation.checks import (
    check_embeddings,
    check_same_store,
    name_folders,
    suspicion,
)
from openmfr.evaluation.comparisons import Comparisons, VerificationProtocol
from openmfr.evaluation.masked import MaskedPairs
from openmfr.evaluation.verification import DEFAULT_FMRS, VerificationResult, measure
from openmfr.evaluation.verification_report import write_verification_report

FloatArray = npt.NDArray[np.floating]


_NOTHING_KNOWN = Traits()


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
    traits: Traits = _NOTHING_KNOWN,
    common_fmr: float | None = None,
    reference: str | None = None,
    configuration: Mapping[str, Any] | None = None,
    metrics: Sequence[Mapping[str, float]] = (),
) -> dict[str, VerificationResult]:
    """Measure embeddings of one store by one protocol and write the report.

    Args:
        protocol: Which images are compared; `MaskedPairs` where there are masked embeddings.
        embeddings: The first is the report's subject, the others stand beside it.
        identity: Who is on each image of the store, shape (N,).
        out: Folder for `report.html`, `report.json` and `report.md`.
        title: Heading of the report.
        masked: For each of `embeddings`, those of the masked store by the same model.
        store_path: Where the store lies now, if it was moved since it was embedded.
        fmrs: False match rates at which to give FNMR and TAR.
        replicates: Draws of identities for the intervals; 0 for none.
        seed: Of the draws.
        thresholds: How accuracy searches a fold's threshold: exact, or on InsightFace's grid.
        traits: What is known of the images, to measure groups of people and kinds of masks apart;
            with masked embeddings, of both stacked.
        common_fmr: False match rate that sets the one threshold for groups and masks; by default
            the smallest supported of `fmrs`.
        reference: Group of people whose impostor pairs set their threshold; all by default.
        configuration: What else belongs into the report's configuration.
        metrics: Rows of the training run's metrics, for its curves.

    Returns:
        The results, by the name of the embeddings' folder.

    Raises:
        UserError: If two folders have one name or embed different stores, masked embeddings are of
            other models or images, or the protocol cannot be measured.
    """
    named = name_folders(embeddings)
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
    draws: dict[str, Any] = {"fmrs": fmrs, "replicates": replicates, "seed": seed}
    results = {}
    for name, array in arrays.items():
        compared = protocol.compare(array, identity)
        comparisons = _with_kinds(compared, traits)
        if comparisons.kind is not None and np.unique(comparisons.kind).size == 1:
            comparisons = compared  # a single kind is the whole
        result = measure(comparisons, thresholds=thresholds, **draws)
        parts = break_down(comparisons, traits, fmr=common_fmr, reference=reference, **draws)
        notes = [*result.notes, *filter(None, [suspicion(comparisons)])]
        results[name] = replace(result, breakdown=parts, notes=tuple(notes))
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


def calibrate(
    embeddings: Embeddings,
    store: Store,
    labels: Labels,
    *,
    masked: Embeddings | None = None,
    traits: Traits | None = None,
    pairs: int = 1_000_000,
    replicates: int = 200,
    seed: int = 0,
) -> Calibration:
    """Learn which false match rate a model's scores stand for, by condition.

    Args:
        embeddings: Of the store's images.
        store: What was embedded.
        labels: Who is on its images, and who wears a mask; only what they keep is compared.
        masked: Embeddings of the same images with masks on, by the same model.
        traits: Who wears a mask, instead of what labels and stores say; with masked embeddings, of
            both stacked.
        pairs: Impostor pairs to sample; all, if there are no more.
        replicates: Draws of identities for the intervals; 0 for none.
        seed: Of the draws and the sampled pairs.

    Raises:
        UserError: If embeddings are missing, the masked ones are of another model or of other
            images, or a condition has too few impostor pairs.
    """
    drawn = impostor_pairs(labels.identity, labels.keep, pairs=pairs, seed=seed)
    listed: VerificationProtocol = drawn
    array, sources = embeddings.array, store.column("source")
    if masked is not None:
        worn = masked.open_store()
        listed = MaskedPairs.of(drawn, bare=store, masked=worn)
        array = _stacked({"": embeddings}, [masked])[""]
        sources = [*sources, *sources]
        traits = traits or Traits.of(store, labels).stacked(Traits.of(worn, None))
    traits = traits or Traits.of(store, labels)
    check_embeddings(array, sources=sources, needed=listed.rows())
    compared = _with_kinds(listed.compare(array, labels.identity), traits)
    return Calibration.fit(
        compared, model=embeddings.model_fingerprint, replicates=replicates, seed=seed
    )


def _with_kinds(comparisons: Comparisons, traits: Traits) -> Comparisons:
    """Tell bare pairs from masked ones, where the protocol has no kinds of its own."""
    if comparisons.kind is not None:
        return comparisons
    return replace(comparisons, kind=mask_kinds(comparisons, traits.is_masked))


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
    check_same_store(masked)
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
