"""An InsightFace set becomes a store whose pairs are evaluated as any list's are."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from openmfr.data.formats.bin import BinSet
from openmfr.data.labels import Labels
from openmfr.data.store import Store, encode_jpeg
from openmfr.errors import UserError
from openmfr.evaluation.protocols.bin_set import convert_bin, identities_of_bin
from openmfr.evaluation.protocols.lists import read_pairs


def photo(seed: int, size: int = 32) -> bytes:
    return encode_jpeg(np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8))


@pytest.fixture
def lfw(tmp_path: Path) -> Path:
    """Twenty pairs, the odd ones genuine; image 0 is also in an impostor pair."""
    images = [photo(i) for i in range(40)]
    images[4] = images[2]
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps((images, [i % 2 == 1 for i in range(20)])))
    return path


def test_a_set_becomes_a_store_with_its_labels_and_pairs(lfw: Path, tmp_path: Path) -> None:
    summary = convert_bin(lfw, tmp_path / "out", size=32)
    store, labels = Store(tmp_path / "out"), Labels.read(tmp_path / "out" / "labels.parquet")
    images, _ = pickle.loads(lfw.read_bytes())
    assert [store.read(i) for i in range(len(store))] == images
    assert store.column("source")[:2] == ["lfw.bin/000000", "lfw.bin/000001"]
    labels.check_store(store)
    pairs = read_pairs(tmp_path / "out" / "pairs.csv", store.column("source"))
    assert pairs.index_a.tolist() == list(range(0, 40, 2))
    assert pairs.index_b.tolist() == list(range(1, 40, 2))
    assert pairs.is_genuine.tolist() == [i % 2 == 1 for i in range(20)]
    assert pairs.fold is not None
    assert pairs.fold.tolist() == [i // 2 for i in range(20)]
    embedding = np.random.default_rng(0).normal(size=(40, 8))
    assert len(pairs.compare(embedding, labels.identity)) == 20
    assert labels.identity[2] == labels.identity[3] == labels.identity[4]
    # 40 images, less one that is there twice, less ten links of genuine pairs.
    assert summary.identities == 29
    assert (summary.images, summary.pairs, summary.genuine_pairs) == (40, 20, 10)


def test_the_same_command_again_changes_nothing_and_mends_what_a_kill_left_out(
    lfw: Path, tmp_path: Path
) -> None:
    first = convert_bin(lfw, tmp_path / "out", size=32)
    before = (tmp_path / "out" / "pairs.csv").read_bytes()
    (tmp_path / "out" / "pairs.csv").unlink()
    (tmp_path / "out" / "labels.parquet").unlink()
    assert convert_bin(lfw, tmp_path / "out", size=32) == first
    assert (tmp_path / "out" / "pairs.csv").read_bytes() == before
    assert (tmp_path / "out" / "labels.parquet").exists()
    with pytest.raises(UserError, match="size"):
        convert_bin(lfw, tmp_path / "out", size=64)


def test_images_of_another_size_are_scaled(lfw: Path, tmp_path: Path) -> None:
    convert_bin(lfw, tmp_path / "out", size=48)
    assert Store(tmp_path / "out").decode(0).shape == (48, 48, 3)


def test_images_that_are_no_faces_are_named_together(tmp_path: Path) -> None:
    oblong = encode_jpeg(np.zeros((32, 48, 3), np.uint8))
    images = [photo(0), b"no picture", oblong, photo(1)]
    (tmp_path / "set.bin").write_bytes(pickle.dumps((images, [True, False])))
    with pytest.raises(UserError) as caught:
        convert_bin(tmp_path / "set.bin", tmp_path / "out")
    first, second = str(caught.value).splitlines()
    assert "set.bin/000001: found not a picture" in first
    assert "set.bin/000002: found not an aligned crop" in second


def test_a_wrong_label_does_not_make_two_people_one() -> None:
    images = [b"a", b"b", b"a", b"b"]
    found = BinSet(images=images, is_genuine=np.array([True, False]))
    assert identities_of_bin(found).tolist() == [0, 0, 1, 2]
