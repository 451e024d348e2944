"""A batch must be large enough for the ranks that share it."""

from __future__ import annotations

import pytest

from openmfr.distributed import Ranks
from openmfr.errors import UserError
from openmfr.train.parallel import check_batch


@pytest.mark.parametrize(("batch", "ranks"), [(2, 3), (5, 4), (7, 3), (9, 4)])
def test_a_batch_that_leaves_a_rank_without_two_images_is_refused(batch: int, ranks: int) -> None:
    with pytest.raises(UserError, match=f"found {batch} images for {ranks} ranks"):
        check_batch(batch, Ranks(0, ranks))


@pytest.mark.parametrize(("batch", "ranks"), [(2, 1), (4, 2), (8, 3), (8, 4), (64, 3), (4512, 48)])
def test_an_uneven_batch_is_shared_if_every_rank_has_two_images(batch: int, ranks: int) -> None:
    check_batch(batch, Ranks(0, ranks))
    shares = [Ranks(rank, ranks).bounds(batch) for rank in range(ranks)]
    assert min(last - first for first, last in shares) >= 2
