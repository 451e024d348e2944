"""The challenge tracks: which images meet, at which rate, and what they rank by."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.errors import UserError
from openmfr.evaluation.all_pairs.rates import measure_all_pairs
from openmfr.evaluation.all_pairs.scores import all_pairs
from openmfr.evaluation.protocols.tracks import (
    GROUPS,
    TEST_SETS,
    InsightFaceTrack,
    Options,
    WebFace260MTrack,
)

Floats = npt.NDArray[np.float64]
QUICK = Options(replicates=0)


@pytest.fixture
def faces() -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """600 images of 60 people; masks, on a third, make embeddings worse."""
    rng = np.random.default_rng(0)
    identity = np.repeat(np.arange(60), 10)
    is_masked = np.arange(600) % 3 == 0
    noise = np.where(is_masked, 1.6, 1.0)[:, None]
    embedding = rng.normal(size=(60, 16))[identity] + noise * rng.normal(size=(600, 16))
    return embedding, identity, is_masked


def test_webface260m_compares_masked_with_bare_and_bare_with_bare_over_the_scenes(
    faces: tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]],
) -> None:
    embedding, identity, is_masked = faces
    scene = np.where(np.arange(600) % 2 == 0, "wild", "controlled")
    track = WebFace260MTrack(is_masked=is_masked, scene=scene, fmr=1e-3)
    result = track.measure(embedding, identity, QUICK)
    scenes = ("All", "Wild", "Controlled")
    assert list(result.parts) == [f"{kind}-{name}" for kind in ("MFR", "SFR") for name in scenes]
    assert result.parts["MFR-All"].genuine_pairs + result.parts["MFR-All"].impostor_pairs == (
        200 * 400
    )
    bare, wild = ~is_masked, scene == "wild"
    for name, first, second in (
        ("SFR-Wild", bare & wild, bare & wild),
        ("MFR-Wild", is_masked & wild, bare & wild),
    ):
        pairs = all_pairs(embedding, identity, fmrs=[1e-3], first=first, second=second)
        assert result.parts[name].rates == measure_all_pairs(pairs, replicates=0).rates


def test_webface260m_ranks_by_a_quarter_masked_and_three_quarters_standard(
    faces: tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]],
) -> None:
    embedding, identity, is_masked = faces
    track = WebFace260MTrack(is_masked=is_masked, scene=np.full(600, "wild"), fmr=1e-3)
    result = track.measure(embedding, identity, QUICK)
    masked, standard = (result.values[name].value for name in ("MFR-All", "SFR-All"))
    assert masked is not None
    assert standard is not None
    assert masked > standard
    assert result.score.value == 0.25 * masked + 0.75 * standard
    assert result.notes == (
        "MFR-Controlled has no genuine pairs and is not measured.",
        "SFR-Controlled has no genuine pairs and is not measured.",
    )


def test_the_track_takes_its_own_false_match_rate_and_flags_what_is_too_small_for_it(
    faces: tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]],
) -> None:
    embedding, identity, is_masked = faces
    result = WebFace260MTrack(is_masked=is_masked, scene=np.full(600, "wild")).measure(
        embedding, identity, QUICK
    )
    assert {part.rates[0].fmr for part in result.parts.values()} == {1e-5}
    assert result.values["SFR-All"].is_refused
    assert result.score.value is None
    assert "SFR-All refused: needs at least 100,000 impostor pairs" in result.score.flag


def test_insightface_compares_each_set_with_itself_and_mask_across(
    faces: tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]],
) -> None:
    embedding, identity, is_masked = faces
    test_set = np.array(TEST_SETS)[identity // 10]
    track = InsightFaceTrack(test_set=test_set, is_masked=is_masked)
    result = track.measure(embedding, identity, QUICK)
    assert list(result.parts) == [
        "Mask", "Children", "African", "Caucasian", "South Asian", "East Asian", "MR-All",
    ]  # fmt: skip
    rates = {name: part.rates[0].fmr for name, part in result.parts.items()}
    assert rates == dict.fromkeys(rates, 1e-6) | {"Mask": 1e-4, "Children": 1e-4}
    in_mask = test_set == "mask"
    masked, bare = (in_mask & is_masked).sum(), (in_mask & ~is_masked).sum()
    mask = result.parts["Mask"]
    assert mask.genuine_pairs + mask.impostor_pairs == masked * bare
    every = int(np.isin(test_set, GROUPS).sum())
    total = result.parts["MR-All"].totals["insightface"]
    assert total.impostor == every**2 - every - total.genuine
    assert result.metric == "tar"


def test_insightface_ranks_by_tar_where_the_sets_allow_it(
    faces: tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embedding, identity, is_masked = faces
    test_set = np.where(identity < 30, "mask", "african")
    sets = InsightFaceTrack.sets
    monkeypatch.setattr(
        InsightFaceTrack,
        "sets",
        lambda self: {name: (both, 1e-2) for name, (both, _) in sets(self).items()},
    )
    track = InsightFaceTrack(test_set=test_set, is_masked=is_masked)
    result = track.measure(embedding, identity, QUICK)
    mask, every = (result.values[name].value for name in ("Mask", "MR-All"))
    assert mask is not None
    assert every is not None
    assert result.score.value == 0.25 * mask + 0.75 * every
    fnmr = result.parts["Mask"].rates[0].fnmr.value
    assert fnmr is not None
    assert mask == 1 - fnmr
    assert "Children has no genuine pairs and is not measured." in result.notes


def test_a_missing_part_refuses_the_score_and_not_the_rest(
    faces: tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]],
) -> None:
    embedding, identity, is_masked = faces
    track = WebFace260MTrack(is_masked=np.zeros_like(is_masked), scene=np.full(600, ""), fmr=1e-3)
    result = track.measure(embedding, identity, QUICK)
    assert list(result.parts) == ["SFR-All"]
    assert result.score.value is None
    assert result.score.flag == "refused: MFR-All is missing"


def test_the_result_is_json_and_does_not_depend_on_how_it_is_computed(
    faces: tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]],
) -> None:
    embedding, identity, is_masked = faces
    track = WebFace260MTrack(is_masked=is_masked, scene=np.full(600, "wild"), fmr=1e-3)
    results = [
        track.measure(embedding, identity, Options(precision=precision, replicates=10))
        for precision in ("float32", "bfloat16")
    ]
    texts = [json.dumps(result.to_json(), allow_nan=False) for result in results]
    assert texts[0] == texts[1]
    content = json.loads(texts[0])
    assert content["parts"]["SFR-All"]["totals"]["webface260m"]["self_pairs"] == 400
    assert content["values"]["SFR-All"]["low"] <= content["values"]["SFR-All"]["value"]


def test_the_score_has_an_interval_from_drawing_both_parts_together(
    faces: tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]],
) -> None:
    embedding, identity, is_masked = faces
    track = WebFace260MTrack(is_masked=is_masked, scene=np.full(600, "wild"), fmr=1e-3)
    result = track.measure(embedding, identity, Options(replicates=100))
    drawn = [result.parts[name].drawn[:, 0] for name in ("MFR-All", "SFR-All")]
    together = 0.25 * drawn[0] + 0.75 * drawn[1]
    low, high = np.quantile(together, [0.025, 0.975])
    assert np.array_equal(result.drawn, together)
    assert (result.score.low, result.score.high) == (low, high)


def test_the_score_of_parts_that_share_nobody_is_drawn_from_all_people(
    faces: tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    embedding, identity, is_masked = faces
    sets = InsightFaceTrack.sets
    monkeypatch.setattr(
        InsightFaceTrack,
        "sets",
        lambda self: {name: (both, 1e-2) for name, (both, _) in sets(self).items()},
    )
    test_set = np.where(identity < 30, "mask", "african")
    track = InsightFaceTrack(test_set=test_set, is_masked=is_masked)
    result = track.measure(embedding, identity, Options(replicates=100))
    assert result.score.low is not None
    assert result.score.high is not None
    assert result.score.value is not None
    assert result.score.low < result.score.value < result.score.high
    ends = [result.values[name] for name in ("Mask", "MR-All")]
    added = sum(
        weight * (value.high - value.low)
        for weight, value in zip((0.25, 0.75), ends, strict=True)
        if value.high is not None and value.low is not None
    )
    assert result.score.high - result.score.low < added


def test_images_that_are_not_kept_take_no_part(
    faces: tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]],
) -> None:
    embedding, identity, is_masked = faces
    keep = np.arange(600) % 5 != 0
    embedding = np.where(keep[:, None], embedding, np.nan)
    scene = np.full(600, "wild")
    found = WebFace260MTrack(is_masked=is_masked, scene=scene, fmr=1e-3).measure(
        embedding, np.where(keep, identity, -1), QUICK, keep=keep
    )
    alone = WebFace260MTrack(is_masked=is_masked[keep], scene=scene[keep], fmr=1e-3).measure(
        embedding[keep], identity[keep], QUICK
    )
    assert found.values == alone.values
    with pytest.raises(UserError, match=r"keep: found shape \(5,\)"):
        WebFace260MTrack(is_masked=is_masked, scene=scene).measure(
            embedding, identity, QUICK, keep=keep[:5]
        )


def test_faults_are_named(
    faces: tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.bool_]],
) -> None:
    embedding, identity, is_masked = faces
    with pytest.raises(UserError, match=r"test_set: found 'asian'; .*did you mean"):
        InsightFaceTrack(test_set=np.array(["asian"]), is_masked=np.array([True]))
    track = WebFace260MTrack(is_masked=is_masked, scene=np.full(5, "wild"))
    with pytest.raises(UserError, match=r"scene: found shape \(5,\)"):
        track.measure(embedding, identity, QUICK)
