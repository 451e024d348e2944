"""A store of WebFace42M's size: 42 million rows of 2 million identities, opened, shuffled and read.

The payload of each image is 16 bytes, so that the disk holds it; index, columns, checksums and
labels are real. Each question has a process of its own:

- open: the store and its labels, as `openmfr train` opens them; again, once they are in the cache.
- machine: the same in eight processes at once, as eight ranks of one machine do; all their memory,
  where pages that they share count once.
- epoch: the order of one epoch, drawn whole, and then all that a rank holds to serve batches.
- balanced: the same, with every person equally often.
- read: random reads, each of another image, once every shard has been touched; read again by two
  worker processes that were forked, whose own memory is counted.

A twentieth of the images is left out, with a reason, as after cleaning. Memory is the peak of the
process, what it imports included. The store is made once in `--folder`
(by default in a temporary one: making it takes minutes) and is used again if it is there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from reporting import Row, report, run_side

ROWS, IDENTITIES, PER_SHARD = 42_474_557, 2_059_906, 2_048
QUICK = 50
READS, RANKS = 400_000, 8
#: What is allowed: seconds, GiB, and reads per second (a loader of 32 GPUs needs 81 each).
OPEN_SECONDS, OPEN_GIB, BALANCED_GIB, READ_RATE = 20.0, 1.5, 2.0, 50_000.0


def write_shard(number: int, *, writer: Any, rows: int, identities: int) -> int:
    start = number * PER_SHARD
    index = range(start, min(start + PER_SHARD, rows))
    writer.write_shard(
        number,
        [i.to_bytes(16, "little") for i in index],
        {
            "source": [f"{i:08d}.jpg" for i in index],
            "identity_name": [str(i * identities // rows) for i in index],
        },
    )
    return len(index)


def make(folder: Path, rows: int, identities: int) -> None:
    """Write the store and its labels, unless they are there."""
    from openmfr.data.labels import Labels
    from openmfr.data.store import Store
    from openmfr.data.store_writer import writing_store
    from openmfr.run import progress
    from openmfr.workers import do_all

    settings = {"rows": rows, "identities": identities}
    with writing_store(folder, image_size=112, settings=settings) as writer:
        if isinstance(writer, Store):
            store = writer
        else:
            shards = -(-rows // PER_SHARD)
            left = [number for number in range(shards) if not writer.has_shard(number)]
            work = partial(write_shard, writer=writer, rows=rows, identities=identities)
            with progress("write", total=rows, unit="rows") as advance:
                for count in do_all(work, left, workers=2, what="scale"):
                    advance(count)
            store = writer.commit(shards=shards)
    if not (folder / "labels.parquet").exists():
        labels = Labels.from_names(store)
        is_outlier = np.arange(len(labels)) % 20 == 0
        labels.without(is_outlier, reason="outlier").write(folder / "labels.parquet")


def opened(folder: Path) -> tuple[Any, Any]:
    from openmfr.data import labels_file
    from openmfr.data.labels import Labels
    from openmfr.data.store import Store

    labels_file._SHARED_ROWS = 1  # shared as the whole is, where --quick has too few rows for it
    return Store(folder), Labels.read(folder / "labels.parquet")


def child_open(folder: Path) -> dict[str, float]:
    start = time.perf_counter()
    store, labels = opened(folder)
    labels.check_store(store)
    return {"seconds": time.perf_counter() - start, "images": len(store)}


def child_rank(folder: Path) -> dict[str, float]:
    """Hold store and labels open until the parent has looked."""
    store, labels = opened(folder)
    labels.check_store(store)
    print("open", flush=True)
    sys.stdin.read()
    return {}


def child_machine(folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--side", "rank", "--folder", str(folder)]
    ranks = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(RANKS)
    ]
    for rank in ranks:
        assert rank.stdout is not None
        rank.stdout.readline()
    together = sum(memory_of(rank.pid)["Pss"] for rank in ranks)
    for rank in ranks:
        rank.communicate()
    return {"together": together}


def memory_of(pid: int | str) -> dict[str, float]:
    """GiB of a process, by kind; in "Pss", pages that processes share count once among them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(value.split()[0]) / 2**20 for name, value in fields.items()}


def child_epoch(folder: Path) -> dict[str, float]:
    from openmfr.data.loader import training_identities
    from openmfr.data.order import Stream, training_images

    store, labels = opened(folder)
    order = Stream(training_images(labels, store), seed=0)
    classes = training_identities(labels)
    start = time.perf_counter()
    order.draw(0, 128)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    for step in range(1, 1_001):
        order.draw(step * 128, 128)
    return {"seconds": seconds, "batches": 1_000 / (time.perf_counter() - start), "c": len(classes)}


