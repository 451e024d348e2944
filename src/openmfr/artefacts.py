"""What a file or folder is, in the words of whoever wrote it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from openmfr.data.labels import IntArray, Labels
from openmfr.data.quarantine import QUARANTINE
from openmfr.data.store import MANIFEST, Store
from openmfr.errors import UserError
from openmfr.evaluation.calibration import describe_calibration, find_calibration
from openmfr.files import read_json

#: The file that tells what a folder is → its kind.
MARKS = {
    MANIFEST: "store",
    "settings.json": "unfinished store",
    "run.json": "run",
    "checkpoint.json": "checkpoint",
    "embeddings.json": "embeddings",
    "partial.json": "unfinished embeddings",
    "geometry.json": "geometry",
    "fitting.json": "unfinished geometry",
    "conversion.json": "conversion",
    "pass.json": "cleaning pass",
    "search.json": "search",
    "report.json": "report",
}

#: Kinds of JSON files that are no mark of a folder.
ALONE = ("architecture", "reproduction")
#: Lists longer than that are not printed whole.
_LONG = 12

#: The best architecture in a search's folder.
_FOUND = "best.json"

#: How files of SQLite begin.
_DATABASE = b"SQLite format 3\0"


def kind_of(path: Path) -> str:
    """Tell what an artefact is.

    Args:
        path: A file or folder.

    Returns:
        "store", "labels", "run", "checkpoint", "embeddings", "geometry", "calibration", "cleaning
        pass", "search", "report", "reproduction", "model", "gallery", "architecture" or an
        unfinished one.

    Raises:
        UserError: If nothing is there, or nothing that openmfr wrote.
    """
    if path.is_file() and path.suffix == ".parquet":
        return "labels"
    if path.is_file() and path.suffix == ".onnx":
        return "model"
    if path.is_file() and _describe_gallery(path):
        return "gallery"
    if find_calibration(path) is not None:
        return "calibration"
    kind = _kind_by_mark(path) or _kind_by_name(path)
    if kind:
        return kind
    owner = _kind_by_mark(path.parent)
    if path.is_file() and owner:
        raise UserError(
            where=str(path),
            found=f"a file of: {owner}",
            allowed="the whole of it, a folder",
            next_step=f"openmfr inspect {path.parent}",
        )
    raise UserError(
        where=str(path),
        found="nothing that openmfr wrote" if path.exists() else "nothing",
        allowed="a store, a labels.parquet, a geometry, a run, a checkpoint, embeddings, a "
        "calibration, a cleaning pass, a search, a report, a reproduction, an architecture, an "
        ".onnx file or a gallery",
        next_step="check the path",
    )


def _kind_by_mark(folder: Path) -> str:
    return next((kind for mark, kind in MARKS.items() if (folder / mark).exists()), "")


def _kind_by_name(path: Path) -> str:
    """What a JSON file says of itself, where that is a kind that stands alone."""
    if not path.is_file() or path.suffix != ".json":
        return ""
    try:
        content = read_json(path, what="file")
    except UserError:
        return ""
    kind = "architecture" if "architecture" in content else content.get("kind")
    return kind if kind in ALONE else ""


def describe(path: Path) -> dict[str, str]:
    """Describe an artefact by name and value, as `openmfr inspect` prints it."""
    kind = kind_of(path)
    if kind == "store":
        return {"kind": kind, **_describe_store(Store(path))}
    if kind == "labels":
        return {"kind": kind, **_describe_labels(Labels.read(path))}
    if kind == "model":
        return {"kind": kind, **_describe_model(path)}
    if kind == "gallery":
        return _describe_gallery(path)
    if kind == "architecture":
        return {"kind": kind, **_describe_architecture(path)}
    if (calibration := find_calibration(path)) is not None:
        return describe_calibration(calibration)
    marks = (path / mark for mark in MARKS)
    content = read_json(next((mark for mark in marks if mark.exists()), path), what=kind)
    described = {"kind": kind, **_flat(content)}
    if kind == "search" and (path / _FOUND).exists():
        best = _describe_architecture(path / _FOUND)
        described |= {f"best, {name}": value for name, value in best.items()}
    return described


def _describe_store(store: Store) -> dict[str, str]:
    codes, names = store.coded_column("identity_name")
    counts = np.bincount(codes[codes >= 0])
    described = {
        "images": f"{len(store):,} of {store.image_size} × {store.image_size} pixels",
        "identities": f"{len(names):,}, {_spread(counts)}" if names else "unknown",
        "columns": ", ".join(store.column_names),
        "fingerprint": store.fingerprint,
    }
    if store.quarantined.size:
        described["set aside"] = f"{store.quarantined.size:,} damaged images ({QUARANTINE})"
    return described | {f"made with {k}": str(v) for k, v in store.settings.items()}


def _describe_gallery(path: Path) -> dict[str, str]:
    """Describe a gallery; empty for another file."""
    with path.open("rb") as file:
        if file.read(len(_DATABASE)) != _DATABASE:
            return {}
    # Only a database is worth asking for what galleries need.
    from openmfr.deploy.gallery.sqlite_file import describe_gallery

    return describe_gallery(path) or {}


def _describe_architecture(path: Path) -> dict[str, str]:
    from openmfr.models.ridnet import read_definition
    from openmfr.search.parts import EMBEDDING_DIM, cost_of

    definition = read_definition(path)
    found, origin = definition.architecture, definition.origin
    cost = cost_of(found)
    described = {
        "input": f"{found.input_size} × {found.input_size} pixels",
        "stem": f"{found.stem} channels, stride {found.stem_stride}",
    }
    for number, stage in enumerate(found.stages, start=1):
        count = "1 block" if stage.depth == 1 else f"{stage.depth} blocks"
        blocks = "; ".join(map(str, stage.pattern))
        shape = f"{stage.channels} channels, {stage.width} within"
        described[f"stage {number}"] = f"{count} of {shape}: {blocks}"
    return described | {
        "neck": f"{found.neck} channels",
        "multiply-adds": f"{cost.macs / 1e6:,.1f} M, with an embedding of {EMBEDDING_DIM}",
        "parameters": f"{cost.params / 1e6:,.2f} M",
        "fingerprint": found.fingerprint,
        "found by": origin.command,
        "seed": "none" if origin.seed is None else str(origin.seed),
        "log": origin.log,
    }


def _describe_model(path: Path) -> dict[str, str]:
    from openmfr.deploy.card import describe_card
    from openmfr.deploy.engine import OnnxRuntime
    from openmfr.deploy.model import read_card

    engine = OnnxRuntime(path, threads=1)
    described = {
        "input": ", ".join(map(str, engine.inputs)),
        "output": ", ".join(map(str, engine.outputs)),
    }
    return described | describe_card(read_card(path, engine))


def _describe_labels(labels: Labels) -> dict[str, str]:
    counts = labels.kept_counts[1]
    described = {
        "rows": f"{len(labels):,}",
        "kept": f"{int(labels.keep.sum()):,} of {len(counts):,} identities, {_spread(counts)}",
        "masked": f"{int(labels.is_masked.sum()):,}",
        "store": labels.store_fingerprint,
        "fingerprint": labels.fingerprint,
        "parent": labels.parent or "none: the first table",
    }
    for reason, count in labels.reason[~labels.keep].counts().items():
        described[f"left out, {reason}"] = f"{count:,}"
    return described


def _spread(counts: IntArray) -> str:
    if not counts.size:
        return "none"
    return f"{counts.min()} to {counts.max()} images each, median {np.median(counts):g}"


def _flat(content: dict[str, object], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif prefix or name not in ("format_version", "kind"):
            flat[prefix + name] = _brief(value)
    return flat


def _brief(value: object) -> str:
    """A value as one prints it; of a long list, both ends and the length."""
    if isinstance(value, list) and len(value) > _LONG:
        ends = ", ".join(map(str, value[:3]))
        return f"[{ends}, …, {value[-1]}], {len(value):,} values"
    return str(value)


def choose_for_sheet(store: Store, *, identities: int, images: int) -> list[tuple[int, str]]:
    """Choose images for a contact sheet: identity by identity, evenly spread over the store.

    Args:
        store: The store.
        identities: How many, at most.
        images: Images of each, at most.

    Returns:
        Store index and caption of each image; none that was set aside as damaged.
    """
    images_of: dict[str, list[int]] = {}
    lost = set(store.quarantined.tolist())
    for index, name in enumerate(store.column("identity_name")):
        if index not in lost:
            images_of.setdefault(name or "unknown", []).append(index)
    names = sorted(images_of)
    shown = np.linspace(0, len(names) - 1, min(identities, len(names))).round().astype(int)
    return [(index, names[i]) for i in shown for index in images_of[names[i]][:images]]
