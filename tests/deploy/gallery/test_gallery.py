"""Enrol, search, list and remove, on every store; and what the gate refuses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from deploy.gallery.conftest import Reopen
from deploy.gallery.people import DIM, KEY, MODEL, embedding, new_image

from openmfr.deploy.gallery import (
    Gallery,
    GalleryConfig,
    GalleryStore,
    GateConfig,
    RefusedError,
    unit_rows,
)
from openmfr.deploy.gallery.export import export_gallery
from openmfr.deploy.gallery.kernels import exact_scores
from openmfr.deploy.gallery.mapped import MEMORY, forget_mapped, index_folder
from openmfr.deploy.gallery.screen import Precision
from openmfr.deploy.gallery.sqlite import SQLiteStore
from openmfr.deploy.quality import FaceQuality
from openmfr.errors import UserError

GOOD = FaceQuality(size=120, sharpness=0.5, yaw=5, roll=3, score=0.9, length=20)


def filled(store: GalleryStore, *, people: int = 30, images: int = 3) -> Gallery:
    """A gallery; of each person's images the last wears a mask."""
    store.add(
        [
            new_image(person, image, is_masked=image == images - 1)
            for person in range(people)
            for image in range(images)
        ]
    )
    return Gallery(store)


def test_a_person_is_found_by_their_best_image(store: GalleryStore) -> None:
    gallery = filled(store)
    probe = unit_rows(embedding(7, 0) + 0.2 * embedding(7, 99))
    found = gallery.search(probe, top=5)
    assert found[0].identity == "person 7"
    assert found[0].image_id == 22
    assert found[0].condition == "uu"
    assert found[0].score == float(exact_scores(embedding(7, 0)[None], probe)[0])
    assert len({one.identity for one in found}) == 5
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_every_store_and_precision_finds_the_same(reopen: Reopen) -> None:
    gallery = filled(reopen())
    rows = np.stack([embedding(person, image) for person in range(30) for image in range(3)])
    probes = [embedding(person, 50) for person in range(0, 40, 5)]
    found = gallery.search_many(probes, is_masked=[False] * len(probes), top=30)
    for probe, candidates in zip(probes, found, strict=True):
        scores = exact_scores(rows, probe).reshape(30, 3)
        best = np.argsort(-scores.max(axis=1), kind="stable")
        assert [one.identity for one in candidates] == [f"person {i}" for i in best]
        assert [one.score for one in candidates] == scores.max(axis=1)[best].tolist()
        assert [one.image_id for one in candidates] == [
            3 * i + int(scores[i].argmax()) + 1 for i in best
        ]
    precisions: tuple[Precision, ...] = ("float32", "float16")
    for precision in precisions:
        other = Gallery(reopen(), config=GalleryConfig(precision=precision))
        assert other.search_many(probes, is_masked=[False] * len(probes), top=30) == found


def test_the_condition_says_who_wears_a_mask(store: GalleryStore) -> None:
    gallery = filled(store, people=3)
    masked = embedding(1, 2)
    assert gallery.search(masked)[0].condition == "mu"
    assert gallery.search(masked, is_masked=True)[0].condition == "mm"
    assert gallery.search(embedding(1, 0), is_masked=True)[0].condition == "mu"


def test_an_empty_gallery_finds_nobody(store: GalleryStore) -> None:
    assert Gallery(store).search(embedding(0)) == []
    assert Gallery(store).people() == []


def test_a_search_sees_what_another_process_enrolled_and_removed(reopen: Reopen) -> None:
    gallery, other = filled(reopen(), people=3), Gallery(reopen())
    assert other.search(embedding(9))[0].identity != "person 9"
    gallery.enrol(new_image(9))
    assert other.search(embedding(9))[0].identity == "person 9"
    gallery.remove(identity="person 9")
    assert "person 9" not in [one.identity for one in other.search(embedding(9))]
    gallery.enrol(new_image(9, 1))
    assert other.search(embedding(9))[0].image_id == 11


