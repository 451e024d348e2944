"""A pass over planted noise, real and made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.cleaning.changes import DROP, MERGE, MOVE, find_changes, read_vetoes
from openmfr.cleaning.clean import clean
from openmfr.cleaning.config import CleanConfig
from openmfr.cleaning.judge import judge
from openmfr.cleaning.relabel import Moves, _mean_of_others
from openmfr.cleaning.thresholds import choose_moves
from openmfr.data.labels import Labels
from openmfr.data.noise import FLIP, OUTLIER, NoiseConfig, plant_noise
from openmfr.data.texts import Texts
from openmfr.errors import UserError

FloatArray = npt.NDArray[np.float32]


def a_table(identity: npt.NDArray[np.int64]) -> Labels:
    count = identity.size
    nothing = Texts.constant("", count)
    return Labels(
        identity=identity,
        keep=np.ones(count, dtype=np.bool_),
        reason=nothing,
        center_score=np.full(count, np.nan, dtype=np.float32),
        is_masked=np.zeros(count, dtype=np.bool_),
        mask_style=nothing,
        group=nothing,
        store_fingerprint="store",
    )


def people(count: int = 60, images: int = 12, spread: float = 0.9) -> tuple[FloatArray, Labels]:
    """Embeddings of people whose images agree by a cosine of about 1 / (1 + spread²)."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((count, 64))
    identity = np.repeat(np.arange(count), images)
    noise = spread * rng.standard_normal((identity.size, 64))
    return (centers[identity] + noise).astype(np.float32), a_table(identity)


GIVEN = CleanConfig(inter_threshold=0.8, relabel_threshold=0.6)


def test_planted_noise_is_found_and_the_parent_undoes_the_pass() -> None:
    embedding, labels = people()
    planted = plant_noise(labels, NoiseConfig(outlier_identities=8, splits=0.3))
    result = clean(planted.noisy, embedding, GIVEN)
    rates = judge(planted, result.labels).rates
    assert rates["flips found"] >= 0.95
    assert rates["flips moved home"] >= 0.9
    assert rates["splits rejoined"] >= 0.9
    assert rates["wrong merges"] == 0
    assert rates["unplanted images dropped"] <= 0.03
    assert result.labels.parent == planted.noisy.fingerprint


def test_the_share_of_strangers_asked_for_is_the_share_of_outliers_found() -> None:
    embedding, labels = people(spread=1.4)
    planted = plant_noise(labels, NoiseConfig(outlier_identities=10, flips=0.0, splits=0.0))
    for share in (0.8, 0.99):
        config = CleanConfig(merge=False, relabel=False, strangers_found=share)
        found = judge(planted, clean(planted.noisy, embedding, config).labels)
        # 60 outliers: three standard deviations of the share.
        spread = 3 * np.sqrt(share * (1 - share) / found.outliers)
        assert found.rates["outliers dropped"] == pytest.approx(share, abs=max(spread, 0.05))


def test_masked_faces_have_a_threshold_of_their_own() -> None:
    embedding, labels = people()
    rng = np.random.default_rng(1)
    is_masked = rng.random(len(labels)) < 0.3
    # What a mask does to a weak recogniser: all masked faces come near to one another.
    embedding[is_masked] = embedding[is_masked] + 2.5 * rng.standard_normal(64)
    masked = replace(labels, is_masked=is_masked)
    config = CleanConfig(merge=False, relabel=False)
    apart = clean(masked, embedding, config).fit.threshold
    assert apart[is_masked].max() != pytest.approx(apart[~is_masked].max(), abs=0.01)
    together = clean(masked, embedding, replace(config, by_condition=False)).fit.threshold
    assert np.ptp(together) == 0


