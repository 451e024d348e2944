"""Numbers of pairs: as published, under each convention, and weighted without listing them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.errors import UserError
from openmfr.evaluation.all_pairs.counts import Totals, count_pairs

Ints = npt.NDArray[np.int64]


def identities_with(identities: int, images: int, genuine: int) -> Ints:
    """Identity of each of so many images, with so many unordered genuine pairs in all."""
    sizes = images // identities + (np.arange(identities) < images % identities).astype(np.int64)
    missing = genuine - int((sizes * (sizes - 1) // 2).sum())
    giver = identities - 1  # the last ones give an image each to the first ones
    for taker in range(identities):
        # An image moved from an identity of size s to one of size t makes t − s + 1 pairs more.
        while 0 < missing >= (gain := int(sizes[taker] - sizes[giver] + 1)):
            sizes[taker] += 1
            sizes[giver] -= 1
            giver -= 1
            missing -= gain
    assert missing == 0
    return np.repeat(np.arange(identities), sizes)


def test_the_published_counts_of_the_webface260m_track_come_out() -> None:
    genuine = (2_070_305 - 57_715) // 2
    counts = count_pairs(identities_with(2_478, 57_715, genuine))
    assert counts.identities.size == 2_478
    total = counts.total("webface260m")
    assert total == Totals(genuine=2_070_305, impostor=3_328_950_920, self_pairs=57_715)
    assert total.genuine + total.impostor == 57_715**2
    assert counts.total() == Totals(genuine, 3_328_950_920 // 2, 0)


@pytest.mark.parametrize(
    ("identities", "images", "genuine", "impostor"),
    [
        (14_344, 157_280, 1_773_428, 24_735_067_692),  # Children
        (43_874, 298_010, 870_091, 88_808_791_999),  # African
        (242_143, 1_624_305, 4_689_037, 2_638_360_419_683),  # MR-All
    ],
)
def test_the_published_counts_of_the_insightface_track_come_out(
    identities: int, images: int, genuine: int, impostor: int
) -> None:
    counts = count_pairs(identities_with(identities, images, genuine))
    assert counts.total("insightface") == Totals(genuine, impostor, 0)


def test_the_weight_of_all_impostors_is_the_sum_over_the_list() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(6, size=30), rng.integers(2, 8, size=20)
    for second in (None, b):
        counts = count_pairs(a, second)
        weight = rng.integers(4, size=counts.identities.size).astype(np.float64)
        code_a = np.searchsorted(counts.identities, a)
        code_b = code_a if second is None else np.searchsorted(counts.identities, second)
        outer = np.outer(weight[code_a], weight[code_b])
        expected = outer[code_a[:, None] != code_b[None, :]].sum()
        assert counts.weighted_impostors(weight) == (expected / 2 if second is None else expected)


def test_a_convention_is_named_rightly_or_refused() -> None:
    counts = count_pairs(np.array([0, 0, 1]))
    with pytest.raises(UserError, match=r"convention: found webface; .*did you mean webface260m"):
        counts.total("webface")  # type: ignore[arg-type]
    between = count_pairs(np.array([0, 1]), np.array([1]))
    with pytest.raises(UserError, match="convention: found insightface for two sets"):
        between.total("insightface")
    assert between.total() == Totals(genuine=1, impostor=1, self_pairs=0)
