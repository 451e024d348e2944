"""Images → embeddings: one array for a store, made by whatever can embed.

An `Embedder` maps decoded faces to embeddings: a checkpoint, an ONNX model. `embed_store`
runs it over a store, shows progress, and goes on where a killed run stopped. The array keeps the
length of every embedding (it tells how sure the network is); scores normalise it away.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from openmfr.data.labels import IntArray, Labels
from openmfr.data.store import Store, UInt8Array
from openmfr.errors import UserError
from openmfr.files import (
    atomic_path,
    check_format_version,
    check_same_settings,
    fingerprint,
    prepare_folder,
    read_json,
    write_json,
)
from openmfr.run import progress
from openmfr.workers import do_all

if TYPE_CHECKING:
    from openmfr.distributed import Ranks

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
META, ARRAY = "embeddings.json", "embeddings.npy"
#: Stands in an unfinished folder: what is being done there.
PARTIAL = "partial.json"
#: Has an empty file for each part that is done.
PARTS = "parts"

#: Rows of one part at most: what a kill costs each process.
_PART = 8_192

FloatArray = npt.NDArray[np.float32]


class Embedder(Protocol):
    """Something that maps faces to embeddings."""

    @property
    def embedding_dim(self) -> int:
        """D."""

    @property
    def fingerprint(self) -> str:
        """Identifies the weights."""

    def embed(self, images: UInt8Array) -> FloatArray:
        """Map RGB faces, uint8 (B, H, W, 3), to embeddings, float32 (B, D), not normalised."""


class Embeddings:
    """The embeddings of a store's images, memory-mapped.

    Args:
        path: A folder that `embed_store` wrote.

    Attributes:
        array: Float32, shape (N, D), not normalised; rows of images that were left out are NaN.
        store_path: Where the store lay when it was embedded.
        store_fingerprint: The store's content.
        labels_fingerprint: The labels that chose the images; empty if all were embedded.
        model_fingerprint: The weights.
        settings: All of the above and the options, as written in the folder.

    Raises:
        UserError: If there are no finished embeddings.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        meta = read_json(
            self.path / META,
            what="folder of embeddings",
            required=("settings", "store_path", "shape"),
        )
        check_format_version(meta, path=self.path / META, supported=FORMAT_VERSION)
        self.settings: dict[str, Any] = meta["settings"]
        self.store_path = Path(meta["store_path"])
        self.store_fingerprint: str = self.settings["store"]
        self.labels_fingerprint: str = self.settings["labels"]
        self.model_fingerprint: str = self.settings["model"]
        self.array: FloatArray = _map_array(self.path / ARRAY, tuple(meta["shape"]))

    def __len__(self) -> int:
        return int(self.array.shape[0])

    def open_store(self, path: Path | None = None) -> Store:
        """Open the store that was embedded.

        Args:
            path: Where it lies now, if it was moved.

        Raises:
            UserError: If another store lies there.
        """
        if path is None and not self.store_path.exists():
            raise UserError(
                where=str(self.path),
                found=f"embeddings of a store that is no longer at {self.store_path}",
                allowed="a store that still lies there",
                next_step="pass --store with the folder where it lies now",
            )
        store = Store(path or self.store_path)
        if store.fingerprint != self.store_fingerprint:
            raise UserError(
                where=str(store.path),
                found=f"store {store.fingerprint}",
                allowed=f"store {self.store_fingerprint}, which {self.path} embeds",
                next_step="pass --store with the right folder, or embed again",
            )
        return store


def embed_store(
    embedder: Embedder,
    store: Store,
    out: Path,
    *,
    labels: Labels | None = None,
    flip: bool = False,
    batch_size: int = 128,
    decoders: int = 2,
    ranks: Ranks | None = None,
    cluster: str | None = None,
) -> Embeddings:
    """Embed a store's images into a folder.

    The same call in the same folder goes on where it was killed, and returns at once when the
    folder is finished; ranks, a cluster and one process make the same array.

    Args:
        embedder: What embeds; pickled, if a cluster does the work.
        store: The images.
        out: Folder to write.
        labels: Embed only the images that this table keeps; the others' rows, and those of images
            that were found damaged and set aside, are NaN.
        flip: Add the embedding of the mirrored image to each.
        batch_size: Images in each call of the embedder.
        decoders: Threads that decode ahead.
        ranks: Processes under torchrun that share the work; all of them call this.
        cluster: Address of a Ray cluster that does the work; see `openmfr.cluster`.

    Raises:
        UserError: If other embeddings stand in `out`, or `batch_size` is below 1.
    """
    if batch_size < 1:
        raise UserError(
            where="batch_size", found=str(batch_size), allowed="from 1", next_step="use 128"
        )
    if labels is not None:
        labels.check_store(store)
    settings = {
        "store": store.fingerprint,
        "labels": labels.fingerprint if labels else "",
        "model": embedder.fingerprint,
        "flip": flip,
    }
    if store.quarantined.size:
        logger.warning(
            "%s: %s damaged images are set aside and get no embedding",
            store.path,
            f"{store.quarantined.size:,}",
        )
        settings["quarantined"] = fingerprint(store.quarantined.tobytes())
    shape = (len(store), embedder.embedding_dim)
    is_first, meet = ranks is None or ranks.is_first, ranks.barrier if ranks else _alone
    is_done = (out / META).exists()
    meet()  # none looks after the first one has written
    if is_done:
        finished = Embeddings(out)
        check_same_settings(out, finished.settings, settings)
        if is_first:
            _tidy(out)  # a kill may have come just before
        return finished
    if is_first:
        _begin(out, settings, shape)
    meet()
    rows = labels.kept() if labels else np.arange(len(store))
    rows = rows[~np.isin(rows, store.quarantined)]
    own = slice(ranks.rank, None, ranks.size) if ranks else slice(None)
    parts = _jobs(rows, len(store), batch_size)
    is_there = [int(_mark(out, number).exists()) for number, _, _ in parts]
    # Of one mind before the first of them works on: each would count past what a faster one made.
    is_made = ranks.largest(is_there) if ranks else is_there
    jobs = [part for part, made in zip(parts, is_made, strict=True) if not made]
    work = partial(_embed_part, embedder, store, out, flip, batch_size, decoders)
    done = len(rows) - sum(len(part) for _, _, part in jobs)
    with progress("embed", total=len(rows), unit="images", done=done, is_shown=is_first) as advance:
        for count in do_all(work, jobs[own], workers=1, what="embed", cluster=cluster):
            advance(count * (ranks.size if ranks else 1))
    meet()
    if is_first:
        _finish(out, store, settings, shape)
    meet()
    return Embeddings(out)


