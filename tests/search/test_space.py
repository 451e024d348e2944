"""The space: everything in it can be built, counted, changed, and found again."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openmfr.errors import UserError
from openmfr.models import count
from openmfr.models.ridnet import SHIPPED, Architecture, Block, Path, RIDNet, shipped_definition
from openmfr.search.parts import cost_of
from openmfr.search.space import NARROW, Option, Space, StageSpace

SMALL = Space(
    stages=(StageSpace(channels=64, widths=(32,), depths=(1, 2)),),
    kernels=("1", "3"),
    path_depths=(2,),
)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    input_size=st.sampled_from([32, 112]),
    stride=st.sampled_from([1, 2]),
)
def test_costs_are_those_of_the_network_that_is_built(
    seed: int, input_size: int, stride: int
) -> None:
    space = Space(
        input_size=input_size,
        stem_stride=stride,
        stages=NARROW.stages[:3],
        paths=(2, 3, 4),
    )
    architecture = space.sample(random.Random(seed))
    with torch.device("meta"):
        network = RIDNet(architecture, embedding_dim=48)
    assert cost_of(architecture, embedding_dim=48) == count(network, input_size)


@pytest.mark.parametrize("name", SHIPPED[:3])
def test_costs_of_shipped_networks_are_counted_without_building_them(name: str) -> None:
    architecture = shipped_definition(name).architecture
    with torch.device("meta"):
        assert cost_of(architecture) == count(RIDNet(architecture), architecture.input_size)


def test_the_size_of_a_space_counts_every_member_once() -> None:
    rng = random.Random(0)
    assert len({SMALL.sample(rng) for _ in range(3_000)}) == SMALL.size() == 60
    assert NARROW.size() > 1e15


def test_the_same_seed_draws_the_same_networks() -> None:
    drawn = [
        [NARROW.sample(rng).fingerprint for _ in range(5)] for rng in map(random.Random, (1, 1, 2))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_decisions_lead_back_to_their_architecture() -> None:
    rng = random.Random(0)
    for _ in range(20):
        architecture = NARROW.sample(rng)
        made = NARROW.decisions_of(architecture)
        assert NARROW.build(lambda name, _, made=made: made[name]) == architecture  # type: ignore[misc]


def test_a_mutant_differs_in_one_decision_and_what_follows_from_it() -> None:
    rng = random.Random(0)
    for _ in range(50):
        parent = NARROW.sample(rng)
        mutant = NARROW.mutate(parent, rng)
        assert mutant != parent
        pairs = zip(parent.stages, mutant.stages, strict=True)
        (changed,) = [(a, b) for a, b in pairs if a != b]
        kept = sum(
            getattr(changed[0], n) == getattr(changed[1], n) for n in ("depth", "width", "pattern")
        )
        assert kept == 2


def test_mutation_reaches_all_of_a_small_space() -> None:
    rng = random.Random(0)
    found, architecture = set[Architecture](), SMALL.sample(rng)
    for _ in range(4_000):
        architecture = SMALL.mutate(architecture, rng)
        found.add(architecture)
    assert len(found) == SMALL.size()


def test_a_decision_is_asked_only_where_there_is_something_to_decide() -> None:
    def fewest(name: str, options: tuple[Option, ...]) -> Option:
        asked.append(name)
        return options[0]

    asked: list[str] = []
    SMALL.build(fewest)
    assert "stage 1, path 2, kernel" in asked
    assert "stage 1, path 3, kernel" not in asked


def test_an_architecture_of_another_space_is_refused() -> None:
    stranger = NARROW.sample(random.Random(0))
    with pytest.raises(UserError, match=r"stage 1, (width|path 1)|another stem"):
        SMALL.decisions_of(stranger)
    with pytest.raises(UserError, match="another stem, neck, number of stages, or channels"):
        NARROW.decisions_of(Architecture(stem=64, neck=64, stages=stranger.stages, input_size=112))


def test_a_space_of_one_has_no_mutants() -> None:
    single = Space(
        stages=(StageSpace(channels=16, widths=(8,), depths=(1,)),),
        paths=(2,),
        kernels=("3",),
        path_depths=(2,),
        density=(False,),
    )
    assert single.size() == 1
    only = single.sample(random.Random(0))
    assert only.stages[0].pattern == (Block(paths=(Path(kernel="3", depth=2),) * 2),)
    with pytest.raises(UserError, match="a single architecture"):
        single.mutate(only, random.Random(0))


def test_a_space_whose_members_cannot_all_be_built_is_refused() -> None:
    stage = StageSpace(channels=64, widths=(16, 64), depths=(1,))
    with pytest.raises(UserError, match=r"stage.width: found 16; allowed: from 32"):
        Space(stages=(stage,))
    with pytest.raises(UserError, match=r"space, kernels: found 3, 3; .* each once"):
        Space(stages=SMALL.stages, kernels=("3", "3"))
    with pytest.raises(UserError, match=r"space, paths: found nothing"):
        Space(stages=SMALL.stages, paths=())


def test_another_space_has_another_fingerprint() -> None:
    assert SMALL.fingerprint != NARROW.fingerprint
