from pathlib import Path

import numpy as np
import pytest

from openmfr.data.geometry import Geometry
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.masking.augment import Masker
from openmfr.masking.config import MaskConfig
from openmfr.masking.render_store import render_store

CONFIG = MaskConfig(probability=0.5, templates=4, template_size=96, seed=1_000)


def masker_of(store: Store, *, seed: int = 9) -> Masker:
    return Masker(CONFIG, seed=seed, geometry=Geometry.open(store.path / "geometry", store))


def test_masked_images_are_labelled_and_the_others_keep_their_bytes(
    people: Store, tmp_path: Path
) -> None:
    labels = Labels.read(people.path / "labels.parquet")
    store, table, summary = render_store(
        people, labels, tmp_path / "masked", masker=masker_of(people), workers=1
    )
    assert store.column("source") == people.column("source")
    assert summary.images == len(store)
    assert summary.unmaskable == 0
    assert 0 < summary.masked < len(store)
    assert summary.masked == int(table.is_masked.sum())
    assert table.identity.tolist() == labels.identity.tolist()
    assert table.parent == labels.fingerprint
    for index in range(len(store)):
        is_same = store.read(index) == people.read(index)
        assert is_same != bool(table.is_masked[index])
        assert (table.mask_style[index] != "") == bool(table.is_masked[index])
    assert Labels.read(tmp_path / "masked" / "labels.parquet").fingerprint == table.fingerprint


def test_the_bytes_do_not_depend_on_workers_or_on_a_stop(people: Store, tmp_path: Path) -> None:
    labels = Labels.read(people.path / "labels.parquet")
    made = [
        render_store(people, labels, tmp_path / name, masker=masker_of(people), workers=workers)[0]
        for name, workers in (("one", 1), ("two", 2), ("one", 1))
    ]
    assert len({store.fingerprint for store in made}) == 1


def test_a_folder_of_other_masks_is_not_gone_on_with(people: Store, tmp_path: Path) -> None:
    labels = Labels.read(people.path / "labels.parquet")
    render_store(people, labels, tmp_path / "masked", masker=masker_of(people), workers=1)
    with pytest.raises(UserError, match="seed"):
        render_store(
            people, labels, tmp_path / "masked", masker=masker_of(people, seed=10), workers=1
        )


def test_faces_that_are_not_known_are_counted_and_stay_bare(people: Store, tmp_path: Path) -> None:
    geometry = Geometry.open(people.path / "geometry", people)
    status = geometry.status.copy()
    status[:3] = 1
    geometry.__dict__["status"] = status
    labels = Labels.read(people.path / "labels.parquet")
    masker = Masker(
        MaskConfig(probability=1.0, templates=4, template_size=96), seed=0, geometry=geometry
    )
    _, table, summary = render_store(people, labels, tmp_path / "m", masker=masker, workers=1)
    assert summary.unmaskable == 3
    assert np.flatnonzero(~table.is_masked).tolist() == [0, 1, 2]