def test_an_index_grows_and_shrinks_with_its_store(store: GalleryStore) -> None:
    gallery = Gallery(store)
    for start in range(0, 60, 20):
        store.add([new_image(person) for person in range(start, start + 20)])
        store.remove([start + 1, start + 7])
        for person in range(60):
            is_there = person < start + 20 and person % 20 not in (0, 6)
            found = gallery.search(embedding(person), top=1)
            assert (found[0].identity == f"person {person}") == is_there


def test_searches_go_on_while_others_enrol(store: GalleryStore) -> None:
    gallery = filled(store, people=5)

    def work(number: int) -> bool:
        if number % 4 == 0:
            gallery.enrol(new_image(100 + number), force=True)
        return (
            gallery.search(embedding(number % 5, 77), top=1)[0].identity == f"person {number % 5}"
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(40)))
    assert len(gallery) == 25


def test_people_are_listed_by_name_with_their_images(store: GalleryStore) -> None:
    people = filled(store, people=3).people()
    assert [person.identity for person in people] == ["person 0", "person 1", "person 2"]
    assert {(person.images, person.masked) for person in people} == {(3, 1)}


def test_another_models_embeddings_are_refused(store: GalleryStore) -> None:
    gallery = Gallery(store)
    gallery.check_model(MODEL)
    with pytest.raises(UserError, match="others cannot be compared"):
        gallery.check_model("f" * 16)
    with pytest.raises(UserError, match=f"{DIM} numbers"):
        gallery.search(embedding(0, dim=DIM + 1))


@pytest.mark.parametrize("row", [np.zeros(DIM), np.full(DIM, np.nan), np.full(DIM, np.inf)])
def test_an_embedding_without_a_direction_is_refused(store: GalleryStore, row: object) -> None:
    with pytest.raises(UserError, match="zero or not finite"):
        Gallery(store).search(np.asarray(row))


def test_top_must_be_at_least_one(store: GalleryStore) -> None:
    with pytest.raises(UserError, match="top: found 0"):
        Gallery(store).search(embedding(0), top=0)


class TestGate:
    """What is refused at enrolment, and why."""

    def test_a_good_face_of_a_new_and_of_a_known_person_is_enrolled(
        self, store: GalleryStore
    ) -> None:
        gallery = filled(store)
        assert gallery.enrol(new_image(50), quality=GOOD).is_new
        assert gallery.enrol(new_image(7, 9), quality=GOOD).is_new

    @pytest.mark.parametrize(
        ("quality", "reason"),
        [
            ({"size": 30}, "a face of 30 pixels, below 50"),
            ({"sharpness": 0.1}, "a blurred face"),
            ({"score": 0.4}, "hardly a face"),
            ({"yaw": -70}, "turned by 70°"),
        ],
    )
    def test_a_face_that_cannot_be_seen_well_is_refused_with_the_reason(
        self, quality: dict[str, float], reason: str, store: GalleryStore
    ) -> None:
        face = FaceQuality(**(vars(GOOD) | quality))
        with pytest.raises(RefusedError, match=reason):
            Gallery(store).enrol(new_image(0), quality=face)
        assert len(Gallery(store)) == 0

    def test_all_reasons_are_given_together(self, store: GalleryStore) -> None:
        face = FaceQuality(size=20, sharpness=0.1, yaw=0, roll=0, score=0.3, length=1)
        with pytest.raises(RefusedError) as raised:
            Gallery(store).enrol(new_image(0), quality=face)
        assert len(raised.value.reasons) == 3

    def test_a_face_that_resembles_somebody_else_more_is_refused(self, store: GalleryStore) -> None:
        gallery = filled(store)
        with pytest.raises(RefusedError, match=r"resembles person 8 .* more than person 7"):
            gallery.enrol(new_image(8, 9, identity="person 7"))

    def test_a_face_that_resembles_nobody_is_refused_as_a_known_person(
        self, store: GalleryStore
    ) -> None:
        store.add([new_image(7)])
        opposite = new_image(7, 1)
        object.__setattr__(opposite, "embedding", -opposite.embedding)
        with pytest.raises(RefusedError, match="does not resemble person 7"):
            Gallery(store).enrol(opposite)

    def test_somebody_who_is_enrolled_is_refused_under_a_new_name(
        self, store: GalleryStore
    ) -> None:
        gallery = filled(store)
        with pytest.raises(RefusedError, match="resembles person 7, who is enrolled"):
            gallery.enrol(new_image(7, 9, identity="a new name"))

    def test_what_is_forced_is_enrolled(self, store: GalleryStore) -> None:
        gallery = filled(store)
        face = FaceQuality(**(vars(GOOD) | {"size": 5}))
        added = gallery.enrol(new_image(8, 9, identity="person 7"), quality=face, force=True)
        assert added.is_new

    def test_a_photo_that_is_enrolled_already_is_not_judged_again(
        self, store: GalleryStore
    ) -> None:
        gallery = Gallery(store)
        gallery.enrol(new_image(0), quality=GOOD)
        face = FaceQuality(**(vars(GOOD) | {"size": 5}))
        assert not gallery.enrol(new_image(0), quality=face).is_new

    def test_the_gate_can_be_set(self, store: GalleryStore) -> None:
        gallery = Gallery(store, config=GalleryConfig(gate=GateConfig(least_size=10)))
        face = FaceQuality(**(vars(GOOD) | {"size": 12}))
        assert gallery.enrol(new_image(0), quality=face).is_new

    def test_settings_out_of_range_are_named_together(self) -> None:
        with pytest.raises(UserError, match=r"least_sharpness: found 2(.|\n)*other_fpir: found -1"):
            GateConfig(least_sharpness=2, other_fpir=-1)


