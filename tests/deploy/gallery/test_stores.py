"""What every store keeps: all that was acknowledged, once, in order; nothing that was removed."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from deploy.gallery.conftest import Reopen
from deploy.gallery.people import DIM, MODEL, embedding, new_image

from openmfr.deploy.gallery import GalleryStore, OtherNameError
from openmfr.deploy.gallery.store import CHUNK, State
from openmfr.errors import UserError


def test_what_was_added_is_there_after_reopening(reopen: Reopen) -> None:
    reopen().add([new_image(0), new_image(1, is_masked=True)])
    images = reopen().images()
    assert [image.identity for image in images] == ["person 0", "person 1"]
    assert [image.image_id for image in images] == [1, 2]
    assert [image.is_masked for image in images] == [False, True]
    assert [image.source for image in images] == ["0-0.jpg", "1-0.jpg"]


def test_embeddings_come_back_bit_by_bit(store: GalleryStore) -> None:
    store.add([new_image(0), new_image(1)])
    found = store.embeddings([2, 1, 7])
    assert list(found) == [2, 1]
    assert np.array_equal(found[1], embedding(0))
    assert np.array_equal(found[2], embedding(1))


def test_the_same_photo_is_enrolled_once(store: GalleryStore) -> None:
    first = store.add([new_image(0)])[0]
    second = store.add([new_image(0)])[0]
    assert (first.is_new, second.is_new) == (True, False)
    assert second.image == first.image
    assert store.state() == State(last_image=1, images=1)


def test_a_photo_is_not_enrolled_under_two_names_and_nothing_of_its_batch_is(
    store: GalleryStore,
) -> None:
    store.add([new_image(0)])
    with pytest.raises(OtherNameError, match=r"the same photo as image 1 of person 0") as raised:
        store.add([new_image(5), new_image(0, identity="somebody else")])
    assert "remove image 1 first" in str(raised.value)
    assert len(store.images()) == 1


def test_a_photo_is_found_by_its_digest(store: GalleryStore) -> None:
    image = new_image(3)
    store.add([image])
    found = store.find_photo(image.digest)
    assert found is not None
    assert found.identity == "person 3"
    assert store.find_photo(new_image(4).digest) is None


def test_a_removed_image_is_gone_and_its_number_is_not_given_again(store: GalleryStore) -> None:
    store.add([new_image(0), new_image(1), new_image(2)])
    assert store.remove([3, 99]) == 1
    store.erase()
    assert store.image_ids().tolist() == [1, 2]
    assert not store.embeddings([3])
    assert store.add([new_image(2)])[0].image.image_id == 4
    assert store.state() == State(last_image=4, removals=1, images=3)


def test_rows_come_in_order_in_chunks_and_within_bounds(store: GalleryStore) -> None:
    images = [new_image(0, i) for i in range(20)]
    store.add(images)
    store.remove([4])
    rows = list(store.rows(after=2, upto=6))
    assert [number for part in rows for number in part.image_id.tolist()] == [3, 5, 6]
    assert rows[0].digest[0] == images[2].digest
    assert rows[0].embedding.shape == (3, DIM)
    assert list(store.rows(after=3, upto=3)) == []
    assert CHUNK > 20


def test_only_one_persons_images_are_listed(store: GalleryStore) -> None:
    store.add([new_image(0), new_image(1), new_image(0, 1)])
    assert [image.image_id for image in store.images("person 0")] == [1, 3]
    assert store.images("nobody") == []


def test_another_models_gallery_is_refused(reopen: Reopen) -> None:
    store = reopen()
    with pytest.raises(UserError, match=rf"embeddings of model {MODEL}; allowed: .*ffff"):
        store.header.check_model("f" * 16, where="people.db")


def test_an_embedding_of_another_dimension_is_refused(store: GalleryStore) -> None:
    image = new_image(0)
    object.__setattr__(image, "embedding", embedding(0, dim=DIM + 1))
    with pytest.raises(UserError, match=re.escape(f"float32 of shape ({DIM},)")):
        store.add([image])


def test_threads_that_share_a_store_lose_nothing(store: GalleryStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        added = pool.map(lambda i: store.add([new_image(i)])[0].image.image_id, range(40))
        seen = pool.map(lambda _: store.state().images, range(40))
    assert sorted(added) == list(range(1, 41))
    assert max(seen) <= 40
    assert len(store.images()) == 40


def test_two_openings_see_each_others_images(reopen: Reopen) -> None:
    first, second = reopen(), reopen()
    first.add([new_image(0)])
    second.add([new_image(1)])
    assert [image.identity for image in first.images()] == ["person 0", "person 1"]


@pytest.mark.parametrize("name", ["", " ann", "a\nb", "x" * 201])
def test_names_that_could_not_be_typed_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="printable characters"):
        new_image(0).__class__(identity=name, embedding=embedding(0), digest=bytes(32))
