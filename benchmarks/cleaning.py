"""Cleaning at scale: the search for similar centres against sgemm, a pass against plain reading.

- Search: 100,000 × 512 centres, on one thread, all in one process: half of the sgemm over the
  n(n+1)/2 pairs, the exact search, the other half, the approximate search. The yardstick has
  whatever block shape is the fastest in a short trial. Memory is the peak beyond what the process
  held before the search. The centres lie in 300 clusters of an uneven spectrum, and one in twenty
  is another identity's second half, more or less noisy.
- Pass: `sum_centers` and `center_scores` over 2 million mapped float16 embeddings of dimension 512
  (2 GB, in the page cache) of 97,000 identities, sorted by identity and in any order, each read
  once, against a plain reading (a sum of 64-bit integers) of the same bytes, twice. In any order,
  each row also moves one of 199 MB of sums. Memory is what is allocated, at a quarter of the
  images and at all of them, with the same identities.

CPU seconds. Small sizes, `--quick`, are held to no goal.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from all_pairs import SHAPES, product_seconds
from reporting import Row, paired, report, run_side

DIM, THRESHOLD, IMAGES_PER_IDENTITY = 512, 0.6, 20.6
GIB = 2**30
#: What a pass may hold for each image: its score, and a little.
BYTES_PER_IMAGE = 8


def make_centers(count: int) -> Any:
    import numpy as np

    rng = np.random.default_rng(0)
    spectrum = (1 + np.arange(DIM, dtype=np.float32)) ** -0.35
    spectrum /= np.sqrt((spectrum**2).mean())
    clusters = rng.standard_normal((300, DIM), dtype=np.float32)
    people = round(0.95 * count)
    person = np.concatenate([np.arange(people), rng.choice(people, count - people, replace=False)])
    cluster = rng.integers(300, size=people)
    faces = rng.standard_normal((people, DIM), dtype=np.float32)
    centers = np.empty((count, DIM), dtype=np.float32)
    for place, who in zip(rng.permutation(count), person, strict=True):
        noise = rng.standard_normal(DIM, dtype=np.float32) * rng.uniform(0.16, 0.72)
        centers[place] = spectrum * (faces[who] + 0.45 * clusters[cluster[who]]) + noise
    return centers


def memory(name: str) -> int:
    """A line of this process's status, bytes; Linux alone."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def search(count: int) -> dict[str, float]:
    import faiss
    import torch

    from openmfr.cleaning.center_search import CenterPairs, similar_centers

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    centers = make_centers(count)
    similar_centers(centers[:2_000], THRESHOLD)
    similar_centers(centers[:2_000], THRESHOLD, method="approximate")
    share = 0.02 if count > 20_000 else 0.2
    trials = {shape: product_seconds("float32", count, shape, share) for shape in SHAPES}
    shape = min(trials, key=lambda shape: trials[shape])
    before = product_seconds("float32", count, shape, 0.5)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    held = memory("VmRSS")
    start = time.process_time()
    exact = similar_centers(centers, THRESHOLD)
    exact_seconds = time.process_time() - start
    peak = memory("VmHWM") - held
    after = product_seconds("float32", count, shape, 0.5)
    start = time.process_time()
    found = similar_centers(centers, THRESHOLD, method="approximate")
    seconds = time.process_time() - start

    def keys(pairs: CenterPairs) -> set[tuple[int, int]]:
        return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))

    return {
        "exact": exact_seconds,
        "product": (before + after) / 2,
        "peak": peak,
        "approximate": seconds,
        "pairs": len(exact),
        "recall": len(keys(exact) & keys(found)) / len(exact),
        "estimated recall": found.recall,
    }


