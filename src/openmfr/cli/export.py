"""`openmfr export`: a checkpoint → an ONNX file and its model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from openmfr.deploy.card import ModelCard


def main(
    checkpoint: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CHECKPOINT")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    *,
    int8: bool = False,
    calibrate: Path | None = None,
    labels: Path | None = None,
    max_loss: float = 0.005,
    reports: tuple[Path, ...] = (),
    licence: str | None = None,
    face_size: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Export a recogniser to one ONNX file: bytes of aligned faces in, unit embeddings out.

    Example: openmfr export runs/tiny tiny.onnx

    In int8: openmfr export runs/tiny tiny-int8.onnx --int8 --calibrate faces

    The file is compared with PyTorch before it is written, and what int8 costs is measured. Both
    stand in its model card, which is in the file and, for people, beside it: tiny.md.

    Args:
        checkpoint: A run (its best checkpoint is taken) or a checkpoint.
        out: The file to write, ending in .onnx.
        int8: Compute in eight bits: a quarter of the size, and about twice as fast on CPUs that
            multiply bytes (VNNI) where the network is made of plain convolutions.
        calibrate: Folder of aligned faces like those that the model will see. int8 needs some
            hundred, of a hundred people and more; float32 is compared with PyTorch on some of them.
        labels: Who is on them, for int8; by default the labels of the checkpoint's run, if it was
            trained on them, and labels.parquet in their folder otherwise.
        max_loss: Rise of the equal error rate that int8 may cost, 0 to 1. int8 is refused unless
            the whole interval of the measured rise is within it.
        reports: Folders that openmfr evaluate pairs or identities wrote about this checkpoint:
            their numbers go into the card.
        licence: Of the weights, as it is to stand in the card; left out, the card says so.
        face_size: Edge in pixels of the aligned faces that the file will take; by default that of
            the faces that the checkpoint was trained on, 112 if they are gone.
        seed: Of the choice of faces for int8.
        overwrite: Replace a file of this name.
    """
    from openmfr.checkpoint import Checkpoint
    from openmfr.data.labels import Labels
    from openmfr.data.store import Store
    from openmfr.deploy.card import NOT_STATED
    from openmfr.deploy.export import ExportConfig, card_path, export_checkpoint
    from openmfr.deploy.int8_cost import Int8Config

    card = export_checkpoint(
        Checkpoint.open(checkpoint),
        out,
        config=ExportConfig(
            int8=Int8Config(max_loss=max_loss, seed=seed) if int8 else None,
            licence=licence or NOT_STATED,
            face_size=face_size,
            overwrite=overwrite,
        ),
        store=Store(calibrate) if calibrate else None,
        labels=Labels.read(labels) if labels else None,
        reports=reports,
    )
    _say(card, out, card_path(out))


def _say(card: ModelCard, out: Path, page: Path) -> None:
    parity = card.parity
    print(f"{out}: {card.precision}, {card.file_bytes / 1e6:.1f} MB; its card: {page}")
    print(
        f"  like PyTorch   cosine at least {parity.least_cosine:.7f} on {parity.images} random "
        f"images and {parity.faces} faces"
    )
    if card.int8 is not None:
        cost = card.int8
        people = "held out from the training" if cost.is_held_out else "not known to be held out"
        print(f"  int8           median cosine {cost.median_cosine:.4f} to float32")
        print(f"  equal error    {cost.eer}")
        print(f"  measured on    {cost.identities:,} people, {people}; {cost.pairs:,} pairs")
