"""The proxy: repeatable scores that are shared, hopeless candidates stopped, no crash on NaN."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from toys import make_store, pattern_face

from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.models.ridnet import Architecture, Block, Stage
from openmfr.models.ridnet import Path as NetworkPath
from openmfr.search.proxy import Proxy, ProxyConfig, ProxyScore, area_of_all_pairs

BRIEF = ProxyConfig(identities=16, images=6, steps=12, batch=16, looks=3, learning_rate=0.4)
SMALL = Architecture(
    input_size=16,
    stem=8,
    neck=8,
    stages=(
        Stage(
            channels=8,
            width=8,
            depth=1,
            pattern=(Block(paths=(NetworkPath(kernel="1", depth=2),) * 2),),
        ),
    ),
)
CPU = torch.device("cpu")


def hidden_face(identity: int, image: int, size: int) -> npt.NDArray[np.uint8]:
    """A pattern that says who it is, in a light that differs between images: to be learnt."""
    rng = np.random.default_rng([identity, image])
    light = rng.integers(-70, 70, (2, 2, 3)).repeat(size // 2, axis=0).repeat(size // 2, axis=1)
    picture = 0.35 * (pattern_face(identity, image, size) - 128.0) + light + 128
    shown: npt.NDArray[np.uint8] = np.clip(picture, 0, 255).astype(np.uint8)
    return shown


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("faces") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toys.pattern_face", hidden_face)
        return make_store(path, identities=16, images=6, size=32)


@pytest.fixture(scope="module")
def labels(store: Store) -> Labels:
    return Labels.read(store.path / "labels.parquet")


def test_a_candidate_has_one_score_whoever_asks(store: Store, labels: Labels) -> None:
    torch.manual_seed(1)
    first = Proxy(store, labels, BRIEF, CPU).score(SMALL)
    torch.manual_seed(2)
    again = Proxy(store, labels, BRIEF, CPU)
    again.score(replace(SMALL, stem=16))
    second = again.score(SMALL)
    assert replace(first, seconds=0) == replace(second, seconds=0)
    assert first.steps == 12
    assert [step for step, _ in first.history] == [4, 8, 12]
    assert Proxy(store, labels, replace(BRIEF, seed=1), CPU).score(SMALL).history != first.history


def test_training_helps_on_people_who_were_set_aside(store: Store, labels: Labels) -> None:
    briefly = Proxy(store, labels, replace(BRIEF, steps=1, looks=1), CPU).score(SMALL)
    longer = Proxy(store, labels, replace(BRIEF, steps=60, looks=1), CPU).score(SMALL)
    assert longer.accuracy > briefly.accuracy + 0.1


def test_nobody_is_trained_on_and_measured_by(store: Store, labels: Labels) -> None:
    found = Proxy(store, labels, BRIEF, CPU)
    training, measured = found._rows
    people = labels.identity
    assert not set(people[training]) & set(people[measured])
    assert len(set(people[measured])) == 4


def test_images_that_labels_leave_out_are_not_used(store: Store, labels: Labels) -> None:
    drop = np.arange(len(labels)) % 3 == 0
    found = Proxy(store, labels.without(drop, reason="blurred"), BRIEF, CPU)
    assert not set(np.concatenate(found._rows).tolist()) & set(np.flatnonzero(drop).tolist())


def test_scores_are_kept_for_other_workers(
    store: Store, labels: Labels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Proxy(store, labels, BRIEF, CPU, cache=tmp_path).score(SMALL)
    monkeypatch.setattr(Proxy, "_train", lambda *_: pytest.fail("it was trained again"))
    told: list[tuple[int, float]] = []

    def report(step: int, accuracy: float) -> bool:
        told.append((step, accuracy))
        return True

    again = Proxy(store, labels, BRIEF, CPU, cache=tmp_path).score(SMALL, report=report)
    assert again == first
    assert tuple(told) == first.history


def test_a_cache_does_not_mix_what_was_scored_differently(
    store: Store, labels: Labels, tmp_path: Path
) -> None:
    other = labels.without(np.arange(len(labels)) == 0, reason="blurred")
    for table, config in ((labels, BRIEF), (other, BRIEF), (labels, replace(BRIEF, seed=1))):
        Proxy(store, table, config, CPU, cache=tmp_path).score(SMALL)
    assert len(list(tmp_path.rglob(f"{SMALL.fingerprint}.json"))) == 3


def test_a_hopeless_candidate_is_stopped_and_not_kept(
    store: Store, labels: Labels, tmp_path: Path
) -> None:
    found = Proxy(store, labels, BRIEF, CPU, cache=tmp_path)
    score = found.score(SMALL, report=lambda *_: False)
    assert score.is_stopped
    assert score.steps == 8, "not before the second look"
    assert score.accuracy == score.history[-1][1]
    assert not list(tmp_path.rglob("*.json"))
    assert not found.score(SMALL).is_stopped


def test_refusing_at_the_last_look_stops_nothing(store: Store, labels: Labels) -> None:
    score = Proxy(store, labels, BRIEF, CPU).score(SMALL, report=lambda step, _: step < 12)
    assert not score.is_stopped


def test_a_training_that_diverges_scores_nothing_and_says_why(
    store: Store, labels: Labels, tmp_path: Path
) -> None:
    wild = replace(BRIEF, learning_rate=1e30)
    score = Proxy(store, labels, wild, CPU, cache=tmp_path).score(SMALL)
    assert score.accuracy == 0
    assert "finite" in score.reason or "nan" in score.reason
    (kept,) = tmp_path.rglob("*.json")
    assert ProxyScore(**{**json.loads(kept.read_text()), "history": ()}) == score


def test_chance_is_one_half_and_a_perfect_order_is_one() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(20), 10)
    assert area_of_all_pairs(rng.normal(size=(200, 64)), people) == pytest.approx(0.5, abs=0.03)
    corners = np.eye(20)[people] + rng.normal(size=(200, 20)) * 0.01
    assert area_of_all_pairs(corners, people) == 1.0


def test_area_is_the_share_of_pairs_in_the_right_order() -> None:
    rng = np.random.default_rng(1)
    embedding, people = rng.normal(size=(12, 3)), np.repeat(np.arange(4), 3)
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    score = unit @ unit.T
    pairs = [(a, b) for a in range(12) for b in range(a)]
    genuine = [score[a, b] for a, b in pairs if people[a] == people[b]]
    impostor = [score[a, b] for a, b in pairs if people[a] != people[b]]
    right = sum(g > i for g in genuine for i in impostor) / (len(genuine) * len(impostor))
    assert area_of_all_pairs(embedding, people) == pytest.approx(right)
    assert math.isfinite(area_of_all_pairs(np.zeros((12, 3)), people))


def test_too_few_people_are_refused(store: Store, labels: Labels) -> None:
    few = labels.without(labels.identity >= 4, reason="left out")
    with pytest.raises(UserError, match="holdout_identities"):
        Proxy(store, few, BRIEF, CPU)


def test_labels_of_another_store_are_refused(labels: Labels, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", identities=9, images=6)
    with pytest.raises(UserError, match="rows for store"):
        Proxy(other, labels, BRIEF, CPU)


def test_settings_that_cannot_be_are_named_together() -> None:
    with pytest.raises(UserError, match=r"proxy.set_aside: found 1.0(.|\n)*proxy.looks: found 9"):
        ProxyConfig(set_aside=1.0, steps=8, looks=9)
