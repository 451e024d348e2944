"""Embeddings are each image's own, flipping adds the mirror's, and a kill costs little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toys import make_store

from openmfr.data.labels import Labels
from openmfr.data.store import Store, UInt8Array
from openmfr.embed import Embeddings, FloatArray, embed_store
from openmfr.errors import UserError


class CornerEmbedder:
    """Embeds an image by the mean colours of its left and right half: slow to get wrong."""

    embedding_dim = 6
    fingerprint = "corner"

    def __init__(self, fail_after: int | None = None) -> None:
        self.images = 0
        self.fail_after = fail_after

    def embed(self, images: UInt8Array) -> FloatArray:
        if self.fail_after is not None and self.images >= self.fail_after:
            raise KeyboardInterrupt
        self.images += len(images)
        half = images.shape[2] // 2
        halves = [images[:, :, :half].mean(axis=(1, 2)), images[:, :, half:].mean(axis=(1, 2))]
        return np.concatenate(halves, axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("embed") / "s", identities=5, images=7)


def expected(store: Store) -> FloatArray:
    one_by_one = [CornerEmbedder().embed(store.decode(i)[None])[0] for i in range(len(store))]
    return np.stack(one_by_one)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_row_is_its_images(store: Store, tmp_path: Path, batch_size: int) -> None:
    made = embed_store(CornerEmbedder(), store, tmp_path / "e", batch_size=batch_size)
    np.testing.assert_allclose(made.array, expected(store), rtol=1e-6)


def test_flip_adds_the_mirrored_images_embedding(store: Store, tmp_path: Path) -> None:
    made = embed_store(CornerEmbedder(), store, tmp_path / "e", flip=True)
    plain = expected(store)
    mirrored = np.concatenate([plain[:, 3:], plain[:, :3]], axis=1)
    np.testing.assert_allclose(made.array, plain + mirrored, rtol=1e-6)


def test_labels_choose_the_images(store: Store, tmp_path: Path) -> None:
    labels = Labels.from_names(store)
    labels = labels.without(labels.identity == 2, reason="test")
    embedder = CornerEmbedder()
    made = embed_store(embedder, store, tmp_path / "e", labels=labels)
    assert embedder.images == int(labels.keep.sum())
    assert np.isnan(made.array[~labels.keep]).all()
    np.testing.assert_allclose(made.array[labels.keep], expected(store)[labels.keep], rtol=1e-6)


def test_a_stopped_run_goes_on_and_a_finished_one_returns(store: Store, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        embed_store(CornerEmbedder(fail_after=20), store, tmp_path / "e", batch_size=4)
    with pytest.raises(UserError, match="no readable folder of embeddings"):
        Embeddings(tmp_path / "e")
    rest = CornerEmbedder()
    made = embed_store(rest, store, tmp_path / "e", batch_size=4)
    assert 0 < rest.images <= len(store) - 16
    np.testing.assert_allclose(made.array, expected(store), rtol=1e-6)
    again = CornerEmbedder()
    embed_store(again, store, tmp_path / "e", batch_size=4)
    assert again.images == 0


def test_other_settings_in_the_folder_are_refused(store: Store, tmp_path: Path) -> None:
    embed_store(CornerEmbedder(), store, tmp_path / "e")
    with pytest.raises(UserError, match="flip: found False; allowed: True"):
        embed_store(CornerEmbedder(), store, tmp_path / "e", flip=True)


def test_embeddings_know_their_store(store: Store, tmp_path: Path) -> None:
    made = embed_store(CornerEmbedder(), store, tmp_path / "e")
    assert made.open_store().fingerprint == store.fingerprint
    other = make_store(tmp_path / "other", identities=2)
    with pytest.raises(UserError, match="pass --store with the right folder"):
        made.open_store(other.path)
