"""A synthetic data set: the same bytes whatever happens while it is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.errors import CombinedUserError, UserError
from openmfr.synthetic import dataset
from openmfr.synthetic.dataset import SynthConfig, synthesise
from openmfr.synthetic.shortcut import ShortcutEmbedder

IDENTITIES, IMAGES, SIZE = 5, 3, 48


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_IMAGES_PER_SHARD", 2 * IMAGES)


def make(out: Path, *, seed: int = 1, workers: int = 1) -> Store:
    store, _ = synthesise(
        out, identities=IDENTITIES, images=IMAGES, seed=seed, size=SIZE, workers=workers
    )
    return store


def images_of(store: Store) -> list[bytes]:
    return [store.read(index) for index in range(len(store))]


def test_the_store_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    # 126 images of each fill a shard, so that two workers have two shards to make.
    settings: dict[str, Any] = {"identities": 2, "images": 126, "seed": 3, "size": 32}
    one, _ = synthesise(tmp_path / "one", **settings, workers=1)
    two, _ = synthesise(tmp_path / "two", **settings, workers=2)
    assert one.fingerprint == two.fingerprint


@pytest.mark.usefixtures("small_shards")
def test_an_image_does_not_depend_on_how_many_others_are_made(tmp_path: Path) -> None:
    store = make(tmp_path / "small")
    larger, _ = synthesise(
        tmp_path / "larger", identities=6, images=IMAGES + 1, seed=1, size=SIZE, workers=1
    )
    by_source = dict(zip(larger.column("source"), images_of(larger), strict=True))
    for source, image in zip(store.column("source"), images_of(store), strict=True):
        assert by_source[source] == image


@pytest.mark.usefixtures("small_shards")
def test_a_killed_and_repeated_run_ends_in_the_same_store(tmp_path: Path) -> None:
    out = tmp_path / "store"
    whole = make(out)
    manifest = json.loads((out / "manifest.json").read_text())
    assert len(manifest["shards"]) == 3
    # What a kill leaves: settings, some shards, and no manifest.
    (out / "manifest.json").unlink()
    (out / "labels.parquet").unlink()
    (out / manifest["shards"][1]["file"]).unlink()
    (out / "settings.json").write_text(json.dumps(manifest["settings"]))
    untouched = out / manifest["shards"][0]["file"]
    before = untouched.stat().st_mtime_ns
    assert make(out).fingerprint == whole.fingerprint
    assert untouched.stat().st_mtime_ns == before
    assert Labels.read(out / "labels.parquet").store_fingerprint == whole.fingerprint


def test_the_same_command_opens_a_finished_store_and_another_is_refused(tmp_path: Path) -> None:
    first = make(tmp_path / "store")
    written = (tmp_path / "store" / "manifest.json").stat().st_mtime_ns
    assert make(tmp_path / "store").fingerprint == first.fingerprint
    assert (tmp_path / "store" / "manifest.json").stat().st_mtime_ns == written
    with pytest.raises(UserError, match="seed"):
        make(tmp_path / "store", seed=2)


def test_labels_and_columns_say_who_and_how(tmp_path: Path) -> None:
    store, labels = synthesise(
        tmp_path / "store", identities=IDENTITIES, images=IMAGES, seed=1, size=SIZE, workers=1
    )
    assert store.image_size == SIZE
    assert labels.identity.tolist() == np.repeat(np.arange(IDENTITIES), IMAGES).tolist()
    assert labels.keep.all()
    assert Labels.read(tmp_path / "store" / "labels.parquet").fingerprint == labels.fingerprint
    assert store.column("source")[4] == "identity-00001/00001.jpg"
    assert all(store.decode(i).shape == (SIZE, SIZE, 3) for i in range(len(store)))
    landmarks = np.array(store.column("landmarks")).reshape(-1, 5, 2)
    assert landmarks.shape[0] == IDENTITIES * IMAGES
    assert (landmarks[:, 3, 1] > landmarks[:, 0, 1]).all()  # the mouth is below the eyes
    assert len(set(store.column("yaw"))) == len(store)


def test_every_bad_argument_is_named_at_once() -> None:
    with pytest.raises(CombinedUserError) as caught:
        SynthConfig(identities=1, images=0, seed=-1, size=8)
    assert caught.value.where == "identities, images, seed, size"


@pytest.mark.parametrize(("name", "value"), [("identities", 1), ("images", 0), ("workers", 0)])
def test_a_bad_argument_leaves_no_folder_behind(tmp_path: Path, name: str, value: int) -> None:
    arguments: dict[str, Any] = {
        "identities": 2,
        "images": 1,
        "seed": 0,
        "size": 48,
        "workers": 1,
    } | {name: value}
    with pytest.raises(UserError, match=name):
        synthesise(tmp_path / "store", **arguments)
    assert not (tmp_path / "store").exists()


def test_the_shortcut_tells_people_apart_who_differ_in_colour_alone() -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(60, 200, (12, 1, 1, 3))
    identity = np.repeat(np.arange(12), 6)
    images = (colours[identity] + rng.integers(-20, 20, (72, 40, 40, 3))).astype(np.uint8)
    embedder = ShortcutEmbedder.fit(images[:48], identity[:48])
    unseen = embedder.embed(images[48:])
    np.testing.assert_allclose(np.linalg.norm(unseen, axis=1), 1, atol=1e-5)
    scores = unseen @ unseen.T
    same = identity[48:, None] == identity[None, 48:]
    assert scores[same].min() > scores[~same].mean()
    assert scores[same].mean() > 0.9


def test_the_shortcut_refuses_one_image_of_each() -> None:
    with pytest.raises(UserError, match="more images than identities"):
        ShortcutEmbedder.fit(np.zeros((3, 16, 16, 3), np.uint8), np.arange(3))