def test_an_export_holds_everything_and_is_its_owners_alone(
    store: GalleryStore, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    filled(store, people=2)
    store.remove([2])
    out = tmp_path / "people.parquet"
    assert export_gallery(store, out) == 5
    assert out.stat().st_mode & 0o077 == 0
    table = pq.read_table(out)
    assert table.schema.metadata[b"openmfr.model"].decode() == MODEL
    assert table["identity"].to_pylist() == ["person 0"] * 2 + ["person 1"] * 3
    assert table["is_masked"].to_pylist() == [False, True, False, False, True]
    rows = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    assert np.array_equal(rows[2], embedding(1, 0))


@pytest.mark.parametrize("key", [KEY, None], ids=["encrypted", "plain"])
def test_a_mapped_index_is_used_by_the_next_process_and_kept_up_to_date(
    key: bytes | None, tmp_path: Path
) -> None:
    path, config = tmp_path / "people.db", GalleryConfig(keep_index=True)
    first = filled(SQLiteStore.create(path, model=MODEL, dim=DIM, key=key))
    if key is not None and not MEMORY.is_dir():
        pytest.skip("no file system in memory")
    folder = index_folder(first.store)
    assert folder is not None
    # What is encrypted does not lie beside the file in the clear.
    assert folder.is_relative_to(tmp_path) == (key is None)
    try:
        expected = first.search(embedding(4, 9))
        for _ in range(2):
            opened = Gallery(SQLiteStore(path, key=key), config=config)
            assert opened.search(embedding(4, 9)) == expected
            assert (folder / "bare-rows.npy").is_file()
            assert folder.stat().st_mode & 0o077 == 0
            opened.close()
        first.enrol(new_image(60))
        opened = Gallery(SQLiteStore(path, key=key), config=config)
        assert opened.search(embedding(60))[0].identity == "person 60"
        (folder / "bare-rows.npy").write_bytes(b"damaged")
        opened.close()
        again = Gallery(SQLiteStore(path, key=key), config=config)
        assert again.search(embedding(60))[0].identity == "person 60"
        again.close()
    finally:
        forget_mapped(first.store)
        first.close()
    assert not folder.exists()
