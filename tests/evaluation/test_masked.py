from pathlib import Path

import numpy as np
import pytest
from toys import make_store

from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.evaluation.difference import measure_difference
from openmfr.evaluation.masked import MaskedPairs
from openmfr.evaluation.protocols.pairs import PairList
from openmfr.evaluation.verification import measure

PEOPLE, IMAGES = 20, 2
IDENTITY = np.repeat(np.arange(PEOPLE), IMAGES)


def pairs() -> PairList:
    """Each person's two images, and each person's first with the next person's second."""
    first = np.arange(0, PEOPLE * IMAGES, IMAGES)
    other = np.roll(first, -1) + 1
    return PairList(
        index_a=np.concatenate([first, first]),
        index_b=np.concatenate([first + 1, other]),
        is_genuine=np.repeat([True, False], PEOPLE),
    )


def embeddings(*, noise: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((PEOPLE, 16))
    return centers[IDENTITY] + noise * rng.standard_normal((PEOPLE * IMAGES, 16))


def test_every_pair_is_compared_bare_half_masked_and_masked() -> None:
    is_masked = np.ones(PEOPLE * IMAGES, dtype=np.bool_)
    protocol = MaskedPairs(pairs=pairs(), is_masked=is_masked)
    bare, masked = embeddings(noise=0.1), embeddings(noise=2.0)
    compared = protocol.compare(np.concatenate([bare, masked]), IDENTITY)
    result = measure(compared, replicates=0)
    assert {kind: part.genuine_pairs for kind, part in result.kinds.items()} == {
        "mm": PEOPLE,
        "mu": PEOPLE,
        "uu": PEOPLE,
    }
    # The masked embeddings are worse here, and the more of them the worse the comparison.
    auc = {kind: part.auc.value for kind, part in result.kinds.items()}
    assert auc["uu"] == 1.0
    assert (auc["uu"] or 0) > (auc["mu"] or 0) > (auc["mm"] or 0)


def test_pairs_whose_mask_is_missing_are_left_out_of_that_kind_alone() -> None:
    is_masked = np.ones(PEOPLE * IMAGES, dtype=np.bool_)
    is_masked[0] = False  # first image of two pairs
    is_masked[3] = False  # second image of two pairs
    protocol = MaskedPairs(pairs=pairs(), is_masked=is_masked)
    compared = protocol.compare(np.tile(embeddings(noise=1.0), (2, 1)), IDENTITY)
    assert compared.kind is not None
    counts = {kind: int((compared.kind == kind).sum()) for kind in ("uu", "mu", "mm")}
    assert counts == {"uu": 2 * PEOPLE, "mu": 2 * PEOPLE - 2, "mm": 2 * PEOPLE - 3}


def test_a_list_without_any_mask_is_refused() -> None:
    protocol = MaskedPairs(pairs=pairs(), is_masked=np.zeros(PEOPLE * IMAGES, dtype=np.bool_))
    with pytest.raises(UserError, match="no mask on the first image of any pair"):
        protocol.compare(np.tile(embeddings(noise=1.0), (2, 1)), IDENTITY)


def test_a_store_that_says_nothing_of_masks_is_refused(tmp_path: Path) -> None:
    store: Store = make_store(tmp_path / "s")
    with pytest.raises(UserError, match="does not say who wears a mask"):
        MaskedPairs.of(pairs(), bare=store, masked=store)


def test_a_recogniser_does_not_differ_from_itself() -> None:
    compared = pairs().compare(embeddings(noise=1.0), IDENTITY)
    found = measure_difference(compared, compared, fmrs=(0.5, 0.1, 0.01), replicates=50)
    for name in ("accuracy", "eer", "auc", "fnmr@0.5", "fnmr@0.1"):
        assert (found[name].value, found[name].low, found[name].high) == (0, 0, 0), name


def test_a_difference_is_as_trustworthy_as_the_rates_that_it_is_made_of() -> None:
    compared = pairs().compare(embeddings(noise=1.0), IDENTITY)
    found = measure_difference(compared, compared, fmrs=(0.5, 0.1, 0.01), replicates=50)
    assert found["fnmr@0.5"].flag == ""
    assert found["fnmr@0.1"].flag == "rests on 2 expected false matches"
    assert found["fnmr@0.01"].is_refused
    assert found["fnmr@0.01"].flag == "refused: needs at least 100 impostor pairs, has 20"


def test_a_paired_interval_shows_a_difference_that_two_own_intervals_hide() -> None:
    first = pairs().compare(embeddings(noise=2.0), IDENTITY)
    nudged = embeddings(noise=2.0) + 0.6 * embeddings(noise=0.0)
    second = pairs().compare(nudged, IDENTITY)
    difference = measure_difference(first, second, replicates=300)["auc"]
    assert difference.low is not None
    assert difference.low > 0
    own = [measure(side, replicates=300).auc for side in (first, second)]
    assert own[0].high is not None
    assert own[1].low is not None
    assert own[0].high > own[1].low


def test_different_pairs_are_not_compared() -> None:
    compared = pairs().compare(embeddings(noise=1.0), IDENTITY)
    with pytest.raises(UserError, match="the same pairs"):
        measure_difference(compared, compared.only(compared.is_genuine))
