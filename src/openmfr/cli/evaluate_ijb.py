"""`openmfr evaluate ijb`: IJB-B and IJB-C, templates against templates."""

from __future__ import annotations

from pathlib import Path

from openmfr.cli.evaluating import Folders


def main(
    embeddings: Folders,
    *,
    meta: Path,
    out: Path,
    allow_missing: bool = False,
    length: bool = True,
    detector_score: bool = True,
    store: Path | None = None,
    fmr: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
    replicates: int = 1_000,
    seed: int = 0,
) -> None:
    """Measure embeddings by IJB-B's or IJB-C's 1:1 protocol: TAR@FAR of pooled templates.

    Example: openmfr evaluate ijb ijbc-embeddings --meta IJBC/meta --out report

    where ijbc-embeddings are of the store that openmfr ingest IJBC/loose_crop made.

    A template's embedding is the sum over its media of the mean over a medium's images. Models
    stand side by side, with paired differences to the first.

    Args:
        embeddings: Folders that openmfr embed wrote, of one store; the report is about the first.
        meta: The set's folder with *_face_tid_mid.txt, *_template_pair_label.txt and
            *_name_5pts_score.txt.
        out: Folder for report.html, report.md and report.json.
        allow_missing: Go on without images that the store lacks.
        length: Let a longer embedding weigh more in its template.
        detector_score: Let a face weigh more that the detector was surer of.
        store: Where the embedded store lies now, if it was moved.
        fmr: False accept rates at which to give TAR.
        replicates: Draws of identities for the 95 % intervals.
        seed: Of the draws.
    """
    import numpy as np

    from openmfr.cli.evaluating import check_numbers, checked, named_arrays, say
    from openmfr.evaluation.protocols.ijb import read_templates
    from openmfr.evaluation.protocols.ijb_report import (
        templates_differences,
        templates_summary,
        write_templates_report,
    )

    check_numbers(fmr, replicates=replicates, seed=seed)
    opened, arrays, images = named_arrays(embeddings, store)
    templates = read_templates(meta)
    sources = images.column("source")
    rows = templates.rows(sources, allow_missing=allow_missing)
    missing, found, rows = int((rows < 0).sum()), templates.only(rows >= 0), rows[rows >= 0]
    described = checked(opened, sources, np.isin(np.arange(len(sources)), rows))
    results = {}
    for model, array in arrays.items():
        pooled = found.pool(array[rows], use_length=length, use_detector_score=detector_score)
        results[model] = found.measure(pooled, fars=fmr, replicates=replicates, seed=seed)
    notes = [f"{missing:,} listed images are not in the store."] if missing else []
    notes += [f"{model}: {note}" for model, result in results.items() for note in result.notes]
    count = int(found.template_id.size)
    write_templates_report(
        out,
        results,
        title=f"Templates of {meta.resolve().parent.name}",
        templates=count,
        configuration={
            "protocol": "ijb",
            "meta": str(meta),
            "store": str(images.path),
            "length": length,
            "detector_score": detector_score,
            "replicates": replicates,
            "seed": seed,
            "embeddings": described,
        },
        notes=notes,
    )
    summaries = [templates_summary(model, part, templates=count) for model, part in results.items()]
    say(summaries, templates_differences(results), out, notes=notes)
