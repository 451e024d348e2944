"""Batches hold what the order says, wherever and by whomever they are decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import make_store

from openmfr.data.labels import Labels
from openmfr.data.loader import FaceDataset, StreamSampler, load_batches, training_identities
from openmfr.data.order import Draw, Stream
from openmfr.data.store import Store, UInt8Array
from openmfr.distributed import Ranks
from openmfr.errors import UserError


@given(
    size=st.integers(5, 60),
    batch=st.integers(8, 20),
    ranks=st.integers(1, 3),
    split=st.integers(0, 10),
)
def test_ranks_share_the_stream_without_overlap_or_loss(
    size: int, batch: int, ranks: int, split: int
) -> None:
    stream, steps = Stream(np.arange(size), seed=7), 10

    def read(start: int, stop: int, ranks: int, batch: int) -> list[int]:
        parts = [
            list(
                StreamSampler(
                    stream,
                    batch_size=batch,
                    start_step=start,
                    stop_step=stop,
                    ranks=Ranks(rank, ranks),
                )
            )
            for rank in range(ranks)
        ]
        return [int(i) for step in zip(*parts, strict=True) for part in step for i in part.images]

    everything = read(0, steps, ranks, batch)
    assert everything == stream.draw(0, steps * batch).images.tolist()
    # Resumed in the middle, on one rank.
    assert read(0, split, ranks, batch) + read(split, steps, 1, batch) == everything


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_with_any_number_of_workers(tmp_path: Path, workers: int) -> None:
    store = make_store(tmp_path / "s")
    labels = Labels.from_names(store)
    sampler = StreamSampler(Stream(labels.kept(), seed=0), batch_size=7, start_step=3, stop_step=9)
    dataset = FaceDataset(store, training_identities(labels))
    loaded = list(load_batches(dataset, sampler, workers=workers))
    assert len(loaded) == len(sampler) == 6
    for (images, identity), (rows, _) in zip(loaded, sampler, strict=True):
        assert identity.tolist() == labels.identity[rows].tolist()
        expected = np.stack([store.decode(int(row)) for row in rows])
        assert torch.equal(images, torch.from_numpy(expected))


@pytest.mark.parametrize(("workers", "threads"), [(0, 1), (2, 1), (0, 3)])
def test_a_change_depends_on_image_and_epoch_however_many_workers_decode(
    tmp_path: Path, workers: int, threads: int
) -> None:
    store = make_store(tmp_path / "s", identities=2, images=3)
    labels = Labels.from_names(store)
    sampler = StreamSampler(Stream(labels.kept(), seed=0), batch_size=5, start_step=0, stop_step=4)
    dataset = FaceDataset(store, training_identities(labels), change=write_numbers, threads=threads)
    for (images, _), draw in zip(
        load_batches(dataset, sampler, workers=workers), sampler, strict=True
    ):
        assert images[:, 0, 0, 0].tolist() == draw.images.tolist()
        assert images[:, 0, 0, 1].tolist() == draw.epochs.tolist()
        expected = store.decode(int(draw.images[0]))
        assert torch.equal(images[0, 1:], torch.from_numpy(expected[1:]))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_change_that_fails_is_not_passed_over(tmp_path: Path, threads: int) -> None:
    def refuse(image: UInt8Array, index: int, epoch: int) -> None:
        if index == 4:
            raise UserError(where="image 4", found="a hand", allowed="a face", next_step="leave it")

    store = make_store(tmp_path / "s", identities=2, images=3)
    identity = training_identities(Labels.from_names(store))
    dataset = FaceDataset(store, identity, change=refuse, threads=threads)
    everything = Draw(np.arange(6), np.zeros(6, dtype=np.int64))
    with pytest.raises(UserError, match="a hand"):
        dataset.decode(everything)


def write_numbers(image: UInt8Array, index: int, epoch: int) -> None:
    image[0, 0, :2] = index, epoch


def test_identities_are_numbered_without_gaps(tmp_path: Path) -> None:
    labels = Labels.from_names(make_store(tmp_path / "s", identities=4, images=2))
    labels = labels.without(labels.identity == 1, reason="test")
    assert training_identities(labels).tolist() == [0, 0, -1, -1, 1, 1, 2, 2]


def test_a_single_identity_cannot_be_trained_on(tmp_path: Path) -> None:
    labels = Labels.from_names(make_store(tmp_path / "s", identities=1))
    with pytest.raises(UserError, match=r"found 1 identities.*ingest photos of more people"):
        training_identities(labels)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_one_clear_error_from_any_process(tmp_path: Path, workers: int) -> None:
    store = make_store(tmp_path / "s", identities=4, images=4)
    shard = tmp_path / "s" / "shard-000000.arrow"
    content = shard.read_bytes()
    jpeg = store.read(3)
    shard.write_bytes(content.replace(jpeg, jpeg[:60] + bytes(len(jpeg) - 60)))
    damaged = FaceDataset(Store(tmp_path / "s"), np.zeros(16, dtype=np.int64))
    sampler = StreamSampler(Stream(np.arange(16), seed=0), batch_size=8, start_step=0, stop_step=2)
    with pytest.raises(UserError, match="image 3: found bytes that differ from their checksum"):
        list(load_batches(damaged, sampler, workers=workers))