def test_vetoes_in_the_file_of_a_pass_are_obeyed_by_the_next(tmp_path: Path) -> None:
    embedding, labels = people()
    planted = plant_noise(labels, NoiseConfig(outlier_identities=8, splits=0.3))
    result = clean(planted.noisy, embedding, GIVEN)
    path = tmp_path / "changes.csv"
    result.changes.write(path, [f"{row}.jpg" for row in range(len(labels))])
    lines = path.read_text().splitlines()
    refused = []
    for kind in (DROP, MOVE, MERGE):
        at = next(i for i, line in enumerate(lines) if line.startswith(f"{kind},"))
        lines[at] += "no"
        refused.append(lines[at].split(","))
    path.write_text("\n".join(lines))
    again = clean(planted.noisy, embedding, GIVEN, vetoes=read_vetoes(path, len(labels)))
    for row in (int(cells[1]) for cells in refused[:2]):
        assert again.labels.keep[row]
    pair = {(int(before), int(after)) for before, after in [(refused[2][3], refused[2][4])]}
    merges = again.changes.of(MERGE)
    made = set(zip(merges.before.tolist(), merges.after.tolist(), strict=True))
    assert not pair & made
    assert made, "other merges still happen"


def test_changes_between_two_tables_are_those_of_the_pass() -> None:
    embedding, labels = people()
    planted = plant_noise(labels, NoiseConfig(outlier_identities=8, splits=0.3))
    result = clean(planted.noisy, embedding, GIVEN)
    found = find_changes(planted.noisy, result.labels)
    for kind in (DROP, MOVE, MERGE):
        assert len(found.of(kind)) == len(result.changes.of(kind)) > 0
    assert len(find_changes(planted.noisy, planted.noisy)) == 0


def test_a_threshold_that_drops_everything_is_refused() -> None:
    embedding, labels = people(count=6)
    with pytest.raises(UserError, match="below which every image scores"):
        clean(labels, embedding, CleanConfig(intra_threshold=1.0, merge=False, relabel=False))


def test_the_row_of_a_broken_embedding_is_named() -> None:
    embedding, labels = people(count=6)
    embedding[17] = np.nan
    with pytest.raises(UserError, match="embedding 17"):
        clean(labels, embedding)


def test_an_only_image_is_kept_as_nothing_speaks_against_it() -> None:
    embedding, labels = people(count=8)
    identity = labels.identity.copy()
    identity[0] = 99
    config = CleanConfig(intra_threshold=0.9, merge=False, relabel=False)
    assert clean(a_table(identity), embedding, config).labels.keep[0]


def test_of_two_copies_of_a_photo_one_stays() -> None:
    embedding, labels = people(count=8)
    embedding[5] = 2 * embedding[4]
    config = CleanConfig(
        intra_threshold=-1.0, merge=False, relabel=False, duplicate_threshold=0.9999
    )
    table = clean(labels, embedding, config).labels
    assert table.keep[[4, 5]].sum() == 1
    assert table.keep.sum() == len(labels) - 1


def test_settings_out_of_range_are_named_together() -> None:
    with pytest.raises(UserError, match=r"(?s)intra_threshold.*wrong_moves.*center"):
        CleanConfig(intra_threshold=2.0, wrong_moves=-1.0, center="median")  # type: ignore[arg-type]


def test_planted_noise_has_the_amount_asked_for_and_is_known() -> None:
    _, labels = people()
    planted = plant_noise(labels, NoiseConfig(outlier_identities=8, flips=0.1, splits=0.25))
    truth, noisy = planted.truth, planted.noisy
    images = 52 * 12
    assert (truth.reason == FLIP).sum() == int(0.1 * images)
    assert (truth.reason == OUTLIER).sum() == int(0.1 * images)
    flipped = truth.reason == FLIP
    assert (noisy.identity[flipped] != truth.identity[flipped]).all()
    assert noisy.kept_identities.size == 52 + 13
    assert noisy.parent == truth.fingerprint
    assert truth.parent == labels.fingerprint


def test_too_few_strangers_are_an_error() -> None:
    _, labels = people(count=8)
    with pytest.raises(UserError, match="set more identities aside"):
        plant_noise(labels, NoiseConfig(outlier_identities=1, outliers=0.5))


def reference(data: Path) -> tuple[FloatArray, Labels]:
    """Embeddings of the training set by a public network, and its labels."""
    saved = np.load(data / "reference" / "r1_train_celeba.npz")
    names = np.array([path.split("/")[0] for path in saved["path"]])
    return saved["embedding"], a_table(np.unique(names, return_inverse=True)[1].astype(np.int64))


