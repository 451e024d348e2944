"""A cleaning pass as a folder: the new labels, every decision, how the lines were drawn, a page.

The folder appears when all of it is written, or not at all. It belongs to one set of labels,
embeddings and settings: the same call there returns at once, another one is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from openmfr.cleaning.changes import DROP, MERGE, MOVE, Vetoes, plain_reason, read_vetoes
from openmfr.cleaning.clean import CleanResult, clean
from openmfr.cleaning.config import CleanConfig
from openmfr.cleaning.report import write_pass_report
from openmfr.cleaning.thresholds import Curve
from openmfr.config import to_dict
from openmfr.data.labels import DAMAGED, Labels
from openmfr.data.store import Store
from openmfr.distributed import Ranks
from openmfr.embed import Embeddings
from openmfr.errors import UserError
from openmfr.evaluation.checks import check_embeddings
from openmfr.files import (
    atomic_path,
    check_format_version,
    check_same_settings,
    fingerprint,
    prepare_folder,
    read_json,
    write_json,
)
from openmfr.version import __version__

FORMAT_VERSION = 1
#: Files of a pass's folder.
PASS, LABELS, CHANGES, REPORT = "pass.json", "labels.parquet", "changes.csv", "report.html"


def run_pass(
    labels: Labels,
    embeddings: Embeddings,
    out: Path,
    config: CleanConfig | None = None,
    *,
    store: Store,
    vetoes: Sequence[Path] = (),
    pictures: int = 60,
    ranks: Ranks | None = None,
) -> Labels:
    """Clean a table and write what was done into a folder.

    Args:
        labels: The table. It is the parent of the new one and stays as it is.
        embeddings: Of the same store; every kept image has one.
        out: Folder to make, with `labels.parquet`, `changes.csv`, `pass.json` and `report.html`.
        config: Settings; those of `CleanConfig` by default.
        store: The images.
        vetoes: Files in which a person refused decisions of earlier passes; see `read_vetoes`.
        pictures: Decisions of each kind that the page shows, from 0.
        ranks: Processes under torchrun that share the searches; the first one writes.

    Returns:
        The new table.

    Raises:
        UserError: If labels, embeddings and store do not belong together, a kept image has no
            usable embedding (all are named), other work stands in `out`, or nothing would be left.
    """
    config = config or CleanConfig()
    if pictures < 0:
        raise UserError(where="pictures", found=str(pictures), allowed="from 0", next_step="use 60")
    refused = Vetoes.union([read_vetoes(path, len(labels)) for path in vetoes], len(labels))
    settings = _check(labels, embeddings, store, config, vetoes)
    prepare_folder(out, mark=PASS, what="cleaning pass")
    is_done = (out / PASS).exists()
    if ranks is not None:
        ranks.barrier()  # none looks after the first one has written
    if is_done:
        check_same_settings(out, read_pass(out)["settings"], settings)
        return Labels.read(out / LABELS)
    sources = [source or f"image {row}" for row, source in enumerate(store.column("source"))]
    is_damaged = np.isin(np.arange(len(labels)), store.quarantined)
    whole = labels.without(is_damaged, reason=DAMAGED) if is_damaged.any() else labels
    check_embeddings(embeddings.array, sources=sources, needed=whole.kept())
    result = clean(whole, embeddings.array, config, vetoes=refused, ranks=ranks)
    result = replace(result, labels=replace(result.labels, parent=labels.fingerprint))
    if ranks is None or ranks.is_first:
        if out.exists():
            out.rmdir()  # it is empty, and a folder is put in place under a new name
        with atomic_path(out) as temporary:
            temporary.mkdir()
            result.labels.write(temporary / LABELS)
            result.changes.write(temporary / CHANGES, store.column("source"))
            content = {
                "format_version": FORMAT_VERSION,
                "kind": "cleaning pass",
                "openmfr": __version__,
                "settings": settings,
                **summarise(result),
            }
            write_json(temporary / PASS, content)
            write_pass_report(
                temporary / REPORT, result, store, pictures=pictures, configuration=settings
            )
    if ranks is not None:
        ranks.barrier()
    return result.labels


def read_pass(path: Path) -> dict[str, Any]:
    """Read what a pass's folder says of it.

    Raises:
        UserError: If no finished pass stands there.
    """
    content = read_json(path / PASS, what="cleaning pass", required=("settings", "counts"))
    check_format_version(content, path=path / PASS, supported=FORMAT_VERSION)
    return content


def summarise(result: CleanResult) -> dict[str, Any]:
    """Count what a pass did and say where it drew its lines, as JSON values."""
    before, after, changes = result.before, result.labels, result.changes
    kinds = {"unmasked": before.keep & ~before.is_masked, "masked": before.keep & before.is_masked}
    return {
        "counts": {
            "images_before": int(before.keep.sum()),
            "images_after": int(after.keep.sum()),
            "identities_before": int(before.kept_identities.size),
            "identities_after": int(after.kept_identities.size),
            "dropped": int((changes.kind == DROP).sum()),
            "moved": int((changes.kind == MOVE).sum()),
            "merged": int((changes.kind == MERGE).sum()),
        },
        "reasons": dict(Counter(map(plain_reason, changes.reason.tolist())).most_common()),
        "thresholds": {
            "intra": {
                name: float(result.fit.threshold[rows][0])
                for name, rows in kinds.items()
                if rows.any()
            },
            "inter": _curve(result.inter),
            "relabel": _curve(result.relabel),
        },
    }


def _curve(curve: Curve | None) -> dict[str, Any] | None:
    if curve is None:
        return None
    return {
        "chosen": curve.chosen,
        "is_searched": curve.is_searched,
        "allowed_wrong": curve.allowed,
        "threshold": curve.threshold.tolist(),
        "found": curve.found.tolist(),
        "wrong": curve.wrong.tolist(),
        "decisions": curve.decisions.tolist(),
    }


def _check(
    labels: Labels,
    embeddings: Embeddings,
    store: Store,
    config: CleanConfig,
    vetoes: Sequence[Path],
) -> dict[str, Any]:
    """Check that the parts belong together; returns what determines the result, as JSON values."""
    labels.check_store(store)
    if embeddings.store_fingerprint != labels.store_fingerprint:
        raise UserError(
            where=str(embeddings.path),
            found=f"embeddings of store {embeddings.store_fingerprint}",
            allowed=f"of store {labels.store_fingerprint}, which the labels describe",
            next_step="embed the store that the labels belong to",
        )
    return {
        "labels": labels.fingerprint,
        "embeddings": fingerprint(repr(sorted(embeddings.settings.items()))),
        "model": embeddings.model_fingerprint,
        "config": to_dict(config),
        "vetoes": [fingerprint(path.read_bytes()) for path in vetoes],
    }
