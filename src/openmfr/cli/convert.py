"""`openmfr convert`: what another program wrote → what openmfr works with, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro


def main(
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    *,
    to: Literal["store", "recordio", "tar", "folder", "checkpoint"],
    size: int = 112,
    labels: Path | None = None,
    images_per_tar: int = 10_000,
    workers: int | None = None,
) -> None:
    """Convert aligned faces to a store or back, byte for byte; or a checkpoint of InsightFace.

    Example: openmfr convert ms1m-retinaface-t1 ms1mv3 --to store

    Example: openmfr convert ms1mv3 ms1mv3-clean --to recordio --labels cleaned/labels.parquet

    Example: openmfr convert work_dirs/ms1mv3_r50 r50 --to checkpoint

    What SRC is, its files tell. JPEGs and PNGs are never encoded anew: those of another size are
    refused, and listed in OUT/rejected.csv. A run that was stopped goes on when repeated.

    Args:
        source: To a store: RecordIO (train.rec, or a folder with it or with several .rec files),
            WebDataset tars (one, or a folder), a folder with one folder of images per identity,
            or a .bin set such as lfw.bin. From a store: the store. To a checkpoint: what
            arcface_torch trained, a folder or one file such as backbone.pth.
        out: Folder to make.
        to: What to make. store: with labels.parquet; of a .bin set with its pairs.csv too.
            recordio: train.rec and train.idx, as InsightFace reads them. tar: for WebDataset.
            folder: one folder per identity. checkpoint: for openmfr embed, and openmfr train
            --from.
        size: Edge of the store's images, pixels.
        labels: Write what these labels keep, with their identities; else all of the store.
        images_per_tar: Images of each tar.
        workers: Worker processes; one per core by default.
    """
    if to in ("checkpoint", "store"):
        _refuse_labels(labels, to)
    match to:
        case "checkpoint":
            print(_to_checkpoint(source, out))
        case "store":
            print(_to_store(source, out, size, workers))
        case _:
            print(_out_of_store(source, out, to, labels, images_per_tar, workers))


def _refuse_labels(labels: Path | None, to: str) -> None:
    from openmfr.errors import UserError

    if labels is not None:
        raise UserError(
            where="--labels",
            found=f"{labels} for a new {to}",
            allowed="labels of the store that is converted to something else",
            next_step="leave it out; a new store's labels are made from what the set says",
        )


def _to_checkpoint(source: Path, out: Path) -> str:
    from openmfr.arcface_torch import convert_arcface_torch

    info = convert_arcface_torch(source, out).info
    prototypes = f"{info.identities:,} prototypes" if info.identities else "no prototypes"
    return f"{out}: {info.backbone.name}, embeddings of {info.backbone.embedding_dim}, {prototypes}"


def _to_store(source: Path, out: Path, size: int, workers: int | None) -> str:
    from openmfr.data.convert import convert_to_store
    from openmfr.data.convert.into_store import how_to_keep_others
    from openmfr.data.convert.sources import kind_of_set
    from openmfr.data.ingest import LABELS
    from openmfr.data.rejected import REJECTED

    if kind_of_set(source) == "bin":
        return _bin_to_store(source, out, size)
    made = convert_to_store(source, out, size=size, workers=workers)
    lines = [f"{out}: {made.images:,} images of {made.identities:,} identities, from {made.kind}"]
    if made.was_finished:
        lines.append("  was finished already")
    lines += [f"  {images:,} refused: {kind}" for kind, images in sorted(made.refused.items())]
    if made.refused:
        lines.append(f"  the reason for each is in {out / REJECTED}")
        lines.append(f"  {how_to_keep_others(made.kind)}")
    if made.left_out:
        lines.append(f"  {made.left_out:,} other files in the folder are no photos by their suffix")
    return "\n".join([*lines, f"  labels: {out / LABELS}"])


def _bin_to_store(source: Path, out: Path, size: int) -> str:
    from openmfr.evaluation.protocols.bin_set import convert_bin

    made = convert_bin(source, out, size=size)
    return f"{out}: {made.images:,} images, {made.pairs:,} pairs in {out / 'pairs.csv'}"


def _out_of_store(
    source: Path,
    out: Path,
    to: Literal["recordio", "tar", "folder"],
    labels: Path | None,
    images_per_tar: int,
    workers: int | None,
) -> str:
    from openmfr.data.convert import OutConfig, convert_from_store
    from openmfr.data.convert.sources import kind_of_set
    from openmfr.data.labels import Labels
    from openmfr.data.store import Store
    from openmfr.errors import UserError

    config = OutConfig(to=to, images_per_tar=images_per_tar)
    kind = kind_of_set(source)
    if kind != "store":
        raise UserError(
            where=str(source),
            found=f"a {kind}",
            allowed="a store",
            next_step=f"openmfr convert {source} STORE --to store makes one",
        )
    store = Store(source)
    kept = Labels.read(labels) if labels else None
    made = convert_from_store(store, out, config=config, labels=kept, workers=workers)
    lines = [f"{out}: {made.images:,} images of {made.identities:,} identities, as {to}"]
    if made.was_finished:
        lines.append("  was finished already")
    if made.unknown:
        lines.append(
            f"  {made.unknown:,} images left out: nobody knows whose they are, and {to} has "
            "no place for such"
        )
    return "\n".join(lines)
