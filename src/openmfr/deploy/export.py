"""A checkpoint → an ONNX file with its model card: exported, compared with PyTorch, and measured.

Nothing is written before all of it has passed: the graph must give PyTorch's embeddings, and one
in int8 must not cost more accuracy than the user allows. The card, in the file and beside it, says
what was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import helper

from openmfr.checkpoint import Checkpoint, CheckpointEmbedder
from openmfr.data.labels import IntArray, Labels
from openmfr.data.store import Store, UInt8Array
from openmfr.deploy.card import NOT_STATED, ModelCard, Network
from openmfr.deploy.graph import replace_prelu, to_onnx
from openmfr.deploy.input_spec import InputSpec
from openmfr.deploy.int8_cost import Int8Config, Int8Cost, Split, measure_cost, split
from openmfr.deploy.model import (
    CARD_KEY,
    FINGERPRINT_KEY,
    FORMAT_VERSION,
    INPUT_KEY,
    VERSION_KEY,
    OnnxModel,
)
from openmfr.deploy.parity import check_parity
from openmfr.deploy.provenance import (
    LABELS,
    origin_of,
    results_of,
    training_face_size,
    training_labels,
)
from openmfr.deploy.quantize import quantize
from openmfr.embed import decode_batch
from openmfr.errors import UserError, raise_together
from openmfr.files import atomic_path, fingerprint
from openmfr.models import count
from openmfr.version import __version__

#: Faces of a store that parity is checked on, and images in a batch of calibration, whose
#: activations are in memory together.
_PARITY_FACES, _CALIBRATION_BATCH = 20, 4
#: Size of an aligned face where nothing says another one.
_FACE_SIZE = 112


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """How a checkpoint is exported.

    Attributes:
        int8: How to calibrate and measure int8; None for float32.
        licence: Of the weights, as the user states it.
        face_size: Edge in pixels of the aligned faces that the file takes; by default that of the
            faces that it was trained on, 112 if their store is gone.
        overwrite: Whether to replace a file that exists.
    """

    int8: Int8Config | None = None
    licence: str = NOT_STATED
    face_size: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.face_size is not None and self.face_size < 1:
            raise UserError(
                where="--face-size",
                found=str(self.face_size),
                allowed="from 1",
                next_step="leave it out",
            )


def card_path(out: Path) -> Path:
    """Where the card of an ONNX file lies for people to read."""
    return out.with_suffix(".md")


def export_checkpoint(
    checkpoint: Checkpoint,
    out: Path,
    *,
    config: ExportConfig,
    store: Store | None = None,
    labels: Labels | None = None,
    reports: Sequence[Path] = (),
) -> ModelCard:
    """Export a checkpoint to an ONNX file, and write its card beside it.

    Args:
        checkpoint: What to export.
        out: The file, ending in `.onnx`.
        config: How.
        store: Faces to check parity on, to calibrate and to measure on; int8 needs them.
        labels: Who is on them; by default the labels of the checkpoint's own run, if it was trained
            on this store, or else `labels.parquet` in the store's folder. Only int8 reads them.
        reports: Folders of reports about the checkpoint, for the card.

    Returns:
        The card.

    Raises:
        UserError: If the file exists, the faces do not fit, PyTorch cannot follow the network, its
            embeddings are not those of the checkpoint, or int8 costs too much. Nothing is written.
    """
    _check_out(out, overwrite=config.overwrite)
    face_size = _choose_face_size(checkpoint, config, store)
    int8 = None if config.int8 is None else _Int8.open(config.int8, store, labels, checkpoint)
    results = results_of(checkpoint, reports)
    reference = CheckpointEmbedder(checkpoint)
    name, input_size = checkpoint.info.backbone.name, reference.input_size
    traced = to_onnx(reference.backbone, input_size=input_size, face_size=face_size, name=name)
    model = _finish(traced, checkpoint, face_size)
    with TemporaryDirectory() as folder:
        float32 = _open(model, Path(folder) / "float32.onnx")
        faces = None if store is None else _some_faces(store)
        parity = check_parity(reference, float32, face_size=face_size, faces=faces)
        cost = None
        if int8 is not None:
            batches = int8.batches()
            model = _finish(quantize(traced, batches), checkpoint, face_size, is_int8=True)
            cost = int8.measure(float32, _open(model, Path(folder) / "int8.onnx"))
            cost.check()
    card = ModelCard(
        name=out.stem,
        fingerprint=_metadata(model)[FINGERPRINT_KEY],
        precision="float32" if cost is None else "int8",
        file_bytes=0,
        licence=config.licence,
        network=_describe_network(checkpoint, reference, face_size),
        origin=origin_of(checkpoint),
        results=results,
        parity=parity,
        int8=cost,
        openmfr=__version__,
    )
    return _write(model, card, out)


def _describe_network(
    checkpoint: Checkpoint, reference: CheckpointEmbedder, face_size: int
) -> Network:
    cost = count(reference.backbone, reference.input_size)
    return Network(
        backbone=checkpoint.info.backbone.name,
        checkpoint=checkpoint.fingerprint,
        embedding_dim=reference.embedding_dim,
        face_size=face_size,
        input_size=reference.input_size,
        macs=cost.macs,
        matmul_macs=cost.matmul_macs,
        params=cost.params,
    )


@dataclass(frozen=True, kw_only=True)
class _Int8:
    """What int8 is calibrated and measured on."""

    config: Int8Config
    store: Store
    labels: Labels
    chosen: Split

    @classmethod
    def open(
        cls, config: Int8Config, store: Store | None, labels: Labels | None, checkpoint: Checkpoint
    ) -> _Int8:
        """Choose the images, before anything that takes time.

        Raises:
            UserError: If there is no store, the labels are of another one, or images are too few.
        """
        if store is None:
            raise UserError(
                where="--int8",
                found="no faces to calibrate on",
                allowed="a store of some hundred faces like those that the model will see",
                next_step="add --calibrate STORE",
            )
        if labels is None:
            labels = training_labels(checkpoint)
            if labels is None or labels.store_fingerprint != store.fingerprint:
                labels = Labels.read(store.path / LABELS)
        labels.check_store(store)
        return cls(config=config, store=store, labels=labels, chosen=split(labels, config))

    def batches(self) -> list[UInt8Array]:
        """Decode the calibration images."""
        rows, size = self.chosen.calibration, _CALIBRATION_BATCH
        return [decode_batch(self.store, rows[i : i + size]) for i in range(0, len(rows), size)]

    def measure(self, float32: OnnxModel, int8: OnnxModel) -> Int8Cost:
        """Measure what int8 costs."""
        return measure_cost(float32, int8, self.store, self.labels, self.chosen, self.config)


def _check_out(out: Path, *, overwrite: bool) -> None:
    if out.suffix != ".onnx":
        raise UserError(
            where="OUT",
            found=str(out),
            allowed="a file whose name ends in .onnx",
            next_step=f"name it {out.with_suffix('.onnx')}",
        )
    raise_together(
        [
            UserError(
                where=str(path),
                found="a folder" if path.is_dir() else "a file",
                allowed="a new name, or a file to replace",
                next_step="choose another name"
                + ("" if path.is_dir() else ", or add --overwrite to replace it"),
            )
            for path in (out, card_path(out))
            if path.is_dir() or (path.exists() and not overwrite)
        ]
    )


def _choose_face_size(checkpoint: Checkpoint, config: ExportConfig, store: Store | None) -> int:
    size = config.face_size or training_face_size(checkpoint) or _FACE_SIZE
    if store is not None and store.image_size != size:
        raise UserError(
            where=str(store.path),
            found=f"faces of {store.image_size} × {store.image_size} pixels",
            allowed=f"{size} × {size}, as the file will take them",
            next_step=f"give a store of {size} pixels (openmfr ingest --size {size}), or "
            f"--face-size {store.image_size} for a file that takes those",
        )
    return size


def _some_faces(store: Store) -> UInt8Array:
    """Decode faces from all over a store."""
    spread = np.linspace(0, len(store) - 1, min(_PARITY_FACES, len(store)))
    rows: IntArray = spread.round().astype(np.int64)
    return decode_batch(store, rows)


def _finish(
    traced: onnx.ModelProto, checkpoint: Checkpoint, face_size: int, *, is_int8: bool = False
) -> onnx.ModelProto:
    """Copy a graph, make it quick, and say in its metadata what it takes and whose weights it has.

    An int8 file's ranges depend on the calibration: its fingerprint is that of the whole graph.
    """
    model = onnx.ModelProto()
    model.CopyFrom(traced)
    replace_prelu(model)
    onnx.checker.check_model(model)
    precision: tuple[str | bytes, ...] = ("float32",)
    if is_int8:
        precision = ("int8", model.SerializeToString(deterministic=True))
    metadata = {
        VERSION_KEY: FORMAT_VERSION,
        INPUT_KEY: InputSpec(height=face_size, width=face_size).to_json(),
        FINGERPRINT_KEY: fingerprint(checkpoint.fingerprint, *precision),
    }
    helper.set_model_props(model, metadata)
    return model


def _metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def _open(model: onnx.ModelProto, path: Path) -> OnnxModel:
    """Open a graph as a user will, from a file."""
    onnx.save(model, path)
    return OnnxModel(path)


def _write(model: onnx.ModelProto, card: ModelCard, out: Path) -> ModelCard:
    """Put a card into a graph, and write both, the card first; return it with the file's size."""
    own = _metadata(model)
    content = model.SerializeToString(deterministic=True)
    while card.file_bytes != len(content):  # the size is in the card, which is in the file
        card = replace(card, file_bytes=len(content))
        helper.set_model_props(model, {**own, CARD_KEY: card.to_json()})
        content = model.SerializeToString(deterministic=True)
    with atomic_path(out) as file, atomic_path(card_path(out)) as page:
        page.write_text(card.to_markdown(), encoding="utf-8")
        file.write_bytes(content)
    return card
