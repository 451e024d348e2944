"""A balanced pair list sampled from labels, for identities that no protocol lists pairs of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from openmfr.errors import UserError
from openmfr.evaluation.protocols.pairs import PairList

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def sample_pairs(
    identity: IntArray, keep: BoolArray, *, pairs: int = 3_000, folds: int = 10, seed: int = 0
) -> PairList:
    """Sample as many genuine as impostor pairs, in folds that share no identity.

    As in LFW's view 2, a fold has identities of its own, so the threshold that is tested on it was
    chosen on other people. Within a fold, genuine pairs are shared out evenly among the identities,
    and impostor pairs take two identities and an image of each, all equally likely. No pair of
    images is drawn twice.

    Args:
        identity: Who is on each image, shape (N,).
        keep: Images to draw from, shape (N,).
        pairs: Genuine pairs wanted, and as many impostor pairs; fewer if the images give no more.
        folds: Folds wanted; fewer if there are fewer than two identities for each.
        seed: The list depends on the arguments and on this alone.

    Returns:
        The pairs, sorted by fold, genuine pairs first.

    Raises:
        UserError: If fewer than four identities have two kept images.

    Example:
        >>> identity = np.repeat(np.arange(8), 3)
        >>> drawn = sample_pairs(identity, np.full(24, True), pairs=12, folds=2)
        >>> len(drawn), int(drawn.is_genuine.sum()), np.unique(drawn.fold).tolist()
        (24, 12, [0, 1])
    """
    rng = np.random.default_rng(seed)
    images_of = [images for images in _group(identity, keep) if images.size >= 2]
    folds = min(folds, len(images_of) // 2)
    if folds < 2:
        raise UserError(
            where="labels",
            found=f"{len(images_of)} identities with at least two kept images",
            allowed="at least 4",
            next_step="label more images, or evaluate a pair list: openmfr evaluate pairs",
        )
    members_of_fold = np.array_split(rng.permutation(len(images_of)), folds)
    wanted = [len(part) for part in np.array_split(np.arange(pairs), folds)]
    parts = []
    for fold, (members, quota) in enumerate(zip(members_of_fold, wanted, strict=True)):
        genuine, impostor = _sample_fold([images_of[i] for i in members], quota, rng)
        parts.append((fold, True, genuine))
        parts.append((fold, False, impostor))
    index = np.concatenate([drawn for _, _, drawn in parts])
    sizes = [len(drawn) for _, _, drawn in parts]
    return PairList(
        index_a=index[:, 0],
        index_b=index[:, 1],
        is_genuine=np.repeat([is_genuine for _, is_genuine, _ in parts], sizes),
        fold=np.repeat(np.array([fold for fold, _, _ in parts], dtype=np.int64), sizes),
    )


def _group(identity: IntArray, keep: BoolArray) -> list[IntArray]:
    """Kept images of each identity, by ascending identity."""
    kept = np.flatnonzero(keep & (identity >= 0))
    ordered = kept[np.argsort(identity[kept], kind="stable")]
    return np.split(ordered, np.flatnonzero(np.diff(identity[ordered])) + 1)


def _sample_fold(
    images_of: list[IntArray], quota: int, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Draw genuine and impostor pairs, equally many; each of shape (pairs, 2)."""
    counts = np.array([images.size for images in images_of])
    genuine_pairs = counts * (counts - 1) // 2
    impostor_pairs = (counts.sum() ** 2 - np.sum(counts**2)) // 2
    quota = int(min(quota, genuine_pairs.sum(), impostor_pairs))
    shares = _share_out(genuine_pairs, quota, rng)
    genuine = [
        images[_unrank(rng.choice(available, size=share, replace=False))]
        for images, available, share in zip(images_of, genuine_pairs, shares, strict=True)
    ]
    return np.concatenate(genuine), _draw_impostors(images_of, quota, rng)


def _share_out(available: IntArray, quota: int, rng: np.random.Generator) -> IntArray:
    """Give every identity the same share of the quota, as far as its pairs reach."""
    shares = np.zeros_like(available)
    while quota:
        takers = rng.permutation(np.flatnonzero(shares < available))[:quota]
        shares[takers] += 1
        quota -= takers.size
    return shares


def _unrank(rank: IntArray) -> IntArray:
    """Turn 0, 1, 2, … into the pairs (0, 1), (0, 2), (1, 2), (0, 3), …; shape (K,) → (K, 2)."""
    larger = np.floor((1 + np.sqrt(1 + 8 * rank)) / 2).astype(np.int64)
    return np.stack([rank - larger * (larger - 1) // 2, larger], axis=1)


def _draw_impostors(images_of: list[IntArray], quota: int, rng: np.random.Generator) -> IntArray:
    """Draw until there are `quota` different pairs; the caller knows that there are so many."""
    drawn: dict[tuple[int, int], None] = {}
    while len(drawn) < quota:
        a, b = rng.choice(len(images_of), size=2, replace=False)
        image_a, image_b = int(rng.choice(images_of[a])), int(rng.choice(images_of[b]))
        drawn[min(image_a, image_b), max(image_a, image_b)] = None
    return np.array(list(drawn), dtype=np.int64).reshape(-1, 2)
