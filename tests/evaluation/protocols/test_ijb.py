"""IJB's templates against slow and obvious ones, and its rates against those of every pair."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.errors import UserError
from openmfr.evaluation.comparisons import Comparisons, cosine_of_pairs
from openmfr.evaluation.protocols import many_pairs
from openmfr.evaluation.protocols.ijb import IJB_FARS, TemplatePairs, read_templates
from openmfr.evaluation.protocols.many_pairs import measure_many, score_many, score_margin
from openmfr.evaluation.verification import measure

PEOPLE, TEMPLATES = 12, 40


@pytest.fixture
def meta(tmp_path: Path) -> Path:
    """A set's lists: 200 images of 40 templates, numbered from 1,000 in steps of 3."""
    rng = np.random.default_rng(0)
    template = np.concatenate([np.arange(TEMPLATES), rng.integers(0, TEMPLATES, 160)])
    rng.shuffle(template)
    lines = [f"{i + 1}.jpg {1000 + 3 * t} {rng.integers(3)}" for i, t in enumerate(template)]
    (tmp_path / "ijbc_face_tid_mid.txt").write_text("\n".join(lines) + "\n")
    lines = []
    for gallery in range(PEOPLE):
        for probe in range(PEOPLE, TEMPLATES):
            label = int(probe % PEOPLE == gallery)
            lines.append(f"{1000 + 3 * gallery} {1000 + 3 * probe} {label}")
    (tmp_path / "ijbc_template_pair_label.txt").write_text("\n".join(lines) + "\n")
    points = " ".join(["30.5"] * 10)
    lines = [f"{i + 1}.jpg {points} {rng.uniform(0.5, 1):.6f}" for i in range(200)]
    (tmp_path / "ijbc_name_5pts_score.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def embeddings(pairs: TemplatePairs) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(1)
    center = rng.normal(size=(PEOPLE, 16))
    vectors = center[pairs.template % PEOPLE] + rng.normal(size=(len(pairs.image), 16))
    return (vectors * rng.uniform(0.5, 20, (len(pairs.image), 1))).astype(np.float32)


def slow_pool(
    pairs: TemplatePairs, embedding: npt.NDArray[np.float32], length: bool, score: bool
) -> npt.NDArray[np.float64]:
    rows = embedding.astype(np.float64)
    if not length:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if score:
        assert pairs.detector_score is not None
        rows = rows * pairs.detector_score[:, None]
    pooled = []
    for template in range(TEMPLATES):
        of_template = pairs.template == template
        media = [
            rows[of_template & (pairs.medium == medium)].mean(axis=0)
            for medium in set(pairs.medium[of_template].tolist())
        ]
        total = np.mean(media, axis=0)
        pooled.append(total / np.linalg.norm(total))
    return np.array(pooled)


def test_the_published_lists_are_read(meta: Path) -> None:
    pairs = read_templates(meta)
    assert len(pairs) == PEOPLE * (TEMPLATES - PEOPLE)
    assert pairs.image[:2] == ["1.jpg", "2.jpg"]
    assert pairs.template_id.tolist() == list(range(1000, 1000 + 3 * TEMPLATES, 3))
    assert pairs.is_genuine.sum() == TEMPLATES - PEOPLE
    assert pairs.detector_score is not None
    assert pairs.detector_score.shape == (200,)
    (meta / "ijbc_name_5pts_score.txt").unlink()
    assert read_templates(meta).detector_score is None


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("score", [True, False])
def test_a_template_is_the_mean_of_media_of_means_of_images(
    meta: Path, length: bool, score: bool
) -> None:
    pairs = read_templates(meta)
    embedding = embeddings(pairs)
    pooled = pairs.pool(embedding, use_length=length, use_detector_score=score)
    np.testing.assert_allclose(pooled, slow_pool(pairs, embedding, length, score), atol=1e-12)


def test_the_order_of_the_images_does_not_matter(meta: Path) -> None:
    pairs = read_templates(meta)
    embedding = embeddings(pairs)
    order = np.random.default_rng(2).permutation(200)
    assert pairs.detector_score is not None
    turned = replace(
        pairs,
        image=[pairs.image[i] for i in order],
        template=pairs.template[order],
        medium=pairs.medium[order],
        detector_score=pairs.detector_score[order],
    )
    np.testing.assert_allclose(turned.pool(embedding[order]), pairs.pool(embedding), atol=1e-12)


def test_people_are_what_genuine_pairs_hold_together(meta: Path) -> None:
    pairs = read_templates(meta)
    compared = pairs.compare(embeddings(pairs))
    assert np.unique(compared.identity_a).size == PEOPLE
    owner = pairs.index_b % PEOPLE
    assert len(set(zip(owner.tolist(), compared.identity_b.tolist(), strict=True))) == PEOPLE
    pooled = pairs.pool(embeddings(pairs))
    np.testing.assert_allclose(
        compared.score, cosine_of_pairs(pooled, pairs.index_a, pairs.index_b), atol=1e-6
    )


def test_missing_images_are_listed_or_left_out(meta: Path) -> None:
    pairs = read_templates(meta)
    sources = [f"loose_crop/{name}" for name in pairs.image]
    order = np.random.default_rng(3).permutation(200)
    turned = [sources[i] for i in order]
    assert (order[pairs.rows(turned)] == np.arange(200)).all()
    counts = np.bincount(pairs.template)
    spare = int(np.flatnonzero(counts[pairs.template] > 1)[0])
    lacking = sources[:spare] + sources[spare + 1 :]
    with pytest.raises(UserError, match=rf"1 that are not in the store: {spare + 1}\.jpg"):
        pairs.rows(lacking)
    rows = pairs.rows(lacking, allow_missing=True)
    assert rows[spare] == -1
    kept = pairs.only(rows >= 0)
    assert len(kept.image) == 199
    assert len(kept.compare(embeddings(kept))) == len(pairs)


def test_a_template_without_images_is_named(meta: Path) -> None:
    pairs = read_templates(meta)
    with pytest.raises(UserError, match=r"template 1006: found no image that could be used"):
        pairs.only(pairs.template != 2)
    embedding = embeddings(pairs)
    embedding[pairs.template == 2] = 0
    with pytest.raises(UserError, match=r"template 1006: found an embedding of length 0"):
        pairs.pool(embedding)


def test_embeddings_that_do_not_fit_are_refused(meta: Path) -> None:
    pairs = read_templates(meta)
    embedding = embeddings(pairs)
    with pytest.raises(UserError, match=r"embeddings: found 199; allowed: 200"):
        pairs.compare(embedding[1:])
    embedding[7] = 0
    with pytest.raises(UserError, match=r"embedding 7 \(8\.jpg\): found length 0"):
        pairs.pool(embedding, use_length=False)
    embedding[7, 3] = np.nan
    with pytest.raises(UserError, match=r"embedding 7 \(8\.jpg\): found length nan"):
        pairs.compare(embedding)
    with pytest.raises(UserError, match="detector scores: found none"):
        replace(pairs, detector_score=None).pool(embeddings(pairs))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("ijbc_template_pair_label.txt", "1000 1003 1\n1000 77 0\n", "row 2: found 1000 77 0"),
        ("ijbc_template_pair_label.txt", "1000 1003 2\n", "row 1: found 1000 1003 2"),
        ("ijbc_template_pair_label.txt", "1000 1003\n", "no readable list"),
        ("ijbc_template_pair_label.txt", "1000 1003 x\n", "no readable list"),
        ("ijbc_face_tid_mid.txt", "", "no readable list"),
        ("ijbc_name_5pts_score.txt", "2.jpg" + " 1" * 11 + "\n", "found 1 images"),
        ("ijbb_face_tid_mid.txt", "1.jpg 1 1\n", "found 2 lists"),
    ],
)
def test_a_faulty_list_is_refused(meta: Path, name: str, text: str, message: str) -> None:
    (meta / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_templates(meta)


def test_lists_of_other_images_or_of_nothing_are_refused(meta: Path) -> None:
    scores = meta / "ijbc_name_5pts_score.txt"
    scores.write_text(scores.read_text().replace("8.jpg", "9.jpg", 1))
    with pytest.raises(UserError, match=r"row 8: found 9\.jpg; allowed: 8\.jpg"):
        read_templates(meta)
    (meta / "ijbc_face_tid_mid.txt").unlink()
    with pytest.raises(UserError, match=r"found 0 lists \*_face_tid_mid\.txt"):
        read_templates(meta)


def test_an_impostor_pair_that_genuine_pairs_link_is_refused(meta: Path) -> None:
    pairs = read_templates(meta)
    row = int(np.flatnonzero(pairs.is_genuine)[0])
    twice = replace(
        pairs,
        index_a=np.append(pairs.index_a, pairs.index_a[row]),
        index_b=np.append(pairs.index_b, pairs.index_b[row]),
        is_genuine=np.append(pairs.is_genuine, False),
    )
    with pytest.raises(UserError, match="impostor, though genuine pairs link both"):
        twice.compare(embeddings(pairs))


@pytest.mark.parametrize("score", ["nan", "-0.5", "inf"])
def test_a_detector_score_that_is_none_is_refused_with_its_row(meta: Path, score: str) -> None:
    (path,) = meta.glob("*_name_5pts_score.txt")
    lines = path.read_text().splitlines()
    lines[2] = f"{lines[2].rsplit(' ', 1)[0]} {score}"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=rf"row 3, score: found {score}; allowed: finite numbers"):
        read_templates(meta)