def intra(images: int, *, rounds: int) -> dict[str, Any]:
    import numpy as np

    from openmfr.cleaning.centers import center_scores, sum_centers

    rng = np.random.default_rng(0)
    identities = round(images / IMAGES_PER_IDENTITY)
    keep = np.ones(images, dtype=np.bool_)
    orders = {"in any order": rng.integers(identities, size=images)}
    orders["sorted by identity"] = np.sort(orders["in any order"])
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in orders}
    peaks = {}
    with tempfile.TemporaryDirectory(prefix="openmfr-") as folder:
        path = Path(folder) / "embedding.npy"
        file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(images, DIM))
        for top in range(0, images, 10_000):
            part = file[top : top + 10_000]
            part[:] = rng.standard_normal(part.shape, dtype=np.float32)
        file.flush()
        del file

        def both(order: Any, count: int) -> None:
            embedding = np.load(path, mmap_mode="r")[:count]
            identity = order[:count]
            centers = sum_centers(embedding, identity, keep[:count])
            center_scores(embedding, identity, keep[:count], centers, leave_one_out=True)

        def read() -> None:
            for _ in range(2):
                plain = np.asarray(np.load(path, mmap_mode="r")).view(np.uint64)
                for top in range(0, images, 8_192):
                    plain[top : top + 8_192].sum()

        def seconds(function: Any, *arguments: Any) -> float:
            start = time.process_time()
            function(*arguments)
            return time.process_time() - start

        both(orders["in any order"], 1_000)
        for _ in range(rounds):
            for name, order in orders.items():
                pairs[name].append((seconds(both, order, images), seconds(read)))
        # Every identity is among a quarter of the images as well.
        order = np.arange(images) % identities
        for count in (images // 4, images):
            tracemalloc.start()
            both(order, count)
            peaks[count] = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    size = 2 * images * DIM * 2 / 1e9
    rates = {name: [(size / a, size / b) for a, b in found] for name, found in pairs.items()}
    return {"rates": rates, "peaks": list(peaks.items())}


def bound(what: str, allowed: float, found: float, unit: str, *, is_held: bool) -> Row:
    """A row for a figure that must not exceed what is allowed."""
    ratio = allowed / found
    return Row(
        what=what,
        ours=allowed,
        baseline=found,
        unit=unit,
        ratio=ratio,
        goal=1.0 if is_held else None,
        low=ratio,
        high=ratio,
    )


def search_rows(count: int, rounds: int, *, is_held: bool) -> list[Row]:
    runs = [run_side(__file__, "search", size=count) for _ in range(rounds)]
    pairs = count * (count + 1) / 2 / 1e6
    goal = 1 / 1.3 if is_held else None
    what = f"{count:,} centres"
    print(
        f"{what}: sgemm {2e-3 * pairs * DIM / runs[0]['product']:.0f} GFLOP/s, exact search "
        f"{2e-3 * pairs * DIM / runs[0]['exact']:.0f} GFLOP/s, {runs[0]['pairs']:,} pairs, "
        f"recall as similar_centers estimates it {runs[0]['estimated recall']:.4f}"
    )
    lowest = min(r["recall"] for r in runs)
    speeds = [(pairs / r["exact"], pairs / r["product"]) for r in runs]
    gains = [(pairs / r["approximate"], pairs / r["exact"]) for r in runs]
    unit = "million pairs per CPU second"
    return [
        paired(f"{what}, exact search against sgemm", speeds, unit=unit, goal=goal),
        bound(
            f"{what}, memory allowed beyond the input against found",
            1.0,
            max(r["peak"] for r in runs) / GIB,
            "GiB",
            is_held=is_held,
        ),
        paired(f"{what}, approximate search against the exact one", gains, unit=unit),
        paired(
            f"{what}, recall of the approximate search against 0.99",
            [(lowest, 0.99)],
            unit="share of the pairs",
            goal=1.0 if is_held else None,
        ),
    ]


def intra_rows(images: int, rounds: int, *, is_held: bool) -> list[Row]:
    result = run_side(__file__, "intra", size=images, rounds=rounds)
    (few, peak_of_few), (many, peak) = result["peaks"]
    rows = [
        paired(
            f"{images:,} images {name}, sums and scores against reading the bytes",
            [(ours, plain) for ours, plain in rates],
            unit="GB per CPU second",
        )
        for name, rates in result["rates"].items()
    ]
    growth = (peak - peak_of_few) / (many - few)
    what = f"{few:,} to {many:,} images, peak {peak_of_few / GIB:.3f} to {peak / GIB:.3f} GiB"
    return [
        *rows,
        bound(
            f"{what}, growth allowed against found",
            BYTES_PER_IMAGE,
            growth,
            "bytes for each image",
            is_held=is_held,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, within 50 s")
    parser.add_argument("--json", metavar="PATH", help="write the rows there; - prints them last")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=("search", "intra"), help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side == "search":
        print(json.dumps(search(options.size)))
    elif options.side == "intra":
        print(json.dumps(intra(options.size, rounds=options.rounds)))
    else:
        count, images = (8_192, 100_000) if options.quick else (100_000, 2_000_000)
        rounds, is_held = (1, False) if options.quick else (options.rounds, True)
        rows = search_rows(count, rounds, is_held=is_held)
        rows += intra_rows(images, rounds, is_held=is_held)
        report("cleaning", rows, json_path=options.json)


if __name__ == "__main__":
    main()
