"""The best few of a search are trained longer, and the best of them is the best."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import ClassVar

from toy_search import BRIEF, SPACE, Begin, FakeProxy, config

from openmfr.models.ridnet import Architecture, load_definition
from openmfr.search.proxy import ProxyScore, Report
from openmfr.search.results import finalists_of


class LateProxy(FakeProxy):
    """After a longer training, the shallower of two networks is better."""

    trained: ClassVar[list[str]] = []

    def _train(self, architecture: Architecture, report: Report | None) -> ProxyScore:
        found = super()._train(architecture, report)
        if self.config.steps == BRIEF.steps:
            return found
        self.trained.append(architecture.fingerprint)
        return replace(found, accuracy=1 - found.accuracy)


def test_the_best_few_are_trained_longer_once_and_the_best_of_them_is_the_best(
    begin: Begin,
) -> None:
    LateProxy.trained.clear()
    plan = config(trials=12, finals=3, is_stopping=False)
    search = begin(plan, kind=LateProxy)
    search.run()
    candidates = search.summary().candidates
    finalists = search.summary().best[:3]
    assert set(finalists) == set(finalists_of(candidates, 3)), "before all that are not"
    assert finalists[0].reward == min(found.reward for found in finalists), "order is turned"
    assert finalists[0].final_accuracy is not None
    assert sorted(LateProxy.trained) == sorted(f.architecture.fingerprint for f in finalists)
    best = load_definition(str(search.write_best(command="openmfr search run")))
    assert best.architecture == finalists[0].architecture
    begin(plan, kind=LateProxy).run()
    assert len(LateProxy.trained) == 3, "known from the storage"
    begin(config(trials=12, finals=5, is_stopping=False), kind=LateProxy).run()
    assert len(LateProxy.trained) == 5


def test_each_controller_and_what_was_given_have_their_finalists(begin: Begin) -> None:
    shallow = min((SPACE.sample(random.Random(seed)) for seed in range(20)), key=lambda a: a.depth)
    begin(config(trials=6, finals=0)).run(start=[shallow])
    search = begin(config(trials=12, controller="policy", finals=2))
    search.run()
    named = [f.controller for f in search.summary().candidates if f.final_reward is not None]
    assert sorted(named) == ["given", "policy", "policy", "random", "random"]


def test_finals_are_left_to_those_who_are_still_searching(begin: Begin) -> None:
    search = begin(config(trials=3))
    search.study.ask()  # by another worker
    search.run()
    assert not any(found.final_reward for found in search.summary().candidates)
