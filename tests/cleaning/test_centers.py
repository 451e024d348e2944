"""Sums of unit embeddings and scores against them, held against plain float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openmfr.cleaning import centers as module
from openmfr.cleaning.centers import center_scores, sum_centers
from openmfr.errors import UserError

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def plain(
    embedding: Floats, identity: Ints, keep: Bools, weight: Floats, *, leave_one_out: bool
) -> tuple[dict[int, Floats], Floats]:
    """Sums and scores, one image after the other."""
    total: dict[int, Floats] = {}
    with np.errstate(invalid="ignore"):
        wide = embedding.astype(np.float64)
        unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    for row in np.flatnonzero(keep):
        label = int(identity[row])
        total[label] = total.get(label, np.zeros(unit.shape[1])) + weight[row] * unit[row]
    score = np.full(identity.size, np.nan)
    for row in np.flatnonzero(keep):
        center = total[int(identity[row])]
        others = keep & (identity == identity[row]) & (weight > 0)
        if leave_one_out:
            center = center - weight[row] * unit[row]
            others[row] = False
        if others.any():
            score[row] = unit[row] @ center / np.linalg.norm(center)
    return total, score


def faces(
    images: int, people: int, dim: int, seed: int, dtype: str = "float32"
) -> tuple[Floats, Ints, Bools]:
    """Images of people with gaps in their labels, in any order; a fifth is not kept, and NaN."""
    rng = np.random.default_rng(seed)
    identity = 3 * rng.integers(people, size=images) + 1
    embedding = rng.normal(size=(3 * people + 1, dim))[identity] + rng.normal(size=(images, dim))
    embedding *= rng.uniform(0.1, 10, size=(images, 1))
    keep = rng.random(images) > 0.2
    keep[0] = True
    embedding[~keep] = np.nan
    identity[~keep] = rng.choice([-1, 4, 10**6], size=int((~keep).sum()))
    return embedding.astype(dtype), identity, keep


@given(
    images=st.integers(1, 60),
    people=st.integers(1, 12),
    dim=st.sampled_from([2, 3, 16, 65]),
    chunk=st.sampled_from([1, 2, 7, 8_192]),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    leave_one_out=st.booleans(),
    is_weighted=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_sums_and_scores_are_those_of_plain_float64(
    images: int,
    people: int,
    dim: int,
    chunk: int,
    seed: int,
    dtype: str,
    leave_one_out: bool,
    is_weighted: bool,
) -> None:
    embedding, identity, keep = faces(images, people, dim, seed, dtype)
    weight = np.random.default_rng(seed).choice([0.0, 0.25, 1.0], size=images)
    weights = weight if is_weighted else None
    used = weight if is_weighted else np.ones(images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        found = sum_centers(embedding, identity, keep, weight=weights)
        score = center_scores(
            embedding, identity, keep, found, leave_one_out=leave_one_out, weight=weights
        )
    total, expected = plain(embedding, identity, keep, used, leave_one_out=leave_one_out)
    assert found.identity.tolist() == sorted(total)
    for label, row, count in zip(found.identity.tolist(), found.total, found.count, strict=True):
        assert row == pytest.approx(total[label], abs=1e-5)
        assert count == (keep & (identity == label) & (used > 0)).sum()
    # Where others nearly cancel each other, float32 knows little of their direction.
    assert np.array_equal(np.isnan(score), np.isnan(expected))
    assert score == pytest.approx(expected, abs=2e-4, nan_ok=True)
    assert score.dtype == np.float32


def test_an_image_alone_has_no_score_without_itself_and_scores_1_with_itself() -> None:
    embedding = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]], dtype=np.float32)
    identity, keep = np.array([5, 9, 9]), np.ones(3, dtype=np.bool_)
    centers = sum_centers(embedding, identity, keep)
    without = center_scores(embedding, identity, keep, centers, leave_one_out=True)
    assert np.isnan(without[0])
    assert without[1:].tolist() == [0.0, 0.0]
    with_it = center_scores(embedding, identity, keep, centers, leave_one_out=False)
    assert with_it[0] == 1
    assert with_it[1:] == pytest.approx([0.5**0.5, 0.5**0.5])


def test_images_that_cancel_each_other_have_no_centre() -> None:
    embedding = np.array([[1.0, 2.0], [-1.0, -2.0], [0.0, 2.0]], dtype=np.float32)
    identity, keep = np.array([0, 0, 1]), np.ones(3, dtype=np.bool_)
    centers = sum_centers(embedding, identity, keep)
    assert np.isnan(centers.unit()[0]).all()
    assert centers.unit()[1].tolist() == [0.0, 1.0]
    score = center_scores(embedding, identity, keep, centers, leave_one_out=False)
    assert np.isnan(score[:2]).all()
    score = center_scores(embedding, identity, keep, centers, leave_one_out=True)
    assert score[:2] == pytest.approx([-1, -1])


def test_an_identity_without_a_centre_has_no_score() -> None:
    embedding, identity = np.eye(3, dtype=np.float32), np.array([2, 4, 1_000_000_000])
    centers = sum_centers(embedding, identity, np.array([False, True, False]))
    every = np.ones(3, dtype=np.bool_)
    score = center_scores(embedding, identity, every, centers, leave_one_out=False)
    assert np.isnan(score).tolist() == [True, False, True]


def test_labels_far_apart_are_numbered_without_a_table_of_all() -> None:
    identity = np.array([2**60, 5, 2**60, 2**62])
    embedding, keep = np.eye(4, dtype=np.float32), np.ones(4, dtype=np.bool_)
    centers = sum_centers(embedding, identity, keep)
    assert centers.identity.tolist() == [5, 2**60, 2**62]
    assert centers.count.tolist() == [1, 2, 1]
    score = center_scores(embedding, identity, keep, centers, leave_one_out=False)
    assert score == pytest.approx([0.5**0.5, 1, 0.5**0.5, 1])


def test_a_mapped_file_gives_the_bits_of_the_array(tmp_path: Path) -> None:
    embedding, identity, keep = faces(500, 40, 32, 1, "float16")
    np.save(tmp_path / "embedding.npy", embedding)
    mapped = np.load(tmp_path / "embedding.npy", mmap_mode="r")
    of_file, of_array = (sum_centers(e, identity, keep) for e in (mapped, embedding))
    assert np.array_equal(of_file.total, of_array.total)
    again = center_scores(mapped, identity, keep, of_file, leave_one_out=True)
    score = center_scores(embedding, identity, keep, of_array, leave_one_out=True)
    assert np.array_equal(again, score, equal_nan=True)


def test_small_and_large_float16_numbers_are_read_exactly() -> None:
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = values[np.isfinite(values) & (values != 0)]
    row = np.empty(1, dtype=np.float32)
    for value in values[:: 2**4 + 1]:
        bits = np.array([[value]], dtype=np.float16).view(np.uint16)
        module._read(bits, np.empty((0, 1), dtype=np.float32), 0, row)
        assert row[0] == np.float32(value)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_kept_row_without_a_direction_is_named(value: float, dtype: type) -> None:
    embedding, identity, keep = faces(9_000, 40, 8, 2)
    centers = sum_centers(embedding, identity, keep)
    row = int(np.flatnonzero(keep)[-3])
    embedding[row] = value
    embedding = embedding.astype(dtype)
    with pytest.raises(UserError, match=f"^embedding {row}: found length"):
        sum_centers(embedding, identity, keep)
    with pytest.raises(UserError, match=f"^embedding {row}: found length"):
        center_scores(embedding, identity, keep, centers, leave_one_out=True)
    keep[row] = False
    sum_centers(embedding, identity, keep)


def test_bad_input_is_refused_in_words() -> None:
    embedding, identity = np.eye(3, dtype=np.float32), np.array([0, 0, -1])
    every = np.ones(3, dtype=np.bool_)
    with pytest.raises(UserError, match="image 2: found identity -1"):
        sum_centers(embedding, identity, every)
    with pytest.raises(UserError, match="found none that is kept"):
        sum_centers(embedding, identity, ~every)
    with pytest.raises(UserError, match=r"shape \(3, 3\), with keep \(2,\)"):
        sum_centers(embedding, identity, every[:2])
    keep = np.array([True, True, False])
    with pytest.raises(UserError, match="weight 1: found -1"):
        sum_centers(embedding, identity, keep, weight=np.array([1.0, -1.0, np.nan]))
    centers = sum_centers(embedding, identity, keep)
    with pytest.raises(UserError, match=r"centres: found dimension 3; allowed: .* 2"):
        center_scores(embedding[:, :2], identity, keep, centers, leave_one_out=False)
