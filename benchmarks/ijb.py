"""1:1 on an IJB-C-sized list: pooling templates, scoring 15.66 million pairs, TAR at six FARs.

The other side is what a user does otherwise: the pairs' embeddings are gathered and multiplied in
batches of 100,000, as in InsightFace's script for IJB, and all scores go through scikit-learn's
`roc_curve`. Templates there are pooled by a search of the whole image list for each template.

The set is drawn: 3,531 people with a gallery template each, 19,593 probe templates, 469,375 images,
D 512. Both sides take the same embeddings and must give the same rates. CPU seconds, one thread:

    OMP_NUM_THREADS=1 python benchmarks/ijb.py [--quick] [--json PATH]

At full size it takes about four minutes and 6 GiB.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from reporting import arguments, paired, report

from openmfr.evaluation.protocols.ijb import IJB_FARS, TemplatePairs

FloatArray = npt.NDArray[np.floating]
Result = TypeVar("Result")

#: Both sides keep memory that they freed, which a C library else gives back and asks for anew: that
#: would cost the other side, whose arrays are large and many, half of its time.
KEEP_PAGES = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
}

DIM, BATCH = 512, 100_000
#: People, probe templates, images, pairs.
FULL = (3_531, 19_593, 469_375, 15_658_489)
QUICK = (900, 4_500, 60_000, 1_000_000)


def draw(people: int, probes: int, images: int, pairs: int) -> tuple[TemplatePairs, FloatArray]:
    """Draw a set, with a genuine pair for each probe, and its embeddings."""
    rng = np.random.default_rng(0)
    templates = people + probes
    owner = np.concatenate([np.arange(people), rng.integers(0, people, probes)])
    template = np.concatenate(
        [np.arange(templates), rng.integers(0, templates, images - templates)]
    )
    index_a = rng.integers(0, people, pairs)
    index_b = people + rng.integers(0, probes, pairs)
    index_a[:probes], index_b[:probes] = owner[people:], np.arange(people, templates)
    center = rng.standard_normal((people, DIM), dtype=np.float32)
    embedding = 8 * rng.standard_normal((images, DIM), dtype=np.float32)
    for start in range(0, images, BATCH):
        part = slice(start, start + BATCH)
        embedding[part] += center[owner[template[part]]]
    listed = TemplatePairs(
        image=[f"{i}.jpg" for i in range(images)],
        template=template,
        medium=rng.integers(0, 8, images),
        template_id=np.arange(templates),
        index_a=index_a,
        index_b=index_b,
        is_genuine=owner[index_a] == owner[index_b],
        detector_score=rng.uniform(0.5, 1, images),
    )
    return listed, embedding


def pool_one_by_one(listed: TemplatePairs, embedding: FloatArray) -> FloatArray:
    """Pool templates one after another, each found in the whole list."""
    assert listed.detector_score is not None
    weighted = embedding * listed.detector_score[:, None].astype(np.float32)
    pooled = np.zeros((listed.template_id.size, embedding.shape[1]))
    for number in range(listed.template_id.size):
        (rows,) = np.where(listed.template == number)
        media = listed.medium[rows]
        means = [weighted[rows[media == medium]].mean(axis=0) for medium in np.unique(media)]
        pooled[number] = np.sum(means, axis=0)
    return np.asarray(pooled / np.linalg.norm(pooled, axis=1, keepdims=True))


def rates_pair_by_pair(listed: TemplatePairs, pooled: FloatArray, roc_curve: Any) -> list[float]:
    """Score pairs in batches, then TAR at the largest FAR not above each target."""
    score = np.zeros(len(listed))
    for start in range(0, len(listed), BATCH):
        part = slice(start, start + BATCH)
        a, b = pooled[listed.index_a[part]], pooled[listed.index_b[part]]
        score[part] = np.sum(a * b, axis=-1)
    fpr, tpr, _ = roc_curve(listed.is_genuine, score)
    return [float(tpr[fpr <= far * (1 + 1e-12)].max()) for far in IJB_FARS]


def rates_in_blocks(listed: TemplatePairs, pooled: FloatArray) -> list[float | None]:
    result = listed.measure(pooled, replicates=0)
    return [rate.tar.value for rate in result.rates]


def timed(function: Callable[[], Result]) -> tuple[float, Result]:
    """Run once; CPU seconds and what came out."""
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def run(listed: TemplatePairs, embedding: FloatArray) -> dict[str, tuple[float, float]]:
    """Run both sides once, in turn; runs per CPU second of each."""
    slow_pool, expected = timed(lambda: pool_one_by_one(listed, embedding))
    pool, pooled = timed(lambda: listed.pool(embedding))
    assert np.abs(pooled - expected).max() < 1e-5
    # Imported before it is timed: that takes a second or two of its own.
    roc_curve = importlib.import_module("sklearn.metrics").roc_curve
    slow, right = timed(lambda: rates_pair_by_pair(listed, pooled, roc_curve))
    fast, found = timed(lambda: rates_in_blocks(listed, pooled))
    for far, ours, theirs in zip(IJB_FARS, found, right, strict=True):
        # Refused where there are too few impostors, as in the quick run; else the same.
        assert ours is None or abs(ours - theirs) < 1e-9, (far, ours, theirs)
    print(f"CPU s: pool {pool:.2f} against {slow_pool:.2f}, rates {fast:.2f} against {slow:.2f}")
    print(f"TAR@FAR: {dict(zip(IJB_FARS, found, strict=True))}")
    return {"rates": (1 / fast, 1 / slow), "pool": (1 / pool, 1 / slow_pool)}


def main() -> None:
    options = arguments(__doc__ or "")
    if not KEEP_PAGES.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_PAGES})
    listed, embedding = draw(*(QUICK if options.quick else FULL))
    print(
        f"{len(listed):,} pairs, {listed.template_id.size:,} templates, {len(embedding):,} images"
    )
    rounds = [run(listed, embedding) for _ in range(3 if options.quick else 1)]
    unit = "runs per CPU second"
    rates, pools = ([found[what] for found in rounds] for what in ("rates", "pool"))
    rows = [
        paired("scores and rates against batches and roc_curve", rates, unit=unit, goal=10),
        paired("pooling against template by template", pools, unit=unit),
    ]
    report("ijb", rows, json_path=options.json)


if __name__ == "__main__":
    main()
