"""What the ranks returned, and what float64 returns: each made once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from distributed.harness import Result, run_on_ranks
from distributed.scenarios import Scenario
from distributed.table import SCENARIOS, run_table
from heads.reference import Outcome, ReferenceHead

from openmfr.heads import HeadConfig
from openmfr.heads.sampling import sample_identities

Tables = Callable[[int], list[Result]]


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """What each rank returned, by the number of ranks."""

    @cache
    def of(size: int) -> list[Result]:
        return run_on_ranks(run_table, size, tmp_path_factory.mktemp(f"ranks{size}"))

    return of


@pytest.fixture(params=[1, 2, 3], ids=["1 rank", "2 ranks", "3 ranks"])
def table(request: pytest.FixtureRequest, tables: Tables) -> list[Result]:
    """What each rank returned, of 1, 2 and 3 in turn."""
    return tables(request.param)


@pytest.fixture(scope="session")
def references() -> Callable[[str], list[Outcome]]:
    """Steps of a scenario in float64, by its name."""
    return cache(lambda name: reference_steps(SCENARIOS[name]))


def reference_steps(scenario: Scenario) -> list[Outcome]:
    """What a scenario gives on one process in float64.

    A step that is skipped moves nothing with a deferred update, and all with a fused one.
    """
    config = scenario.config
    head = ReferenceHead(config, scenario.prototypes(), is_sparse=config.unsampled == "sparse")
    outcomes = []
    for number in range(scenario.steps):
        embeddings, identity = scenario.batch(number)
        before = head.prototypes.clone(), head.momentum.clone()
        rows = sampled_rows(scenario, config, number, identity)
        outcome = head.step(embeddings, identity, scenario.size(number), rows)
        if number == scenario.skipped and config.update == "deferred":
            head.prototypes, head.momentum = (part.clone() for part in before)
            outcome.prototypes, outcome.momentum = before
        outcomes.append(outcome)
    return outcomes


def sampled_rows(
    scenario: Scenario, config: HeadConfig, step: int, identity: torch.Tensor
) -> torch.Tensor | None:
    """Identities that take part in a step, as one rank draws them; None for all."""
    if config.sample_rate == 1:
        return None
    return sample_identities(
        0,
        scenario.identities,
        rate=config.sample_rate,
        seed=scenario.seed,
        step=step,
        positives=identity,
    )
