"""`openmfr embed`: a checkpoint or an ONNX file, and a store → embeddings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from openmfr.cli.engine import Engine, cluster_of
from openmfr.cli.recognizing import Declared, Runtime, open_model

if TYPE_CHECKING:
    from openmfr.distributed import Ranks
    from openmfr.embed import Embedder

Precision = Literal["float32", "bfloat16"]


def main(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    store: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STORE")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    *,
    labels: Path | None = None,
    flip: bool = False,
    batch_size: int = 128,
    precision: Precision | None = None,
    device: str | None = None,
    declared: Declared = None,
    runtime: Runtime = "onnxruntime",
    engine: Engine = "processes",
    address: str | None = None,
) -> None:
    """Embed a store's faces; the same command in the same folder goes on where it stopped.

    Example: openmfr embed runs/tiny lfw lfw-embeddings --flip

    On many devices: torchrun --nproc-per-node 8 -m openmfr embed runs/tiny lfw lfw-embeddings

    A recogniser of InsightFace's: openmfr embed w600k_r50.onnx lfw out --input RGB,127.5,127.5

    Args:
        model: A run (its best checkpoint is taken), a checkpoint, or an ONNX file.
        store: Folder of aligned faces.
        out: Folder to write.
        labels: Embed only the images that this label table keeps.
        flip: Add the embedding of each mirrored image: slower by two, a little more accurate.
        batch_size: Images in each call of the network.
        precision: Of a checkpoint's arithmetic, float32 by default; an ONNX file has its own.
        device: For a checkpoint cpu, cuda or cuda:N, a GPU where there is one by default; for an
            ONNX file cpu, its default, or cuda.
        declared: What the pixels mean to an ONNX file that openmfr did not write: COLOR,MEAN,STD,
            where each value becomes (value − MEAN) ÷ STD; or a JSON file that also has height,
            width, layout and dtype.
        runtime: What runs an ONNX file; openvino must be installed, and computes on the CPU.
        engine: What does the work: this process, or a Ray cluster whose machines share the files
            (extra "cluster").
        address: HOST:PORT of the cluster's head; by default the one that this machine belongs to.
    """
    from openmfr.data.labels import Labels
    from openmfr.data.store import Store
    from openmfr.embed import embed_store

    embedder = _open(model, precision=precision, device=device, declared=declared, runtime=runtime)
    with _ranks(device) as ranks:
        embeddings = embed_store(
            embedder,
            Store(store),
            out,
            labels=Labels.read(labels) if labels else None,
            flip=flip,
            batch_size=batch_size,
            ranks=ranks,
            cluster=cluster_of(engine, address),
        )
        if ranks is not None and not ranks.is_first:
            return
    print(f"{embeddings.path}: {len(embeddings):,} embeddings of {embeddings.array.shape[1]}")


@contextmanager
def _ranks(device: str | None) -> Iterator[Ranks | None]:
    """Join the other processes that torchrun started, if it did: an ONNX file needs no torch."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield None
        return
    from openmfr.device import choose_device, own_device
    from openmfr.distributed import joined

    with joined(own_device(choose_device(device))) as ranks:
        yield ranks


def _open(
    model: Path,
    *,
    precision: Precision | None,
    device: str | None,
    declared: str | None,
    runtime: Runtime,
) -> Embedder:
    """Open an ONNX file without torch, or a checkpoint with it."""
    from openmfr.errors import UserError

    if model.suffix == ".onnx" or model.is_file():
        from openmfr.deploy.engine import choose_providers

        if precision is not None:
            raise UserError(
                where="--precision",
                found=f"{precision} for an ONNX file",
                allowed="nothing: the file says it",
                next_step="leave it out; openmfr export makes int8",
            )
        providers = choose_providers(device or "cpu")
        return open_model(model, declared=declared, runtime=runtime, providers=providers)
    from openmfr.checkpoint import Checkpoint, CheckpointEmbedder
    from openmfr.device import choose_device, own_device

    if declared is not None:
        raise UserError(
            where="--input",
            found=f"{declared} for a checkpoint",
            allowed="a declaration for an ONNX file",
            next_step="leave it out",
        )
    if runtime != "onnxruntime":
        raise UserError(
            where="--runtime",
            found=f"{runtime} for a checkpoint",
            allowed="a runtime for an ONNX file",
            next_step="leave it out, or export the checkpoint first",
        )
    return CheckpointEmbedder(
        Checkpoint.open(model),
        device=own_device(choose_device(device)),
        precision=precision or "float32",
    )
