"""Scores become false match rates by mask condition, and rates become thresholds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from deploy.gallery.people import MODEL

from openmfr.deploy.gallery import Limit
from openmfr.deploy.gallery.index import Hit
from openmfr.deploy.gallery.meaning import Meaning
from openmfr.errors import UserError
from openmfr.evaluation.calibration import Calibration, fmr_for_fpir, fpir_for_fmr
from openmfr.evaluation.comparisons import Comparisons


def impostors(scores: npt.NDArray[np.float64], kind: npt.NDArray[np.str_] | None) -> Comparisons:
    """Scored pairs of different people."""
    pairs = np.arange(scores.size)
    return Comparisons(
        score=scores,
        is_genuine=np.zeros(scores.size, dtype=np.bool_),
        identity_a=pairs % 100,
        identity_b=100 + pairs % 90,
        index_a=pairs,
        index_b=pairs,
        kind=kind,
    )


def calibration(model: str = MODEL, **means: float) -> Calibration:
    """Impostor scores around a mean for each condition, deviation 0.1."""
    rng = np.random.default_rng(0)
    count = 20_000
    scores = np.concatenate([rng.normal(mean, 0.1, count) for mean in means.values()])
    kind = np.repeat(np.array(list(means)), count)
    return Calibration.fit(impostors(scores, kind), model=model, replicates=0)


def meaning(**means: float) -> Meaning:
    return Meaning(calibration(MODEL, **means), model=MODEL, where="people.db")


def hit(identity: str, score: float, *, is_masked: bool = False, image_id: int = 1) -> Hit:
    return Hit(identity=identity, image_id=image_id, is_masked=is_masked, score=score)


def test_people_are_ranked_by_how_rare_their_score_is_in_its_condition() -> None:
    """Strangers with masks score 0.2 more here, so a masked image must score higher for as much."""
    hits = [hit("ann", 0.35), hit("ben", 0.45, is_masked=True), hit("eve", 0.30)]
    found = meaning(uu=0.0, mu=0.2, mm=0.4).candidates(
        hits, is_probe_masked=False, images=3, top=3, limit=None
    )
    assert [one.identity for one in found] == ["ann", "eve", "ben"]
    assert [one.condition for one in found] == ["uu", "uu", "mu"]
    rates = [one.fmr for one in found]
    assert rates == sorted(rates)  # type: ignore[type-var]


def test_a_person_counts_by_the_image_that_says_most() -> None:
    hits = [hit("ann", 0.35, image_id=1), hit("ann", 0.40, is_masked=True, image_id=2)]
    found = meaning(uu=0.0, mu=0.2).candidates(
        hits, is_probe_masked=False, images=2, top=5, limit=None
    )
    assert [(one.identity, one.image_id) for one in found] == [("ann", 1)]


def test_without_a_calibration_scores_rank_and_there_are_no_rates() -> None:
    bare = Meaning(None, model=MODEL, where="people.db")
    hits = [hit("ann", 0.35), hit("ben", 0.45, is_masked=True)]
    found = bare.candidates(hits, is_probe_masked=True, images=2, top=1, limit=None)
    assert [(one.identity, one.condition, one.fmr) for one in found] == [("ben", "mm", None)]


@pytest.mark.parametrize(("is_masked", "condition"), [(False, "uu"), (True, "mu")])
def test_a_limit_on_the_fmr_gives_each_condition_its_threshold(
    is_masked: bool, condition: str
) -> None:
    read = meaning(uu=0.0, mu=0.2, mm=0.4)
    expected = calibration(uu=0.0, mu=0.2, mm=0.4).threshold(1e-3, condition).score
    for score in (expected, expected - 1e-6):
        found = read.candidates(
            [hit("ann", score, is_masked=is_masked)],
            is_probe_masked=False,
            images=1,
            top=1,
            limit=Limit(fmr=1e-3),
        )[0]
        assert found.threshold == pytest.approx(expected)
        assert found.is_match == (score >= expected)


def test_a_limit_on_the_fpir_grows_with_the_gallery() -> None:
    read = meaning(uu=0.0)
    thresholds = [
        read.thresholds(Limit(fpir=0.01), ["uu"], images=images)["uu"] for images in (1, 10, 1_000)
    ]
    assert thresholds == sorted(thresholds)
    fmr = fmr_for_fpir(0.01, 10)
    assert thresholds[1] == calibration(uu=0.0).threshold(fmr, "uu").score


def test_the_fpir_of_a_candidate_is_that_of_the_gallery_at_its_size() -> None:
    found = meaning(uu=0.0).candidates(
        [hit("ann", 0.3)], is_probe_masked=False, images=50, top=1, limit=None
    )[0]
    assert found.fmr is not None
    assert found.fpir == pytest.approx(fpir_for_fmr(found.fmr, 50))


def test_a_calibration_that_knows_no_masks_serves_all_conditions() -> None:
    scores = np.random.default_rng(0).normal(0, 0.1, 5_000)
    one = Calibration.fit(impostors(scores, None), replicates=0)
    found = Meaning(one, model=MODEL, where="").candidates(
        [hit("ann", 0.3, is_masked=True)], is_probe_masked=True, images=1, top=1, limit=None
    )
    assert found[0].condition == "all"
    assert found[0].fmr is not None


def test_a_condition_that_was_not_calibrated_is_said_and_never_matches() -> None:
    hits = [hit("ann", 0.99, is_masked=True), hit("ben", 0.3)]
    found = meaning(uu=0.0).candidates(
        hits, is_probe_masked=False, images=2, top=2, limit=Limit(fmr=0.01)
    )
    assert [(one.identity, one.is_match) for one in found] == [("ben", True), ("ann", False)]
    assert found[1].flag == "condition mu is not calibrated: never a match"


def test_a_limit_without_a_calibration_says_how_to_get_one() -> None:
    bare = Meaning(None, model=MODEL, where="people.db")
    with pytest.raises(UserError, match="openmfr evaluate calibration"):
        bare.candidates([], is_probe_masked=False, images=1, top=1, limit=Limit(fmr=0.1))


def test_a_rate_beyond_the_calibration_is_refused() -> None:
    with pytest.raises(UserError, match="in a gallery of 1,000,000"):
        meaning(uu=0.0).thresholds(Limit(fpir=1e-6), ["uu"], images=1_000_000)


def test_a_calibration_of_another_model_is_refused() -> None:
    with pytest.raises(UserError, match=r"scores of model ffff.*embed a store with this model"):
        Meaning(calibration("f" * 16, uu=0.0), model=MODEL, where="people.db")


@pytest.mark.parametrize("rates", [{}, {"fmr": 0.1, "fpir": 0.1}])
def test_a_limit_is_one_of_two_rates(rates: dict[str, float]) -> None:
    with pytest.raises(UserError, match="one of them"):
        Limit(**rates)
