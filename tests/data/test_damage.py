"""Damage on the disk: every flipped bit is found, costs one image, and is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import make_store

from openmfr.cli.main import main
from openmfr.data.damage import find_damage, quarantine
from openmfr.data.labels import Labels
from openmfr.data.quarantine import QUARANTINE
from openmfr.data.store import Store
from openmfr.embed import embed_store
from openmfr.errors import UserError
from openmfr.files import write_json

SHARD = "shard-000001.arrow"


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def position_of(store: Store, index: int) -> int:
    """Where the middle of an image lies in its shard."""
    encoded = store.read(index)
    return (store.path / SHARD).read_bytes().index(encoded) + len(encoded) // 2


def set_aside(store: Store) -> list[int]:
    found: list[int] = quarantine(store, find_damage(store, workers=1)).tolist()
    return found


def test_a_flipped_bit_costs_one_image_and_is_never_decoded(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    flip(store.path / SHARD, position_of(store, 14))
    (damage,) = find_damage(store, workers=1)
    assert (damage.file, damage.images.tolist()) == (SHARD, [14])
    assert damage.found == "1 of 10 images differ from their checksums"
    with pytest.raises(UserError, match=r"image 14: found bytes .* --repair"):
        Store(store.path).decode(14)


def test_a_missing_and_a_truncated_shard_cost_their_images(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    (store.path / "shard-000000.arrow").unlink()
    last = store.path / "shard-000004.arrow"
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    missing, short = find_damage(store, workers=1)
    assert (missing.found, missing.images.tolist()) == ("missing", list(range(10)))
    assert short.found.startswith("unreadable")
    assert short.images.tolist() == list(range(40, 48))


def test_what_is_set_aside_comes_back_when_the_shard_does(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    shutil.copy(store.path / SHARD, tmp_path)
    flip(store.path / SHARD, position_of(store, 11))
    flip(store.path / SHARD, position_of(store, 13))
    flip(store.path / SHARD, position_of(store, 12))
    assert set_aside(store) == Store(store.path).quarantined.tolist() == [11, 12, 13]
    assert Store(store.path).fingerprint == store.fingerprint
    shutil.copy(tmp_path / SHARD, store.path)
    assert set_aside(store) == []
    assert not (store.path / QUARANTINE).exists()
    assert Store(store.path).quarantined.size == 0


@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(deadline=None, max_examples=60)
def test_wherever_a_bit_flips_no_image_is_read_wrongly(
    tmp_path_factory: pytest.TempPathFactory, share: float, bit: int
) -> None:
    store = make_store(tmp_path_factory.mktemp("flipped") / "s", identities=4, images=5, size=16)
    whole = [store.decode(index).copy() for index in range(20)]
    path = store.path / SHARD
    flip(path, int(share * path.stat().st_size), bit)
    aside = set_aside(store)
    again = Store(store.path)
    assert find_damage(store, workers=1)  # whatever it was, it is seen
    for index in sorted(set(range(20)) - set(aside)):
        assert np.array_equal(again.decode(index), whole[index])


def test_damage_is_found_by_any_number_of_processes(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    flip(store.path / SHARD, position_of(store, 14))
    found = [find_damage(store, workers=workers) for workers in (1, 2)]
    assert [d.images.tolist() for d in found[0]] == [d.images.tolist() for d in found[1]]


def test_a_name_that_differs_costs_the_shard_and_nobody_is_taken_for_another(
    tmp_path: Path,
) -> None:
    store = make_store(tmp_path / "s")  # images 10 to 19 are of people 1, 2 and 3
    content = (store.path / SHARD).read_bytes()
    flip(store.path / SHARD, content.index(b"002002002"), bit=0)  # "002" becomes "102"
    assert set_aside(store) == list(range(10, 20))
    again = Store(store.path)
    codes, names = again.coded_column("identity_name")
    assert "102" not in names
    assert (codes[10:20] == -1).all()
    assert again.column("source")[12] == f"{SHARD}, image 2, lost"


@pytest.mark.parametrize("number", [0, 2, 4])
def test_every_verb_goes_on_without_a_lost_shard(
    tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tmp_path / "s")
    (store.path / f"shard-00000{number}.arrow").unlink()
    assert main(["inspect", str(store.path), "--repair"]) == 0
    lost = len(Store(store.path).quarantined)
    assert f"{lost} damaged images" in capsys.readouterr().out
    assert main(["inspect", str(store.path), "--sheet", str(tmp_path / "sheet.png")]) == 0
    for kind in ("tar", "folder", "recordio"):
        assert main(["convert", str(store.path), str(tmp_path / kind), "--to", kind]) == 0
    assert len(list((tmp_path / "folder").rglob("*.jpg"))) == len(store) - lost


def test_bytes_that_differ_are_not_handed_on(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s")
    flip(store.path / SHARD, position_of(store, 14))
    with pytest.raises(UserError, match="image 14: found bytes"):
        Store(store.path).read(14)
    assert main(["convert", str(store.path), str(tmp_path / "tars"), "--to", "tar"]) == 2


@pytest.mark.parametrize(
    "ranges", [[[0, 10**11]], [[40, 60]], [["a", 3]], [5], [[3, 2]], [[0, 9], [5, 12]], {}]
)
def test_a_list_that_is_not_of_this_store_is_refused(tmp_path: Path, ranges: object) -> None:
    store = make_store(tmp_path / "s")
    write_json(store.path / QUARANTINE, {"format_version": 1, "ranges": ranges})
    with pytest.raises(UserError, match="ranges that are not of this store's images"):
        _ = Store(store.path).quarantined


class Brightness:
    """An embedder whose embeddings are mean colours."""

    embedding_dim = 3
    fingerprint = "brightness"

    def embed(self, images: np.ndarray) -> np.ndarray:
        colours: np.ndarray = images.mean(axis=(1, 2)).astype(np.float32)
        return colours


def test_embedding_goes_on_without_the_damaged_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_store(tmp_path / "s")
    flip(store.path / SHARD, position_of(store, 14))
    set_aside(store)
    labels = Labels.from_names(store)
    made = embed_store(Brightness(), Store(store.path), tmp_path / "e", labels=labels)
    assert np.flatnonzero(np.isnan(made.array).any(axis=1)).tolist() == [14]
    assert "1 damaged images are set aside" in caplog.text