def child_balanced(folder: Path) -> dict[str, float]:
    from openmfr.data.loader import training_identities
    from openmfr.data.order import BalancedStream, training_images

    store, labels = opened(folder)
    classes = training_identities(labels)
    start = time.perf_counter()
    order = BalancedStream(training_images(labels, store), classes[labels.keep], seed=0)
    order.draw(0, 128)
    return {"seconds": time.perf_counter() - start}


def read_many(store: Any, seed: int) -> dict[str, float]:
    """Read images at random in this process; its rate, and the memory that is its own alone."""
    rng = np.random.default_rng(seed)
    for shard in store.shards:  # the first touch maps a shard
        store.read(shard.start)
    places = rng.integers(len(store), size=READS).tolist()
    start = time.perf_counter()
    for place in places:
        assert store.read(place)[:8] == place.to_bytes(8, "little")
    rate = READS / (time.perf_counter() - start)
    # Pages of the store's files are the system's, and go when it needs them.
    return {"rate": rate, "private": memory_of("self")["Private_Dirty"]}


def child_read(folder: Path) -> dict[str, float]:
    store, _ = opened(folder)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.starmap(read_many, [(store, 1), (store, 2)], chunksize=1)
    alone = read_many(store, 0)
    return {"rate": alone["rate"], "worker": max(one["private"] for one in found)}


CHILDREN: dict[str, Callable[[Path], dict[str, float]]] = {
    "open": child_open,
    "again": child_open,
    "machine": child_machine,
    "rank": child_rank,
    "epoch": child_epoch,
    "balanced": child_balanced,
    "read": child_read,
}


def single(what: str, ours: float, baseline: float, unit: str, *, goal: float | None) -> Row:
    """A row of one measurement: ours ÷ baseline."""
    ratio = ours / baseline
    return Row(
        what=what, ours=ours, baseline=baseline, unit=unit, ratio=ratio, goal=goal, low=ratio,
        high=ratio,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fiftieth, within 50 s")
    parser.add_argument("--json", metavar="PATH", help="write the rows there; - prints them last")
    parser.add_argument("--folder", type=Path, help="where the store is made, and kept")
    parser.add_argument("--side", choices=CHILDREN, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        result = CHILDREN[options.side](options.folder)
        # ru_maxrss is in KiB on Linux.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(result | {"peak": peak}))
        return
    part = QUICK if options.quick else 1
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["OPENMFR_CACHE"] = f"{temporary}/cache"
        folder = options.folder or Path(temporary) / "store"
        make(folder, ROWS // part, IDENTITIES // part)
        sides = [side for side in CHILDREN if side != "rank"]
        found = {side: run_side(__file__, side, folder=folder) for side in sides}
    goal = None if options.quick else 1.0
    rows = f"{ROWS // part:,} rows"
    report(
        "scale",
        [
            single(f"opening {rows}, allowed against taken", OPEN_SECONDS,
                   found["open"]["seconds"], "s", goal=goal),
            single("opening them once they are in the cache, allowed against taken", OPEN_SECONDS,
                   found["again"]["seconds"], "s", goal=goal),
            single("memory once opened, allowed against taken", OPEN_GIB,
                   found["open"]["peak"], "GiB", goal=goal),
            single(f"memory of {RANKS} processes that opened it, allowed against taken", OPEN_GIB,
                   found["machine"]["together"], "GiB", goal=goal),
            single("memory of a rank that serves batches, allowed against taken", OPEN_GIB,
                   found["epoch"]["peak"], "GiB", goal=goal),
            single("drawing the order of an epoch, allowed against taken", OPEN_SECONDS,
                   found["epoch"]["seconds"], "s", goal=goal),
            single("drawing an order that is balanced over people, allowed against taken",
                   OPEN_SECONDS * 2, found["balanced"]["seconds"], "s", goal=goal),
            single("memory of a rank with that order, allowed against taken", BALANCED_GIB,
                   found["balanced"]["peak"], "GiB", goal=goal),
            single("batches of 128 from an order, against what 81 images/s ask",
                   found["epoch"]["batches"], 81 / 128, "batches/s", goal=goal),
            single("random reads against the least", found["read"]["rate"], READ_RATE,
                   "reads/s", goal=goal),
            single("memory of a worker alone, allowed against taken", OPEN_GIB / 4,
                   found["read"]["worker"], "GiB", goal=goal),
        ],
        json_path=options.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
