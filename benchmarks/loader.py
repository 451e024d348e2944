"""The loader against what people train from otherwise: images per second and core, and memory.

All sides read the same JPEGs (synthetic faces, 112 × 112), shuffled, decode them with the same
decoder (simplejpeg), and hand out batches of 128 with their classes, uint8 (B, H, W, 3):

- ours: a Store, `load_batches`; shuffled over the whole set.
- folder: one file for each image, a Dataset that opens them, PyTorch's DataLoader.
- webdataset: tar shards, the `webdataset` package; shuffled within 1,000 images.
- lmdb: one LMDB file, the `lmdb` package, a Dataset, PyTorch's DataLoader.
- decode: the JPEGs lie in memory and are decoded, nothing else.

Each side runs in a process of its own, in turn, several times. Without workers, images per CPU
second of that process count, and each epoch follows one of decoding alone in the same process: the
speed of a shared machine changes within seconds, so sides are compared as shares of decoding. With
two workers, images per second of the clock count. Memory is the peak of the process without
workers.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from reporting import Row, paired, report, run_side

IDENTITIES, IMAGES, BATCH = 60, 40, 128
RIVALS = ("folder", "webdataset", "lmdb")
SIDES = ("ours", *RIVALS, "decode")
PER_TAR = 600
Batches = Iterator[tuple[Any, Any]]


def make(folder: Path) -> None:
    """Write one set of images in every form."""
    import lmdb

    from openmfr.synthetic.dataset import synthesise

    store, labels = synthesise(
        folder / "store", identities=IDENTITIES, images=IMAGES, seed=0, workers=2
    )
    encoded = [store.read(index) for index in range(len(store))]
    identity = labels.identity.tolist()
    (folder / "tars").mkdir()
    for number, start in enumerate(range(0, len(encoded), PER_TAR)):
        with tarfile.open(folder / "tars" / f"{number:06d}.tar", "w") as tar:
            for index in range(start, min(start + PER_TAR, len(encoded))):
                parts = {"jpg": encoded[index], "cls": str(identity[index]).encode()}
                for suffix, content in parts.items():
                    member = tarfile.TarInfo(f"{index:06d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    with lmdb.open(str(folder / "lmdb"), map_size=2**30) as base, base.begin(write=True) as writing:
        for index, image in enumerate(encoded):
            writing.put(str(index).encode(), image)
    for index, image in enumerate(encoded):
        path = folder / "folder" / str(identity[index]) / f"{index:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    np.save(folder / "identity.npy", labels.identity)


class Files:
    """One file for each image, as ImageFolder has them."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted((folder / "folder").rglob("*.jpg"), key=lambda path: path.name)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path = self.paths[index]
        return simplejpeg.decode_jpeg(path.read_bytes()), int(path.parent.name)