def _alone() -> None:
    """Wait for nobody."""


def _jobs(rows: IntArray, images: int, batch_size: int) -> list[tuple[int, range, IntArray]]:
    """Cut a store into parts: number, rows of the array, and those of them that are embedded."""
    # Small enough for a bar that moves; whole batches, however many processes share the parts.
    size = -(-min(max(-(-images // 64), 1), _PART) // batch_size) * batch_size
    parts = [range(start, min(start + size, images)) for start in range(0, images, size)]
    cuts = np.searchsorted(rows, [part.start for part in parts[1:]])
    chosen = np.split(rows, cuts)
    return [(i, part, own) for i, (part, own) in enumerate(zip(parts, chosen, strict=False))]


def _embed_part(
    embedder: Embedder,
    store: Store,
    out: Path,
    flip: bool,
    batch_size: int,
    decoders: int,
    job: tuple[int, range, IntArray],
) -> int:
    """Embed one part and put it in its place in the array; return how many images it had."""
    number, part, rows = job
    values = np.full((len(part), embedder.embedding_dim), np.nan, dtype=np.float32)
    for chunk, images in _decoded(store, rows, batch_size, decoders):
        embeddings = embedder.embed(images)
        if flip:
            embeddings = embeddings + embedder.embed(images[:, :, ::-1])
        values[chunk - part.start] = embeddings
    # Written, not mapped: pages of a file that machines share would overwrite their neighbours.
    with (out / ARRAY).open("r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(part.start * values[:1].nbytes, os.SEEK_CUR)
        file.write(values.tobytes())
        file.flush()
        os.fsync(file.fileno())
    _mark(out, number).touch()
    return len(rows)


def _mark(out: Path, number: int) -> Path:
    return out / PARTS / f"{number:06d}"


def _begin(out: Path, settings: dict[str, Any], shape: tuple[int, int]) -> None:
    """Make the folder and the array, unless a killed run did."""
    prepare_folder(out, mark=PARTIAL, what="folder of embeddings")
    if (out / PARTIAL).exists():
        begun = read_json(out / PARTIAL, what="partial run", required=("settings",))
        check_same_settings(out, begun["settings"], settings)
    write_json(out / PARTIAL, {"settings": settings})
    (out / PARTS).mkdir(exist_ok=True)
    if not (out / ARRAY).exists():
        with atomic_path(out / ARRAY) as temporary:
            np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)


def _finish(out: Path, store: Store, settings: dict[str, Any], shape: tuple[int, int]) -> None:
    meta = {
        "format_version": FORMAT_VERSION,
        "kind": "embeddings",
        "store_path": str(store.path.resolve()),
        "settings": settings,
        "fingerprint": fingerprint(json.dumps(settings, sort_keys=True)),
        "shape": list(shape),
    }
    write_json(out / META, meta)
    _tidy(out)


def _tidy(out: Path) -> None:
    (out / PARTIAL).unlink(missing_ok=True)
    shutil.rmtree(out / PARTS, ignore_errors=True)


def _map_array(path: Path, shape: tuple[int, ...]) -> FloatArray:
    try:
        array: FloatArray = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise UserError(
            where=str(path),
            found=f"an unreadable array ({error})",
            allowed=f"float32 of shape {shape}",
            next_step="embed again into another folder",
        ) from error
    if array.shape != shape:
        raise UserError(
            where=str(path),
            found=f"shape {array.shape}",
            allowed=f"{shape}, as {META} says",
            next_step="embed again into another folder",
        )
    return array


def _decoded(
    store: Store, rows: IntArray, batch_size: int, decoders: int
) -> Iterator[tuple[IntArray, UInt8Array]]:
    """Decode batches in order, a few ahead of the one in use."""
    chunks = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    with ThreadPoolExecutor(decoders) as pool:
        waiting: deque[tuple[IntArray, Future[UInt8Array]]] = deque()
        for chunk in chunks:
            waiting.append((chunk, pool.submit(decode_batch, store, chunk)))
            if len(waiting) > decoders:
                ready, future = waiting.popleft()
                yield ready, future.result()
        for ready, future in waiting:
            yield ready, future.result()


def decode_batch(store: Store, rows: Sequence[int] | IntArray) -> UInt8Array:
    """Decode images of a store into one array, uint8, shape (B, H, W, 3)."""
    return np.stack([store.decode(int(row)) for row in rows])
