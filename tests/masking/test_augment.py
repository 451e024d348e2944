import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from openmfr.data.geometry import Geometry
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.masking.augment import Masker
from openmfr.masking.config import MaskConfig, MaskKind, StyleWeights

CONFIG = MaskConfig(probability=1.0, templates=6, template_size=96)


def make_masker(store: Store, config: MaskConfig = CONFIG, *, seed: int = 3) -> Masker:
    return Masker(config, seed=seed, geometry=Geometry.open(store.path / "geometry", store))


def test_one_seed_epoch_and_image_give_one_mask_in_any_order_and_process(people: Store) -> None:
    masker = make_masker(people)
    forward = [masker.mask(people.decode(i), index=i, epoch=2) for i in range(6)]
    twin = pickle.loads(pickle.dumps(masker))  # as a worker process gets it
    backward = [twin.mask(people.decode(i), index=i, epoch=2) for i in reversed(range(6))]
    for first, again in zip(forward, reversed(backward), strict=True):
        assert first is not None
        assert again is not None
        assert first[1] == again[1]
        assert np.array_equal(first[0].image, again[0].image)
        assert np.array_equal(first[0].alpha, again[0].alpha)


def test_threads_that_mask_at_once_give_what_one_gives(people: Store) -> None:
    masker = make_masker(people)
    alone, together = ([people.decode(i) for i in range(24)] for _ in range(2))
    for index, image in enumerate(alone):
        masker(image, index, 0)
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(masker, together, range(24), [0] * 24):
            pass
    assert np.array_equal(alone, together)


def test_an_image_wears_another_mask_in_another_epoch_and_with_another_seed(people: Store) -> None:
    image = people.decode(0)
    masks = [
        make_masker(people, seed=seed).mask(image, index=0, epoch=epoch)
        for seed, epoch in ((3, 0), (3, 1), (4, 0))
    ]
    pictures = {found[0].image.tobytes() for found in masks if found is not None}
    assert len(pictures) == 3


@pytest.mark.parametrize("kind", ["rendered", "flat", "erase"])
def test_every_kind_covers_the_mouth_and_leaves_the_eyes(people: Store, kind: MaskKind) -> None:
    geometry = Geometry.open(people.path / "geometry", people)
    masker = make_masker(people, replace(CONFIG, kind=kind))
    covered = []
    for index in range(len(people)):
        vertices = geometry.vertices(index)
        assert vertices is not None
        found = masker.mask(people.decode(index), index=index)
        assert found is not None
        alpha = found[0].alpha
        mouth, left, right = (
            vertices[group, :2].mean(axis=0).round().astype(int)
            for group in ([13, 14], [33, 133], [263, 362])
        )
        assert alpha[left[1], left[0]] == 0
        assert alpha[right[1], right[0]] == 0
        covered.append(alpha[mouth[1], mouth[0]] > 0.9)
    assert np.mean(covered) > 0.85  # a few wear it under the chin


def test_masks_come_as_often_as_asked() -> None:
    masker = Masker(MaskConfig(probability=0.15, kind="erase"), seed=0)
    due = [masker.is_due(index, epoch=epoch) for index in range(400) for epoch in range(5)]
    assert 0.12 < np.mean(due) < 0.18


def test_a_face_that_wears_a_real_mask_gets_no_other(people: Store) -> None:
    is_masked = np.zeros(len(people), dtype=np.bool_)
    is_masked[2] = True
    masker = Masker(MaskConfig(probability=1.0, kind="erase"), seed=0, is_masked=is_masked)
    image = people.decode(2)
    assert masker.mask(image, index=2) is None
    assert masker.mask(image, index=3) is not None


def test_masks_without_geometry_are_refused_with_the_command_that_makes_it() -> None:
    with pytest.raises(UserError, match="openmfr mask fit STORE"):
        Masker(CONFIG, seed=0)


def test_impossible_settings_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"masks\.probability"):
        MaskConfig(probability=1.5)
    with pytest.raises(UserError, match=r"masks\.styles\.cloth"):
        StyleWeights(cloth=-1.0)
    with pytest.raises(UserError, match="found balaclava"):
        StyleWeights.only(["cloth", "balaclava"])
    with pytest.raises(UserError, match="at least one above 0"):
        StyleWeights(surgical=0, kn95=0, cloth=0, scarf=0)