class Lmdb:
    """One LMDB file, opened where it is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reading: Any = None
        self.identity = np.load(folder / "identity.npy")

    def __len__(self) -> int:
        return len(self.identity)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        import lmdb

        if self.reading is None:
            base = lmdb.open(str(self.folder / "lmdb"), readonly=True, lock=False)
            self.reading = base.begin(buffers=True)
        image = self.reading.get(str(index).encode())
        return simplejpeg.decode_jpeg(image), int(self.identity[index])


def ours(folder: Path, workers: int, epochs: int) -> Batches:
    from openmfr.data.labels import Labels
    from openmfr.data.loader import FaceDataset, StreamSampler, load_batches
    from openmfr.data.order import Stream
    from openmfr.data.store import Store
    from openmfr.device import keep_freed_pages

    keep_freed_pages()  # as `openmfr train` does
    store, labels = Store(folder / "store"), Labels.read(folder / "store" / "labels.parquet")
    sampler = StreamSampler(
        Stream(labels.kept(), seed=0),
        batch_size=BATCH,
        start_step=0,
        stop_step=epochs * len(store) // BATCH,
    )
    return load_batches(FaceDataset(store, labels.identity), sampler, workers=workers)


def torch_dataset(kind: type[Files | Lmdb]) -> Callable[[Path, int, int], Batches]:
    def batches(folder: Path, workers: int, epochs: int) -> Batches:
        from torch.utils.data import DataLoader

        loader: Any = DataLoader(
            kind(folder),  # type: ignore[arg-type]
            batch_size=BATCH,
            shuffle=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        for _ in range(epochs):
            yield from loader

    return batches


def webdataset(folder: Path, workers: int, epochs: int) -> Batches:
    import webdataset as wds

    tars = [str(path) for path in sorted((folder / "tars").iterdir())]
    data = (
        wds.WebDataset(tars, shardshuffle=len(tars))
        .shuffle(1_000)
        .map(lambda sample: (simplejpeg.decode_jpeg(sample["jpg"]), int(sample["cls"])))
        .batched(BATCH, partial=True)
        .repeat(epochs)
    )
    return iter(wds.WebLoader(data, batch_size=None, num_workers=workers))


BATCHES = {
    "ours": ours,
    "folder": torch_dataset(Files),
    "lmdb": torch_dataset(Lmdb),
    "webdataset": webdataset,
}


def encoded_images(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in (folder / "folder").rglob("*.jpg")]


def decode(folder: Path, epochs: int) -> float:
    """Images per second of the clock of decoding alone."""
    encoded = encoded_images(folder)
    start = time.perf_counter()
    for _ in range(epochs):
        for image in encoded:
            simplejpeg.decode_jpeg(image)
    return epochs * len(encoded) / (time.perf_counter() - start)


def with_workers(side: str, folder: Path, workers: int, epochs: int) -> dict[str, float]:
    """Images per second of the clock."""
    if side == "decode":
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            return {"rate": sum(pool.starmap(decode, [(folder, epochs)] * workers, chunksize=1))}
    batches = BATCHES[side](folder, workers, epochs)
    for _ in range(2 * workers + 2):  # what was ready is not counted
        next(batches)
    start = time.perf_counter()
    count = sum(len(images) for images, _ in batches)
    return {"rate": count / (time.perf_counter() - start)}


def alone(side: str, folder: Path, epochs: int) -> dict[str, float]:
    """Images per CPU second of a side and of decoding, by turns in this process; its peak, GiB."""
    encoded = encoded_images(folder)
    batches = BATCHES[side](folder, 0, epochs)
    for _ in range(2):  # what is done once is not counted
        next(batches)
    count, seconds, decoded, decoding = 0, 0.0, 0, 0.0
    while True:
        start = time.process_time()
        for image in encoded:
            simplejpeg.decode_jpeg(image)
        between = time.process_time()
        served = sum(len(images) for images, _ in islice(batches, len(encoded) // BATCH))
        if not served:
            break
        seconds += time.process_time() - between
        count += served
        decoding += between - start
        decoded += len(encoded)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"rate": count / seconds, "decode": decoded / decoding, "peak": peak}


def child(side: str, folder: Path, workers: int, epochs: int) -> dict[str, float]:
    """Measure one side in this process."""
    import torch

    torch.set_num_threads(1)
    return with_workers(side, folder, workers, epochs) if workers else alone(side, folder, epochs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer images, within 50 s")
    parser.add_argument("--json", metavar="PATH", help="write the rows there; - prints them last")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(child(options.side, options.folder, options.workers, options.epochs)))
        return
    epochs, rounds = (2, 1) if options.quick else (8, 5)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        for workers in (0, 2):
            sides = SIDES if workers else SIDES[:-1]
            runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
            for _ in range(rounds):
                for side, results in runs.items():
                    results.append(
                        run_side(__file__, side, folder=folder, workers=workers, epochs=epochs)
                    )
            made = rows_with_workers(runs, workers) if workers else rows_alone(runs)
            rows += [replace(row, goal=None) for row in made] if options.quick else made
    report("loader", rows, json_path=options.json)


def rows_alone(runs: dict[str, list[dict[str, float]]]) -> list[Row]:
    """What a core gives: each side as a share of decoding, and that of the store itself."""
    own = runs["ours"]
    shares = {side: [run["rate"] / run["decode"] for run in made] for side, made in runs.items()}
    shares["the best of them"] = [
        max(of) for of in zip(*(shares[side] for side in RIVALS), strict=True)
    ]
    rows = [
        paired(
            f"store against {side}, one process",
            list(zip(shares["ours"], shares[side], strict=True)),
            unit="of decoding's images per CPU second",
            goal=1.0 if side == "the best of them" else None,
        )
        for side in (*RIVALS, "the best of them")
    ]
    rates = [(run["rate"], run["decode"]) for run in own]
    peaks = [
        (min(runs[side][i]["peak"] for side in RIVALS), run["peak"]) for i, run in enumerate(own)
    ]
    rows += [
        paired("store against decode", rates, unit="images per CPU second", goal=0.9),
        paired("peak memory, the least of the others against ours", peaks, unit="GiB"),
    ]
    return rows


def rows_with_workers(runs: dict[str, list[dict[str, float]]], workers: int) -> list[Row]:
    """What all cores give; with two workers, three processes share the two of this machine."""
    rates = {side: [run["rate"] for run in made] for side, made in runs.items()}
    rates["the best of them"] = [
        max(of) for of in zip(*(rates[side] for side in RIVALS), strict=True)
    ]
    return [
        paired(
            f"store against {side}",
            list(zip(rates["ours"], rates[side], strict=True)),
            unit=f"images/s with {workers} workers",
            goal=1.0 if side == "the best of them" else None,
        )
        for side in (*RIVALS, "the best of them", "decode")
    ]


if __name__ == "__main__":
    main()
