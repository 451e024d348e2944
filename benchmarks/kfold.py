"""k-fold accuracy of 6,000 pairs against the grid of thresholds of InsightFace's verification.py.

The baseline is that procedure written plainly: for each of ten folds it tries 400 thresholds, 0,
0.01, …, 3.99 of the squared distance of unit vectors, on the other folds and on the fold itself,
and counts the four outcomes at each. Both sides start from the same embeddings, 512-d; a second row
starts from the scores. Figures are compared on many sets of pairs: the exact search, to within 0.1
points, and the same grid, `thresholds="insightface"`, fold by fold.

Seconds are CPU time of this process, so a busy machine disturbs them little.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from reporting import Row, arguments, paired, report

from openmfr.evaluation.accuracy import FoldedPairs, Thresholds
from openmfr.evaluation.comparisons import cosine_of_pairs

PAIRS, FOLDS, DIM = 6_000, 10, 512
GOAL = 20.0
#: A percentage point, and how many of them are near.
POINT, CLOSE = 0.01, 0.1

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def draw(seed: int) -> tuple[Floats, Bools, npt.NDArray[np.int64]]:
    """Embeddings of the pairs' first images, then of their second, as hard as LFW; truth; fold."""
    rng = np.random.default_rng(seed)
    fold = np.repeat(np.arange(FOLDS), PAIRS // FOLDS)
    is_genuine = np.tile(np.repeat([True, False], PAIRS // FOLDS // 2), FOLDS)
    first, other = rng.normal(size=(2, PAIRS, DIM))
    likeness = np.where(is_genuine, rng.normal(0.5, 0.16, PAIRS), rng.normal(0, 0.06, PAIRS))
    likeness = np.clip(likeness, -0.9, 0.9)[:, None]
    second = likeness * first + (1 - likeness**2) ** 0.5 * other
    embedding = np.concatenate([first, second])
    return embedding / np.linalg.norm(embedding, axis=1, keepdims=True), is_genuine, fold


def squared_distance(embedding: Floats) -> Floats:
    distance: Floats = np.sum(np.square(embedding[:PAIRS] - embedding[PAIRS:]), axis=1)
    return distance


def outcomes(distance: Floats, is_genuine: Bools, threshold: float) -> tuple[float, float, float]:
    """True positive rate, false positive rate and accuracy at one threshold."""
    accepted = distance < threshold
    right = np.sum(accepted & is_genuine)
    wrong = np.sum(accepted & ~is_genuine)
    rejected_wrong = np.sum(~accepted & is_genuine)
    rejected_right = np.sum(~accepted & ~is_genuine)
    return (
        float(right) / max(1.0, float(right + rejected_wrong)),
        float(wrong) / max(1.0, float(wrong + rejected_right)),
        float(right + rejected_right) / distance.size,
    )


def by_grid(distance: Floats, is_genuine: Bools, fold: npt.NDArray[np.int64]) -> Floats:
    """Accuracy of each fold, threshold by threshold."""
    grid = np.arange(0, 4, 0.01)
    accuracies = np.empty(FOLDS)
    for k in range(FOLDS):
        is_tested = fold == k
        known, truth = distance[~is_tested], is_genuine[~is_tested]
        tested, tested_truth = distance[is_tested], is_genuine[is_tested]
        on_others = [outcomes(known, truth, threshold)[2] for threshold in grid]
        on_tested = [outcomes(tested, tested_truth, threshold) for threshold in grid]
        accuracies[k] = on_tested[int(np.argmax(on_others))][2]
    return accuracies


def ours(
    score: Floats,
    is_genuine: Bools,
    fold: npt.NDArray[np.int64],
    *,
    thresholds: Thresholds = "exact",
) -> Floats:
    accuracies, _ = FoldedPairs(score, is_genuine, fold, thresholds=thresholds).accuracy()
    return accuracies.astype(np.float64)


def cosines(embedding: Floats) -> Floats:
    first = np.arange(PAIRS)
    return cosine_of_pairs(embedding, first, first + PAIRS).astype(np.float64)


def rate(work: Callable[[], object], *, repeats: int) -> float:
    """How often a second of CPU time does it."""
    start = time.process_time()
    for _ in range(repeats):
        work()
    return repeats / (time.process_time() - start)


def speed_rows(runs: int) -> list[Row]:
    embedding, is_genuine, fold = draw(0)
    score, distance = cosines(embedding), squared_distance(embedding)
    whole, counted = [], []
    for _ in range(runs):
        grid = rate(lambda: by_grid(squared_distance(embedding), is_genuine, fold), repeats=1)
        whole.append((rate(lambda: ours(cosines(embedding), is_genuine, fold), repeats=5), grid))
        grid = rate(lambda: by_grid(distance, is_genuine, fold), repeats=1)
        counted.append((rate(lambda: ours(score, is_genuine, fold), repeats=20), grid))
    return [
        paired("k-fold accuracy from scores", counted, unit="per CPU second", goal=GOAL),
        paired("the same from 512-d embeddings", whole, unit="per CPU second"),
    ]


def agreement_rows(sets: int) -> list[Row]:
    """How far sets are from the grid, and how many folds are the same on it."""
    differences, same_folds = [], 0
    for seed in range(sets):
        embedding, is_genuine, fold = draw(seed)
        score = cosines(embedding)
        grid = by_grid(squared_distance(embedding), is_genuine, fold)
        differences.append(float(abs(ours(score, is_genuine, fold).mean() - grid.mean())) / POINT)
        alike = ours(score, is_genuine, fold, thresholds="insightface") == grid
        same_folds += int(np.sum(alike))
    typical, largest = float(np.median(differences)), max(differences)
    within = int(np.sum(np.array(differences) <= CLOSE))
    told = f"median difference {typical:.3f}, largest {largest:.3f}"
    what = f"exact search within {CLOSE} points of the grid ({told})"
    return [
        paired(what, [(within, sets)], unit="sets", goal=1.0),
        paired("folds identical on the grid", [(same_folds, sets * FOLDS)], unit="folds", goal=1.0),
    ]


def main() -> None:
    options = arguments(__doc__ or "")
    runs, sets = (3, 6) if options.quick else (11, 40)
    rows = speed_rows(runs) + agreement_rows(sets)
    report("kfold", rows, json_path=options.json)


if __name__ == "__main__":
    main()