def test_a_clean_table_stays_as_it_is_though_some_of_its_images_are_hard() -> None:
    embedding, labels = people(spread=1.2)
    config = CleanConfig(intra_threshold=-1.0, merge=False, relabel_threshold=0.0)
    result = clean(labels, embedding, config)
    assert (result.fit.own.score < result.fit.own.strangers.max()).any()
    assert len(result.changes) == 0


def test_nothing_moves_where_the_wrong_images_show_strangers(real_data: Path) -> None:
    embedding, labels = reference(real_data)
    planted = plant_noise(labels, NoiseConfig(flips=0.0, splits=0.0))
    result = clean(planted.noisy, embedding, CleanConfig(inter_threshold=0.84))
    assert result.relabel is not None
    assert (result.changes.kind == "move").sum() <= 0.05 * (result.changes.kind == "drop").sum()
    assert judge(planted, result.labels).rates["outliers dropped"] >= 0.97


def test_a_network_that_knows_little_finds_fewer_wrong_images_and_drops_no_more_right_ones() -> (
    None
):
    embedding, labels = people(spread=2.0)
    planted = plant_noise(labels, NoiseConfig(outlier_identities=8, splits=0.0))
    rates = {}
    for share in (0.03, 0.06, 1.0):
        config = CleanConfig(merge=False, relabel=False, right_dropped=share)
        rates[share] = judge(planted, clean(planted.noisy, embedding, config).labels).rates
    assert rates[1.0]["unplanted images dropped"] > 0.15
    assert rates[1.0]["flips found"] > 0.95
    for share in (0.03, 0.06):
        assert rates[share]["unplanted images dropped"] == pytest.approx(share, rel=0.6)
    assert 0.8 < rates[0.03]["flips found"] < rates[0.06]["flips found"] < 1


def test_flips_find_home_though_split_identities_are_not_merged(real_data: Path) -> None:
    embedding, labels = reference(real_data)
    planted = plant_noise(labels, NoiseConfig(seed=0))
    rates = judge(planted, clean(planted.noisy, embedding, CleanConfig(merge=False)).labels).rates
    assert rates["flips moved home"] >= 0.92
    assert rates["wrong moves"] <= 0.03


def test_the_share_of_wrong_moves_is_foretold_from_what_strangers_find_by_chance() -> None:
    rng = np.random.default_rng(0)
    images, homes = 40_000, 12_000
    halves = rng.normal(0.0, 0.3, (2, images))
    halves[0, :homes] = rng.normal(1.0, 0.3, homes)
    rows = np.arange(images)
    moves = Moves(
        image=rows,
        identity=rows,
        evidence=halves.max(axis=0),
        by_chance=halves.min(axis=0),
        score=halves[0],
    )
    for allowed in (0.02, 0.05, 0.2):
        curve = choose_moves(moves, allowed)
        moved = moves.evidence >= curve.chosen
        is_wrong = (rows >= homes) | (halves[1] > halves[0])
        assert is_wrong[moved].mean() == pytest.approx(allowed, rel=0.25)
        at = int(np.flatnonzero(curve.threshold == curve.chosen)[0])
        assert curve.found[at] == pytest.approx(moved[:homes].mean(), abs=0.03)


def test_real_embeddings_with_planted_noise_reach_the_published_figures(
    real_data: Path,
) -> None:
    embedding, labels = reference(real_data)
    planted = plant_noise(labels, NoiseConfig(seed=0))
    found = judge(planted, clean(planted.noisy, embedding).labels)
    rates = found.rates
    assert rates["flips found"] >= 0.985
    assert rates["unplanted images dropped"] <= 0.03
    assert rates["flips moved home"] >= 0.93
    assert rates["wrong moves"] <= 0.03
    assert rates["splits rejoined"] >= 0.92
    assert rates["wrong merges"] <= 0.02


def test_an_image_is_no_rival_of_itself_and_what_was_not_listed_counts_for_nothing() -> None:
    index = np.array([[0, 2, 1], [2, 0, -1], [0, 1, -1], [-1, -1, -1]])
    score = np.array([[1, 0.6, 0.4], [0.8, 0.2, -np.inf], [0.5, 0.3, -np.inf], [-np.inf] * 3])
    assert _mean_of_others(index, score) == pytest.approx([0.5, 0.5, 0.4, 0.0])
