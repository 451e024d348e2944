"""Identification among distractors against the obvious way, and the published lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.errors import UserError
from openmfr.evaluation.protocols import megaface
from openmfr.evaluation.protocols.megaface import best_scores, identify
from openmfr.evaluation.protocols.photo_lists import read_photo_list

IDENTITY = np.array([0, 1, 2, 0, 1, 2, 0, 3, -1, 0, -1])


def faces(seed: int = 0, distractors: int = 500) -> tuple[npt.NDArray[np.float32], ...]:
    rng = np.random.default_rng(seed)
    center = rng.normal(size=(4, 8))
    probe = center[IDENTITY] + 0.8 * rng.normal(size=(IDENTITY.size, 8))
    distractor = rng.normal(size=(distractors, 8))
    return probe.astype(np.float32), (3 * distractor).astype(np.float32)


def unit(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    rows = rows.astype(np.float64)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def obvious_ranks(
    probe: npt.NDArray[np.floating],
    distractor: npt.NDArray[np.floating],
    mate: npt.NDArray[np.floating],
) -> list[int]:
    probe, distractor, mate = unit(probe), unit(distractor), unit(mate)
    ranks = []
    for i, j in np.ndindex(IDENTITY.size, IDENTITY.size):
        if i != j and IDENTITY[i] == IDENTITY[j] >= 0:
            ranks.append(1 + int((distractor @ probe[i] >= probe[i] @ mate[j]).sum()))
    return ranks


@pytest.mark.parametrize("seed", range(5))
def test_rates_are_those_of_ranking_every_mate(seed: int) -> None:
    probe, distractor = faces(seed)
    ranks = np.array(obvious_ranks(probe, distractor, probe))
    result = identify(probe, IDENTITY, distractor, replicates=0)
    assert len(result.rates) == 10
    for last, rate in enumerate(result.rates, start=1):
        assert rate.value == pytest.approx((ranks <= last).mean(), abs=1e-15)
    assert np.unique(ranks).size > 3
    # Four photos of one person, two of two others; one has a single photo, two are unknown.
    assert (result.searches, result.probes, result.identities) == (12 + 2 + 2, 8, 3)


def test_masked_probes_are_searched_among_bare_mates() -> None:
    probe, distractor = faces()
    mate = probe + np.float32(0.3)
    ranks = np.array(obvious_ranks(probe, distractor, mate))
    result = identify(probe, IDENTITY, distractor, mate=mate, replicates=0)
    assert [rate.value for rate in result.rates] == pytest.approx(
        [(ranks <= last).mean() for last in range(1, 11)]
    )


def test_ranks_do_not_depend_on_blocks_even_where_float32_cannot_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=16)
    probe = base + 1e-9 * rng.normal(size=(20, 16))
    distractor = base + 1e-6 * rng.normal(size=(300, 16))
    # Such as only 64 bits tell apart, in one block after another.
    exact = -np.sort(-np.einsum("nd,md->nm", unit(probe), unit(distractor)), axis=1)[:, :5]
    for probes, distractors in ((1, 1), (3, 4), (7, 50), (512, 16_384)):
        monkeypatch.setattr(megaface, "_PROBES", probes)
        monkeypatch.setattr(megaface, "_DISTRACTORS", distractors)
        found = best_scores(probe, distractor, count=5)
        if probes == 1:
            first = found
        np.testing.assert_array_equal(found, first)
        np.testing.assert_allclose(found, exact, atol=1e-15, rtol=0)


def test_a_tie_counts_against_the_mate() -> None:
    same = np.ones((4, 8))
    result = identify(same, np.array([0, 0, 1, 1]), np.ones((20, 8)), replicates=0)
    assert [rate.value for rate in result.rates] == [0.0] * 10


def test_intervals_draw_people_and_hold_the_rate() -> None:
    probe, distractor = faces()
    result = identify(probe, IDENTITY, distractor, replicates=200)
    assert result.rank_1.low is not None
    assert result.rank_1.high is not None
    assert result.rank_1.value is not None
    assert result.rank_1.low < result.rank_1.value < result.rank_1.high
    again = identify(probe, IDENTITY, distractor, replicates=200)
    assert again.rates == result.rates
    assert np.array_equal(again.drawn, result.drawn, equal_nan=True)
    assert json.loads(json.dumps(result.to_json()))["rates"][0]["value"] == result.rank_1.value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, i, d: (p[1:], i, d), "11 identities, 10 embeddings"),
        (lambda p, i, d: (p, i, d[:, :4]), "embeddings of 4 numbers; allowed: 8"),
        (lambda p, i, d: (p, i, d[:9]), "10 with 9 distractors"),
        (lambda p, i, d: (p, np.arange(i.size), d), "nobody with two photos"),
        (lambda p, i, d: (p, np.full(i.size, -1), d), "nobody with two photos"),
        (lambda p, i, d: (p * np.nan, i, d), "found length nan"),
        (lambda p, i, d: (p, i, np.where(np.arange(500)[:, None] == 77, 0, d)), "embedding 77"),
    ],
)
def test_what_does_not_fit_is_refused(
    change: Callable[..., tuple[npt.NDArray[np.float32], ...]], message: str
) -> None:
    probe, distractor = faces()
    with pytest.raises(UserError, match=message):
        identify(*change(probe, IDENTITY, distractor), replicates=0)  # type: ignore[arg-type]


def test_the_kit_s_lists_are_read_without_noise(tmp_path: Path) -> None:
    paths = ["Bo/Bo_1.png", "Ann/Ann_7.png", "Ann/Ann_9.png"]
    probes = tmp_path / "facescrub_features_list.json"
    probes.write_text(json.dumps({"path": paths, "id": ["Bo", "Ann", "Ann"]}))
    noise = tmp_path / "facescrub_noises.txt"
    noise.write_text("# noise\nAnn_9.jpg\nCy_1.png\n")
    listed = read_photo_list(probes, noise=noise)
    assert listed.identity.tolist() == [1, 0, -1]
    assert listed.keep.tolist() == [True, True, False]
    sources = [f"facescrub/{path}" for path in reversed(paths)]
    assert listed.rows(sources).tolist() == [2, 1]
    with pytest.raises(UserError, match=r"an image not in the store: Ann/Ann_7\.png"):
        listed.rows(sources[2:])

    strangers = tmp_path / "megaface_features_list.json_1000_1"
    strangers.write_text(json.dumps({"path": ["112/9@N02/1_0.jpg", "112/9@N02/2_0.jpg"]}))
    noise.write_text("1\t112/9@N02/2_0.jpg\n")
    listed = read_photo_list(strangers, noise=noise)
    assert listed.keep.tolist() == [True, False]
    assert listed.identity.tolist() == [-1, -1]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"path": []}', '{"path": [1]}', '{"path": ["a"], "id": []}'],
)
def test_something_else_than_a_list_of_photos_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(UserError, match=r"list\.json"):
        read_photo_list(tmp_path / "list.json")
    with pytest.raises(UserError, match="no readable JSON"):
        read_photo_list(tmp_path / "nothing.json")


def test_a_list_of_probes_must_say_who_they_are(tmp_path: Path) -> None:
    path = tmp_path / "megaface_features_list.json"
    path.write_text(json.dumps({"path": ["1.jpg"]}))
    assert read_photo_list(path).identity.tolist() == [-1]
    with pytest.raises(UserError, match=r"found no list `id`; .*--distractor-list"):
        read_photo_list(path, is_named=True)
