"""Whether the loader's memory stays flat: batches for an hour, memory at its end against its start.

One process takes batches as fast as two workers decode them, epoch after epoch, over synthetic
faces or a store that is given. Memory is the anonymous memory of all three processes (what is
mapped from the store is the page cache's). The largest of the second tenth of the time, when
everything has been used once, is held against the largest of the last tenth.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reporting import Row, report

BATCH, WORKERS = 128, 2
MIB_IN_KIB = 1_024
#: Memory at the start ÷ memory at the end.
GOAL = 0.98


def batches(store: Path) -> Iterator[tuple[Any, Any]]:
    from openmfr.data.labels import Labels
    from openmfr.data.loader import FaceDataset, StreamSampler, load_batches
    from openmfr.data.order import Stream
    from openmfr.data.store import Store
    from openmfr.device import keep_freed_pages

    keep_freed_pages()  # as `openmfr train` does
    labels = Labels.read(store / "labels.parquet")
    sampler = StreamSampler(
        Stream(labels.kept(), seed=0), batch_size=BATCH, start_step=0, stop_step=10**9
    )
    return load_batches(FaceDataset(Store(store), labels.identity), sampler, workers=WORKERS)


def memory_mib() -> float:
    """Anonymous memory of this process and its workers."""
    processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    texts = (Path(f"/proc/{process}/smaps_rollup").read_text() for process in processes)
    found = (re.search(r"^Anonymous: +(\d+) kB", text, re.MULTILINE) for text in texts)
    return sum(int(match[1]) for match in found if match) / MIB_IN_KIB


def watch(store: Path, minutes: float) -> list[float]:
    """Memory in MiB, looked at a thousand times."""
    from openmfr.run import progress

    found: list[float] = []
    begun, looks, images = time.monotonic(), 1_000, 0
    with progress("loader", total=looks, unit="looks") as advance:
        for loaded, _ in batches(store):
            images += len(loaded)
            if time.monotonic() - begun >= len(found) * minutes * 60 / looks:
                found.append(memory_mib())
                advance(1)
            if len(found) == looks:
                break
    print(f"{images:,} images in {minutes:g} minutes")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 seconds")
    parser.add_argument("--json", metavar="PATH", help="write the rows there; - prints them last")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long to look")
    parser.add_argument("--store", type=Path, help="images to load; synthetic ones by default")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        store = options.store
        if store is None:
            from openmfr.synthetic.dataset import synthesise

            store = Path(name) / "store"
            synthesise(store, identities=60, images=40, seed=0, workers=2)
        found = watch(store, 1 / 3 if options.quick else options.minutes)
    tenth = len(found) // 10
    start, end = max(found[tenth : 2 * tenth]), max(found[-tenth:])
    ratio = start / end
    row = Row(
        what="memory at the start against memory at the end",
        ours=start,
        baseline=end,
        unit="MiB",
        ratio=ratio,
        goal=None if options.quick else GOAL,
        low=ratio,
        high=ratio,
    )
    report("loader_memory", [row], json_path=options.json)


if __name__ == "__main__":
    main()
