"""`openmfr convert`: what another program wrote → what openmfr works with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro


def main(
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    *,
    to: Literal["checkpoint", "store"],
    size: int = 112,
) -> None:
    """Convert what InsightFace wrote: a checkpoint of arcface_torch, or a test set such as lfw.bin.

    Example: openmfr convert work_dirs/ms1mv3_r50 r50 --to checkpoint

    Example: openmfr convert lfw.bin lfw --to store, then openmfr evaluate pairs … --pairs
    lfw/pairs.csv

    Args:
        source: Folder that arcface_torch trained in; one file with the network's weights, such as
            backbone.pth or model.pt; or a .bin set, read without executing what it pickles.
        out: Folder to create.
        to: What to make. checkpoint: for openmfr embed, and openmfr train --from. store: of a .bin
            set's images, with its pairs.csv.
        size: Edge of the store's images, pixels.
    """
    match to:
        case "checkpoint":
            print(_to_checkpoint(source, out))
        case "store":
            print(_to_store(source, out, size))


def _to_checkpoint(source: Path, out: Path) -> str:
    from openmfr.arcface_torch import convert_arcface_torch

    info = convert_arcface_torch(source, out).info
    prototypes = f"{info.identities:,} prototypes" if info.identities else "no prototypes"
    return f"{out}: {info.backbone.name}, embeddings of {info.backbone.embedding_dim}, {prototypes}"


def _to_store(source: Path, out: Path, size: int) -> str:
    from openmfr.evaluation.protocols.bin_set import convert_bin

    made = convert_bin(source, out, size=size)
    return f"{out}: {made.images:,} images, {made.pairs:,} pairs in {out / 'pairs.csv'}"