def test_draws_that_run_out_of_impostors_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = comparisons(5)
    assert measure_many(pairs, fmrs=FMRS, replicates=40).notes == ()
    monkeypatch.setattr(many_pairs, "_ROOM", 1.0)
    short = measure_many(pairs, fmrs=FMRS, replicates=40)
    assert "At FMR 0.1, " in short.notes[0]
    assert "ran out of impostor scores" in short.notes[0]
    assert short.to_json()["notes"] == list(short.notes)


def comparisons(seed: int, *, digits: int = 15) -> Comparisons:
    """4,000 pairs of 60 people, with ties if scores are rounded."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 60, (2, 4_000))
    b[:300] = a[:300]
    score = np.where(a == b, 0.5, 0.0) + 0.3 * rng.normal(size=a.size)
    return Comparisons(
        score=np.round(score, digits),
        is_genuine=a == b,
        index_a=a,
        index_b=b,
        identity_a=a,
        identity_b=b,
    )


FMRS = (1e-3, 1e-2, 1e-1)


@pytest.mark.parametrize("digits", [15, 2, 1], ids=["no ties", "ties", "many ties"])
def test_rates_and_intervals_are_those_of_measuring_every_pair(digits: int) -> None:
    pairs = comparisons(0, digits=digits)
    whole = measure(pairs, fmrs=FMRS, replicates=60)
    assert measure_many(pairs, fmrs=FMRS, replicates=60).rates == whole.rates
    assert measure_many(pairs, fmrs=FMRS, replicates=0).rates == tuple(
        replace(rate, fnmr=replace(rate.fnmr, low=None, high=None)) for rate in whole.rates
    )


def test_rates_are_those_of_scikit_learn() -> None:
    metrics: Any = pytest.importorskip("sklearn.metrics", reason="a reference only")
    pairs = comparisons(1)
    fpr, tpr, _ = metrics.roc_curve(pairs.is_genuine, pairs.score, drop_intermediate=False)
    result = measure_many(pairs, fmrs=(2e-3, 1e-2, 0.5), replicates=0)
    for rate in result.rates:
        assert rate.tar.value == pytest.approx(tpr[fpr <= rate.fmr].max(), abs=1e-12)


def test_too_few_impostors_are_flagged_or_refused() -> None:
    rates = measure_many(comparisons(2), fmrs=IJB_FARS, replicates=0).rates
    assert [rate.fnmr.is_refused for rate in rates] == [True, True, True, False, False, False]
    assert "needs at least 1,000,000 impostor pairs" in rates[0].fnmr.flag
    assert "rests on 3.6 expected false matches" in rates[3].fnmr.flag


def test_scores_that_are_no_numbers_and_rates_out_of_range_are_refused() -> None:
    pairs = comparisons(3)
    score = pairs.score.copy()
    score[-1] = np.nan
    with pytest.raises(UserError, match="impostor score"):
        measure_many(replace(pairs, score=score), fmrs=(0.01,))
    with pytest.raises(UserError, match="fmr: found 1"):
        measure_many(pairs, fmrs=(0.1, 1.0))
    with pytest.raises(UserError, match="genuine scores: found none"):
        measure_many(pairs.only(~pairs.is_genuine), fmrs=(0.01,))
    with pytest.raises(UserError, match="impostor scores: found none"):
        measure_many(pairs.only(pairs.is_genuine), fmrs=(0.01,))


@pytest.mark.parametrize("block", [1, 7, 128])
@pytest.mark.parametrize("sparse", [0, 10**9], ids=["one by one", "blocks"])
def test_scores_do_not_depend_on_how_pairs_are_cut(
    monkeypatch: pytest.MonkeyPatch, block: int, sparse: int
) -> None:
    monkeypatch.setattr(many_pairs, "_BLOCK", block)
    monkeypatch.setattr(many_pairs, "_SPARSE", sparse)
    rng = np.random.default_rng(4)
    direction = rng.normal(size=(50, 32))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    a, b = rng.integers(3, 30, 500), rng.integers(20, 50, 500)
    off = np.abs(score_many(direction, a, b) - cosine_of_pairs(direction, a, b))
    assert off.max() < score_margin(32)


@pytest.mark.parametrize("spread", [1e-5, 1e-3, 1.0])
def test_rates_are_exact_where_float32_cannot_tell_scores_apart(
    monkeypatch: pytest.MonkeyPatch, meta: Path, spread: float
) -> None:
    pairs = read_templates(meta)
    pooled = np.random.default_rng(5).normal(size=16) + spread * pairs.pool(embeddings(pairs))
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    screened = pairs.compare_pooled(pooled)
    exact = replace(screened, score=cosine_of_pairs(pooled, pairs.index_a, pairs.index_b))
    fars = (0.02, 0.1, 0.3)
    right = measure_many(exact, fmrs=fars, replicates=0).rates
    for block in (3, 128):
        monkeypatch.setattr(many_pairs, "_BLOCK", block)
        found = pairs.measure(pooled, fars=fars, replicates=0).rates
        assert found == right
    if spread == 1e-5:
        assert measure_many(screened, fmrs=fars, replicates=0).rates != right
