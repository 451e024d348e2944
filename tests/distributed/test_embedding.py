"""Any number of ranks makes the array of one, and none embeds what another does."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from distributed.embedding import Colours, embed_late, embed_on_ranks
from distributed.harness import run_on_ranks
from toys import make_store

from openmfr.embed import embed_store


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_share_the_images_and_make_one_array(tmp_path: Path, size: int) -> None:
    store = make_store(tmp_path / "store", identities=5, images=7)
    alone = embed_store(Colours(), store, tmp_path / "alone", batch_size=4)
    (tmp_path / "ranks").mkdir()
    found = run_on_ranks(
        partial(embed_on_ranks, store.path, tmp_path / "out"), size, tmp_path / "ranks"
    )
    counts = [rank["images"][0] for rank in found]
    assert sum(counts) == len(store)
    assert min(counts) > 0
    assert [rank["images"][1] for rank in found] == [0] * size
    for rank in found:
        assert torch.equal(rank["array"], torch.from_numpy(alone.array.copy()))
    for file in ("embeddings.json", "embeddings.npy"):
        whole = (tmp_path / "alone" / file).read_bytes()
        assert (tmp_path / "out" / file).read_bytes() == whole


@pytest.mark.parametrize("size", [2, 3])
def test_a_slow_rank_leaves_out_nothing_that_a_fast_one_has_not_made(
    tmp_path: Path, size: int
) -> None:
    store = make_store(tmp_path / "store", identities=5, images=7)
    alone = embed_store(Colours(), store, tmp_path / "alone", batch_size=4)
    (tmp_path / "ranks").mkdir()
    late = partial(embed_late, store.path, tmp_path / "out")
    found = run_on_ranks(late, size, tmp_path / "ranks")
    assert sum(rank["images"] for rank in found) == len(store)
    for rank in found:
        assert torch.equal(rank["array"], torch.from_numpy(alone.array.copy()))
