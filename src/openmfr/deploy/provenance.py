"""What is known of a checkpoint: from itself, from its run's folder, and from reports about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openmfr.data.labels import Labels
from openmfr.data.store import MANIFEST, Store
from openmfr.deploy.card import Origin, Result
from openmfr.errors import UserError
from openmfr.evaluation.intervals import Measured
from openmfr.files import read_json
from openmfr.run import RUN_FILE, run_settings

if TYPE_CHECKING:
    from openmfr.checkpoint import Checkpoint

REPORT = "report.json"
LABELS = "labels.parquet"
_KIND = "verification report"


def run_of(checkpoint: Checkpoint) -> Path | None:
    """Find the folder of the run that a checkpoint lies in."""
    folder = checkpoint.path.resolve().parent.parent
    return folder if (folder / RUN_FILE).exists() else None


def training_labels(checkpoint: Checkpoint) -> Labels | None:
    """Read the labels that a checkpoint was trained with, which its run keeps."""
    run = run_of(checkpoint)
    if run is None or not (run / LABELS).exists():
        return None
    labels = Labels.read(run / LABELS)
    return labels if labels.fingerprint == checkpoint.info.labels else None


def training_face_size(checkpoint: Checkpoint) -> int | None:
    """Edge in pixels of the faces that a checkpoint was trained on; None if they are gone."""
    run = run_of(checkpoint)
    if run is None:
        return None
    about = read_json(run / RUN_FILE, what="run").get("about", {})
    path = Path(about.get("store_path", ""))
    if not (path / MANIFEST).exists():
        return None
    store = Store(path)
    return store.image_size if store.fingerprint == checkpoint.info.store else None


def origin_of(checkpoint: Checkpoint) -> Origin:
    """Collect what a checkpoint and its run's folder tell of the training."""
    info, run, labels = checkpoint.info, run_of(checkpoint), training_labels(checkpoint)
    settings = run_settings(run) if run else {}
    about = read_json(run / RUN_FILE, what="run").get("about", {}) if run else {}
    return Origin(
        store=info.store,
        labels=info.labels,
        identities=info.identities or None,
        images=int(labels.keep.sum()) if labels else None,
        masked_images=int((labels.keep & labels.is_masked).sum()) if labels else None,
        step=info.step,
        images_seen=info.images_seen,
        started_from=settings.get("start_from"),
        recipe=settings.get("config"),
        openmfr=about.get("openmfr"),
    )


def results_of(checkpoint: Checkpoint, reports: Sequence[Path]) -> tuple[Result, ...]:
    """Read what a checkpoint reached: in its run's report, if that is about it, and in others.

    Args:
        checkpoint: Whose results.
        reports: Folders that openmfr evaluate wrote, of its embeddings.

    Raises:
        UserError: If one of `reports` is no verification report, or about another model.
    """
    found = []
    run = run_of(checkpoint)
    if run is not None and (run / REPORT).exists():
        content = _read_report(run)
        configuration = content["configuration"]
        if configuration.get("checkpoint") == checkpoint.path.resolve().name:
            how = f"embedded in {configuration.get('precision', 'unknown precision')}"
            found += [_result(content["title"], how, r) for r in content["results"].values()]
    for folder in reports:
        content = _read_report(folder)
        own = list(_of_checkpoint(content, checkpoint))
        if not own:
            raise UserError(
                where=str(folder),
                found="a report about other models",
                allowed=f"one about embeddings of {checkpoint.path} ({checkpoint.fingerprint})",
                next_step="embed and evaluate this checkpoint, or leave the report out",
            )
        found += own
    return tuple(found)


def _read_report(folder: Path) -> dict[str, Any]:
    path = folder / REPORT
    content = read_json(path, what="report", required=("kind", "title", "configuration"))
    if content["kind"] != _KIND:
        raise UserError(
            where=str(path),
            found=f"a {content['kind']}",
            allowed=f"a {_KIND}, of openmfr evaluate pairs or identities",
            next_step="leave it out",
        )
    return content


def _of_checkpoint(content: Mapping[str, Any], checkpoint: Checkpoint) -> Iterator[Result]:
    """Results in a report of pairs whose embeddings a checkpoint made."""
    embeddings = content["configuration"].get("embeddings", {})
    for name, settings in embeddings.items():
        weights, _, precision = str(settings.get("model", "")).partition("-")
        if weights == checkpoint.fingerprint and name in content["results"]:
            flip = ", the mirrored image added" if settings.get("flip") else ""
            how = f"embedded in {precision}{flip}"
            yield _result(content["title"], how, content["results"][name])


def _result(title: str, how: str, result: Mapping[str, Any]) -> Result:
    return Result(
        title=title,
        how=how,
        genuine_pairs=result["genuine_pairs"],
        impostor_pairs=result["impostor_pairs"],
        identities=result["identities"],
        accuracy=Measured(**result["accuracy"]["mean"]),
        eer=Measured(**result["eer"]),
        auc=Measured(**result["auc"]),
        tar={f"{rate['fmr']:g}": Measured(**rate["tar"]) for rate in result["rates"]},
    )
