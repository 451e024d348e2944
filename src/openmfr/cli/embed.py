"""`openmfr embed`: a checkpoint and a store → embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro


def main(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    store: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STORE")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    *,
    labels: Path | None = None,
    flip: bool = False,
    batch_size: int = 128,
    precision: Literal["float32", "bfloat16"] = "float32",
    device: str | None = None,
) -> None:
    """Embed a store's faces; the same command in the same folder goes on where it stopped.

    Example: openmfr embed runs/tiny lfw lfw-embeddings --flip

    Args:
        model: A run (its best checkpoint is taken) or a checkpoint.
        store: Folder of aligned faces.
        out: Folder to write.
        labels: Embed only the images that this label table keeps.
        flip: Add the embedding of each mirrored image: slower by two, a little more accurate.
        batch_size: Images in each call of the network.
        precision: Of the network's arithmetic.
        device: cpu, cuda or cuda:N; a GPU where there is one by default.
    """
    from openmfr.checkpoint import Checkpoint, CheckpointEmbedder
    from openmfr.data.labels import Labels
    from openmfr.data.store import Store
    from openmfr.device import choose_device
    from openmfr.embed import embed_store

    embedder = CheckpointEmbedder(
        Checkpoint.open(model), device=choose_device(device), precision=precision
    )
    embeddings = embed_store(
        embedder,
        Store(store),
        out,
        labels=Labels.read(labels) if labels else None,
        flip=flip,
        batch_size=batch_size,
    )
    print(f"{embeddings.path}: {len(embeddings):,} embeddings of {embeddings.array.shape[1]}")
