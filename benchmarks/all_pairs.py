"""CPU seconds and memory of exact FNMR@FMR over all pairs, against the matrix product alone.

57,715 images of 2,478 people, D 512, as in the WebFace260M track; FMR 1e-5, 1e-6 and 1e-7 at once,
on one thread. Sides, each in a process of its own, in turn:

- float32: `all_pairs` with float32 products, against sgemm over the n(n+1)/2 pairs.
- bfloat16: `all_pairs` with a bfloat16 screen, against the bfloat16 product over the same.

The yardstick multiplies all those pairs, in whatever block shape is the fastest in a short trial,
once before and once after our side in the same process; their mean counts. (Short samples would
not do: this kind of machine changes its speed within half a minute, and the best of many samples
is its best moment, which a long run never gets.) All sides must find the same thresholds and FNMR,
to the last bit. Memory is the peak of the process with our side alone, the embeddings
included. Small sizes, `--quick`, are held to no goal: what is linear in n weighs more there.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any

from reporting import Row, paired, report, run_side

DIM, FMRS = 512, (1e-5, 1e-6, 1e-7)
IMAGES_PER_PERSON = 57_715 / 2_478
SHAPES = ((256, 2_048), (512, 512), (768, 768), (1_024, 1_024))
#: Precision: how many times the time of the product it may take.
GOALS = {"float32": 1.15, "bfloat16": 1.4}
GIB = 2**30


def product_seconds(precision: str, images: int, shape: tuple[int, int], share: float) -> float:
    """CPU seconds of the product over n(n+1)/2 pairs; of a share of them, scaled to all."""
    import torch

    height, width = shape
    matrix = torch.randn(images, DIM).to(getattr(torch, precision))
    blocks = [
        (top, left)
        for top in range(0, images - height + 1, height)
        for left in range(0, images - width + 1, width)
        if left + width > top
    ][:: round(1 / share)]
    out = torch.empty(height, width, dtype=matrix.dtype)
    torch.mm(matrix[:height], matrix[:width].t(), out=out)
    start = time.process_time()
    for top, left in blocks:
        torch.mm(matrix[top : top + height], matrix[left : left + width].t(), out=out)
    seconds = time.process_time() - start
    return seconds * images * (images + 1) / 2 / (len(blocks) * height * width)


def child(precision: str, images: int) -> dict[str, Any]:
    """Run one side in this process, between two runs of its yardstick."""
    import numpy as np
    import torch

    from openmfr.evaluation.all_pairs.rates import measure_all_pairs
    from openmfr.evaluation.all_pairs.scores import all_pairs

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    people = round(images / IMAGES_PER_PERSON)
    identity = rng.integers(people, size=images)
    embedding = rng.standard_normal((people, DIM), dtype=np.float32)[identity]
    for row in embedding:  # in place, so that making the data does not set the peak
        row += 1.6 * rng.standard_normal(DIM, dtype=np.float32)
    all_pairs(embedding[:500], identity[:500], precision=precision)  # type: ignore[arg-type]
    share = 0.02 if images > 20_000 else 0.2
    trials = {shape: product_seconds(precision, images, shape, share) for shape in SHAPES}
    shape = min(trials, key=lambda shape: trials[shape])
    before = product_seconds(precision, images, shape, 1.0)
    start = time.process_time()
    pairs = all_pairs(embedding, identity, fmrs=FMRS, precision=precision)  # type: ignore[arg-type]
    result = measure_all_pairs(pairs, replicates=0)
    seconds = time.process_time() - start
    # ru_maxrss is in KiB on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    after = product_seconds(precision, images, shape, 1.0)
    return {
        "seconds": seconds,
        "product": (before + after) / 2,
        "peak": peak,
        "figures": [[rate.threshold, rate.fnmr.value] for rate in result.rates],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, within 50 s")
    parser.add_argument("--json", metavar="PATH", help="write the rows there; - prints them last")
    parser.add_argument("--images", type=int, default=57_715, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", choices=GOALS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(child(options.side, options.images)))
        return
    images, rounds = (8_192, 1) if options.quick else (options.images, options.rounds)
    is_held = images == 57_715
    runs: dict[str, list[dict[str, Any]]] = {precision: [] for precision in GOALS}
    for _ in range(rounds):
        for precision, results in runs.items():
            results.append(run_side(__file__, precision, images=images))
    figures = [result["figures"] for results in runs.values() for result in results]
    if any(found != figures[0] for found in figures):
        raise SystemExit(f"the sides disagree: {figures}")
    pairs = images * (images + 1) / 2 / 1e6
    rows = []
    for precision, goal in GOALS.items():
        rates = [(pairs / r["seconds"], pairs / r["product"]) for r in runs[precision]]
        rows.append(
            paired(
                f"{precision}, {images:,} images, against the {precision} product",
                rates,
                unit="million pairs per CPU second",
                goal=1 / goal if is_held else None,
            )
        )
        peak = max(result["peak"] for result in runs[precision])
        ratio = GIB / peak
        rows.append(
            Row(
                what=f"{precision}, {images:,} images, memory allowed against found",
                ours=1.0,
                baseline=peak / GIB,
                unit="GiB",
                ratio=ratio,
                goal=1.0 if is_held else None,
                low=ratio,
                high=ratio,
            )
        )
    report("all_pairs", rows, json_path=options.json)


if __name__ == "__main__":
    main()
