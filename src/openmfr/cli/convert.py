"""`openmfr convert`: what another program wrote → what openmfr works with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro


def main(
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    *,
    to: Literal["checkpoint"],
) -> None:
    """Convert a checkpoint of InsightFace's arcface_torch: the network and all GPUs' prototypes.

    Example: openmfr convert work_dirs/ms1mv3_r50 r50 --to checkpoint

    Args:
        source: Folder that arcface_torch trained in; or one file with the network's weights, such
            as backbone.pth or model.pt.
        out: Folder to create.
        to: What to make. checkpoint: for openmfr embed, and openmfr train --from.
    """
    match to:
        case "checkpoint":
            print(_to_checkpoint(source, out))


def _to_checkpoint(source: Path, out: Path) -> str:
    from openmfr.arcface_torch import convert_arcface_torch

    info = convert_arcface_torch(source, out).info
    prototypes = f"{info.identities:,} prototypes" if info.identities else "no prototypes"
    return f"{out}: {info.backbone.name}, embeddings of {info.backbone.embedding_dim}, {prototypes}"
