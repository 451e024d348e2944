"""What is wrong with embeddings is said before anything is measured, and by the image's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from openmfr.embed import Embeddings
from openmfr.errors import CombinedUserError, UserError
from openmfr.evaluation.checks import (
    Lengths,
    align_by_path,
    check_embeddings,
    name_folders,
    suspicion,
)
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.verification import measure

SOURCES = [f"person_{i}/{i}.jpg" for i in range(12)]


def embeddings(*, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(SOURCES), 8))


@pytest.mark.parametrize(
    "broken",
    [
        lambda e: e[:-1],
        lambda e: np.vstack([e, e[:1]]),
        lambda e: e[0],
        lambda e: e.astype(np.int64),
        lambda e: e[:, :0],
    ],
)
def test_another_number_of_rows_or_no_matrix_is_refused(
    broken: Callable[[np.ndarray], np.ndarray],
) -> None:
    with pytest.raises(UserError, match=r"allowed: floats of shape \(12, D\)"):
        check_embeddings(broken(embeddings()), sources=SOURCES)


def test_missing_broken_and_zero_rows_are_listed_together_by_name() -> None:
    embedding = embeddings()
    embedding[2:9] = np.nan
    embedding[9, 3] = np.inf
    embedding[10] = 0
    with pytest.raises(CombinedUserError) as caught:
        check_embeddings(embedding, sources=SOURCES)
    missing, broken, zero = str(caught.value).splitlines()
    assert "no embedding for person_2/2.jpg" in missing
    assert "person_6/6.jpg and 2 more" in missing
    assert "not finite for person_9/9.jpg;" in broken
    assert "zeros for person_10/10.jpg;" in zero


def test_rows_that_no_pair_needs_may_be_missing() -> None:
    embedding = embeddings()
    embedding[5] = np.nan
    needed = np.array([0, 1, 1, 7])
    lengths = check_embeddings(embedding, sources=SOURCES, needed=needed)
    assert lengths.largest == pytest.approx(np.linalg.norm(embedding[[0, 1, 7]], axis=1).max())
    with pytest.raises(UserError, match=r"no embedding for person_5/5\.jpg;"):
        check_embeddings(embedding, sources=SOURCES, needed=np.array([5]))


def test_one_embedding_for_everybody_is_refused() -> None:
    same = np.tile(embeddings()[:1], (len(SOURCES), 1))
    with pytest.raises(UserError, match="the same one for all 12 images"):
        check_embeddings(same, sources=SOURCES)


def test_length_is_told_and_is_no_fault(comparisons: Comparisons) -> None:
    embedding = embeddings()
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    assert check_embeddings(unit.astype(np.float16), sources=SOURCES).note() == ""
    assert "(median 20)" in check_embeddings(20 * unit, sources=SOURCES).note()
    assert not Lengths(smallest=0.9, median=1.0, largest=1.0).is_unit


def test_rows_are_put_in_order_by_their_paths() -> None:
    embedding = embeddings()
    order = np.random.default_rng(1).permutation(len(SOURCES))
    mixed = align_by_path(embedding[order], [SOURCES[i] for i in order], SOURCES)
    assert np.array_equal(mixed, embedding)
    some = align_by_path(embedding, SOURCES, SOURCES[3:5])
    assert np.array_equal(some, embedding[3:5])


def test_images_without_a_row_are_listed() -> None:
    with pytest.raises(
        UserError, match=r"2 images not in the embeddings: person_7/7\.jpg, person_8/8\.jpg"
    ):
        align_by_path(embeddings()[:7], SOURCES[:7], SOURCES[:9])
    with pytest.raises(UserError, match=r"did you mean person_3/3\.jpg"):
        align_by_path(embeddings(), SOURCES, ["person_3/33.jpg"])


def test_paths_of_another_machine_and_other_file_endings_are_the_same_images() -> None:
    paths = [f"/mnt/sets/{source}" for source in SOURCES]
    found = align_by_path(embeddings(), paths, [source.replace("jpg", "png") for source in SOURCES])
    assert np.array_equal(found, embeddings())


def test_two_folders_of_one_name_or_of_two_stores_are_told(tmp_path: Path) -> None:
    def embedded(path: Path) -> Embeddings:
        part = object.__new__(Embeddings)
        part.path = part.store_path = path
        part.store_fingerprint = path.name
        return part

    first, second = embedded(tmp_path / "a" / "base"), embedded(tmp_path / "b" / "base")
    assert name_folders([first]) == {"base": first}
    with pytest.raises(UserError, match="other: found embeddings of the store"):
        name_folders([first, embedded(tmp_path / "other")])
    with pytest.raises(UserError, match="two folders of one name, base"):
        name_folders([first, second])


def test_a_path_that_occurs_twice_and_a_wrong_count_are_refused() -> None:
    with pytest.raises(UserError, match=r"'person_0/0\.jpg' more than once"):
        align_by_path(embeddings()[:3], [SOURCES[0], SOURCES[1], SOURCES[0]], SOURCES[:1])
    with pytest.raises(UserError, match=r"floats of shape \(11, D\)"):
        align_by_path(embeddings(), SOURCES[:11], SOURCES[:11])


def test_rows_in_another_order_are_suspected(comparisons: Comparisons) -> None:
    assert suspicion(comparisons) == ""
    rng = np.random.default_rng(0)
    mixed = Comparisons(**{**vars(comparisons), "score": rng.permutation(comparisons.score)})
    assert "in another order than the images" in suspicion(mixed)
    assert measure(mixed, replicates=0).auc.value == pytest.approx(0.5, abs=0.1)
