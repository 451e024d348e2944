"""A search goes on, is shared, loses no trial, and says what it found."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import optuna
import pytest
import torch
from optuna.trial import TrialState
from toys import make_store

from openmfr.artefacts import describe
from openmfr.config import to_dict
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.models.ridnet import (
    Architecture,
    load_definition,
    shipped_definition,
    shipped_path,
)
from openmfr.search.parts import cost_of
from openmfr.search.proxy import Proxy, ProxyConfig, ProxyScore, Report
from openmfr.search.report import write_search_report
from openmfr.search.results import best_of, finalists_of, pareto_front
from openmfr.search.search import Search, SearchConfig, gain_to_the_end
from openmfr.search.space import Space, StageSpace, load_space
from openmfr.search.workers import TAKEN_FROM, WORKER, working

SPACE = Space(
    input_size=16,
    stem=8,
    neck=8,
    stages=(
        StageSpace(channels=8, widths=(16,), depths=(1, 2, 3)),
        StageSpace(channels=16, widths=(16, 24), depths=(1, 2, 3)),
    ),
    kernels=("1", "3"),
    paths=(2,),
    path_depths=(2,),
)
BRIEF = ProxyConfig(identities=8, images=4, steps=4, batch=8, looks=4)
CONFIG = SearchConfig(trials=10, target_macs=1e6, controller="random")


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("faces") / "store", identities=8, images=4)


class FakeProxy(Proxy):
    """Scores by depth, without training; the deeper, the better."""

    def _train(self, architecture: Architecture, report: Report | None) -> ProxyScore:
        end = architecture.depth / 8
        history = []
        for step in self.config.look_steps:
            history.append((step, end * (0.6 + 0.4 * step / self.config.steps)))
            if report and not report(*history[-1]) and len(history) >= self.config.first_look:
                break
        step, accuracy = history[-1]
        return ProxyScore(
            accuracy=accuracy,
            seconds=0.0,
            steps=step,
            is_stopped=step < self.config.steps,
            history=tuple(history),
        )


class LateProxy(FakeProxy):
    """After a longer training, the shallower of two networks is better."""

    trained: ClassVar[list[str]] = []

    def _train(self, architecture: Architecture, report: Report | None) -> ProxyScore:
        found = super()._train(architecture, report)
        if self.config.steps == BRIEF.steps:
            return found
        self.trained.append(architecture.fingerprint)
        return replace(found, accuracy=1 - found.accuracy)


Begin = Callable[..., Search]


@pytest.fixture
def begin(store: Store, tmp_path: Path) -> Begin:
    """Makes a worker of a search in a folder of the test."""

    def make(
        config: SearchConfig = CONFIG,
        *,
        space: Space = SPACE,
        storage: str | None = None,
        brief: ProxyConfig = BRIEF,
        out: str = "found",
        kind: type[Proxy] = FakeProxy,
    ) -> Search:
        labels = Labels.read(store.path / "labels.parquet")
        proxy = kind(store, labels, brief, torch.device("cpu"))
        return Search(tmp_path / out, space=space, proxy=proxy, config=config, storage=storage)

    return make


def config(**changed: object) -> SearchConfig:
    return SearchConfig(**{"trials": 10, "target_macs": 1e6, "controller": "random", **changed})  # type: ignore[arg-type]


def test_the_same_command_goes_on_and_more_trials_are_added(begin: Begin) -> None:
    assert len(begin(config(trials=4)).run().trials) == 4
    assert len(begin(config(trials=9)).run().trials) == 9
    again = begin(config(trials=9))
    again.run()
    assert len(again.summary().candidates) == 9


def test_trials_of_all_controllers_are_in_one_search_and_told_apart(begin: Begin) -> None:
    begin(config(trials=5)).run()
    search = begin(config(trials=30, controller="policy"))
    search.run()
    summary = search.summary()
    kinds = [found.controller for found in summary.candidates]
    assert kinds == ["random"] * 5 + ["policy"] * 25
    assert not summary.notes
    assert [found.updates for found in summary.candidates[::8]] == [None, 1, 2, 3]
    assert all((found.entropy or 0) > 0 for found in summary.candidates[8:])


def test_what_the_user_would_have_chosen_is_looked_at_first_and_once(begin: Begin) -> None:
    given = SPACE.sample(random.Random(7))
    for _ in range(2):
        search = begin(config(trials=4))
        search.run(start=[given])
    first, *others = search.summary().candidates
    assert (first.architecture, first.controller) == (given, "given")
    assert [found.controller for found in others] == ["random"] * 3


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


def test_a_start_outside_the_space_is_refused(begin: Begin) -> None:
    with pytest.raises(
        UserError, match=r"architecture, stage 1, depth: found \d+; allowed: 1, 2, 3"
    ):
        begin().run(start=[shipped_definition("ridnet_m").architecture])


@pytest.mark.parametrize("kind", ["random", "evolution", "policy"])
def test_under_a_hard_price_nothing_is_trained_that_is_far_too_large(
    begin: Begin, kind: str
) -> None:
    costs = sorted(cost_of(SPACE.sample(random.Random(seed))).macs for seed in range(50))
    target = float(costs[20])
    hard = begin(config(trials=12, controller=kind, target_macs=target, alpha="hard"), out="hard")
    hard.run()
    assert all(found.macs <= 1.1 * target for found in hard.summary().candidates)
    soft = begin(config(trials=12, controller=kind, target_macs=target), out="soft")
    soft.run()
    assert any(found.macs > 1.1 * target for found in soft.summary().candidates)


def test_a_search_without_chance_to_compare_with_says_so(begin: Begin) -> None:
    search = begin(config(trials=3, controller="evolution"))
    search.run()
    assert any("--controller random" in note for note in search.summary().notes)


def test_another_search_in_the_folder_is_refused(begin: Begin) -> None:
    begin().run()
    other = Space(stages=SPACE.stages, input_size=32, kernels=("1", "3"), path_depths=(2,))
    with pytest.raises(UserError, match="space"):
        begin(space=other)
    with pytest.raises(UserError, match="reward"):
        begin(config(target_macs=2e6))
    with pytest.raises(UserError, match="proxy"):
        begin(brief=ProxyConfig(identities=8, images=4, steps=5, batch=8))


def test_another_search_in_the_storage_is_refused(begin: Begin, tmp_path: Path) -> None:
    storage = str(tmp_path / "shared.log")
    begin(storage=storage)
    with pytest.raises(UserError, match="reward"):
        begin(config(target_macs=2e6), storage=storage, out="other")
    other = Space(stages=SPACE.stages[:1], kernels=("1", "3"), path_depths=(2,))
    with pytest.raises(UserError, match="a search of another space"):
        begin(space=other, storage=storage, out="third")


def test_a_folder_with_something_else_is_left_alone(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "photo.jpg").write_text("mine")
    with pytest.raises(UserError, match="something that is no search"):
        begin()
    assert [path.name for path in (tmp_path / "found").iterdir()] == ["photo.jpg"]


def test_hopeless_candidates_are_stopped_and_worth_what_they_would_have_become(
    begin: Begin,
) -> None:
    search = begin(config(trials=32))
    search.run()
    candidates = search.summary().candidates
    stopped = [found for found in candidates if found.is_stopped]
    whole = [found for found in candidates if not found.is_stopped]
    assert stopped
    assert max(found.reward for found in stopped) < max(found.reward for found in whole)
    assert all(found.reward > found.accuracy for found in stopped), "a gain is added"
    assert not set(stopped) & {*best_of(candidates, 32), *pareto_front(candidates)}
    patient = begin(config(trials=32, is_stopping=False), out="patient")
    patient.run()
    assert not any(found.is_stopped for found in patient.summary().candidates)


def test_a_gain_is_guessed_only_from_enough_candidates(begin: Begin) -> None:
    few = begin(config(trials=5))
    assert gain_to_the_end(few.run(), step=2, end=4) == 0.0
    more = begin(config(trials=12))
    assert gain_to_the_end(more.run(), step=2, end=4) > 0


def test_the_front_holds_what_no_other_candidate_beats(begin: Begin) -> None:
    search = begin(config(trials=40, is_stopping=False))
    search.run()
    candidates = search.summary().candidates
    front = pareto_front(candidates)
    assert front
    for found in candidates:
        beaten = any(
            (f.cost <= found.cost and f.accuracy > found.accuracy)
            or (f.cost < found.cost and f.accuracy >= found.accuracy)
            for f in candidates
        )
        assert beaten or found.accuracy in {f.accuracy for f in front}


def test_a_search_leaves_its_best_and_a_page(begin: Begin) -> None:
    search = begin(config(trials=20))
    search.run()
    summary = search.summary()
    path = search.write_best(command="openmfr search run faces found")
    definition = load_definition(str(path))
    assert definition.architecture == summary.best[0].architecture
    assert definition.origin.command == "openmfr search run faces found"
    assert (definition.origin.seed, definition.origin.log) == (0, "search.log")
    page = write_search_report(summary, search.out, settings=search.settings)
    text = page.read_text(encoding="utf-8")
    assert summary.best[0].architecture.fingerprint in text
    assert text.count("<svg ") == 2 + 3, "the front, the progress, three architectures"
    report = json.loads((search.out / "report.json").read_text())
    assert len(report["candidates"]) == 20
    assert report["best"][0] == summary.best[0].architecture.fingerprint
    described = describe(search.out)
    assert described["kind"] == "search"
    assert described["best, fingerprint"] == definition.architecture.fingerprint


def test_a_candidate_that_cannot_be_trained_is_worth_nothing_and_named(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = begin(config(trials=3))
    search.run()
    bad = ProxyScore(accuracy=0.0, seconds=1.0, steps=2, reason="a loss of nan")
    monkeypatch.setattr(FakeProxy, "_train", lambda *_: bad)
    search = begin(config(trials=4))
    search.run()
    summary = search.summary()
    assert summary.candidates[-1].reward == 0
    assert any("a loss of nan" in note for note in summary.notes)
    assert summary.candidates[-1] not in summary.best


def test_inspect_says_what_an_architecture_is() -> None:
    described = describe(shipped_path("ridnet_xs"))
    assert described["kind"] == "architecture"
    assert described["input"] == "112 × 112 pixels"
    assert "3 · 2 | 1x5+5x1 · 2" in described["stage 3"]
    assert described["multiply-adds"].startswith("910.")
    assert described["fingerprint"] == shipped_definition("ridnet_xs").architecture.fingerprint
    assert described["found by"]


def test_inspect_names_what_is_wrong_in_an_architecture(tmp_path: Path) -> None:
    damaged = shipped_path("ridnet_xs").read_text().replace('"1x5+5x1"', '"9"')
    path = tmp_path / "mine.json"
    path.write_text(damaged)
    with pytest.raises(UserError, match="kernel"):
        describe(path)


def test_a_space_is_found_by_name_or_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "space.json"
    path.write_text(json.dumps(to_dict(SPACE)))
    assert load_space(str(path)) == SPACE
    assert load_space("narrow").input_size == 112
    with pytest.raises(UserError, match="did you mean pocket"):
        load_space("pokcet")
    path.write_text(json.dumps({**to_dict(SPACE), "kernels": ["9"]}))
    with pytest.raises(UserError, match="kernels"):
        load_space(str(path))


def test_a_target_is_asked_for_once() -> None:
    for targets in ({}, {"target_macs": 1e6, "target_ms": 3.0}):
        with pytest.raises(UserError, match="allowed: --target-macs or --target-ms"):
            SearchConfig(**targets)  # type: ignore[arg-type]


def test_a_trial_of_a_living_worker_is_its_own(begin: Begin, tmp_path: Path) -> None:
    """Another process would not be on this machine's list of the dead."""
    search = begin()
    trial = search.study.ask()
    with working(tmp_path / "workers") as alive:
        alive.claim(trial)
        other = type(alive)(folder=alive.folder, host=alive.host, name="another")
        assert other.take_up_lost(search.study) == 0
    assert other.take_up_lost(search.study) == 1
    assert other.take_up_lost(search.study) == 0


def test_trials_of_other_machines_are_left_to_the_storage(begin: Begin, tmp_path: Path) -> None:
    search = begin()
    trial = search.study.ask()
    with working(tmp_path / "workers") as worker:
        type(worker)(folder=worker.folder, host="far away", name="w").claim(trial)
        assert worker.take_up_lost(search.study) == 0


#: Starts a worker that begins a trial and hangs in it, as a training does.
HANGING = """
import sys, time
from pathlib import Path
import torch
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.search.proxy import Proxy
from search.test_search import BRIEF, SPACE, config
from openmfr.search.search import Search

class Hanging(Proxy):
    def _train(self, architecture, report):
        print(architecture.fingerprint, flush=True)
        time.sleep(600)

store = Store(Path(sys.argv[1]))
proxy = Hanging(store, Labels.read(store.path / "labels.parquet"), BRIEF, torch.device("cpu"))
out, storage = Path(sys.argv[2]), sys.argv[3] or None
Search(out, space=SPACE, proxy=proxy, config=config(), storage=storage).run()
"""


def killed_worker(store: Store, out: Path, storage: str = "") -> str:
    """Kill a worker in the middle of a trial; return its candidate's fingerprint."""
    tests = str(Path(__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, str(store.path), str(out), storage],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": tests},
    ) as worker:
        assert worker.stdout is not None
        candidate = worker.stdout.readline().strip()
        worker.send_signal(signal.SIGKILL)
    return candidate


@pytest.mark.slow
def test_what_a_killed_worker_had_begun_is_done_by_another(
    begin: Begin, store: Store, tmp_path: Path
) -> None:
    candidate = killed_worker(store, tmp_path / "found")
    search = begin(config(trials=3))
    study = search.run()
    lost = study.trials[0]
    assert lost.state == TrialState.FAIL
    assert lost.user_attrs[WORKER]
    (taken,) = [trial for trial in study.trials if trial.user_attrs.get(TAKEN_FROM) == 0]
    assert taken.params == lost.params
    done = [found.architecture.fingerprint for found in search.summary().candidates]
    assert len(done) == 3
    assert candidate in done


@pytest.mark.slow
def test_workers_share_a_database(
    begin: Begin, store: Store, tmp_path: Path, postgres_url: str
) -> None:
    """Two folders, as on two machines; one worker of theirs was killed."""
    killed_worker(store, tmp_path / "found", postgres_url)
    first = begin(config(trials=6), storage=postgres_url)
    first.run()
    second = begin(config(trials=20, controller="policy"), storage=postgres_url, out="elsewhere")
    second.run()
    candidates = second.summary().candidates
    assert [found.controller for found in candidates] == ["random"] * 6 + ["policy"] * 14
    assert second.sampler._learnt == [found.trial for found in candidates[:16]]  # type: ignore[attr-defined]
    assert postgres_url not in second.log
    other = Space(stages=SPACE.stages[:1], kernels=("1", "3"), path_depths=(2,))
    with pytest.raises(UserError, match="a search of another space"):
        begin(space=other, storage=postgres_url, out="third")


@pytest.mark.slow
def test_the_command_searches_goes_on_and_reports(store: Store, tmp_path: Path) -> None:
    space = tmp_path / "space.json"
    stages = [{"channels": 8, "widths": [16], "depths": [1, 2]}]
    content = {"input_size": 16, "stem": 8, "neck": 8, "stages": stages, "kernels": ["1", "3"]}
    space.write_text(json.dumps({**content, "paths": [2], "path_depths": [2]}))
    out = tmp_path / "found"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        brief = ["--steps", "4", "--batch-size", "8", "--identities", "8", "--images", "4"]
        command = [sys.executable, "-m", "openmfr", "search", "run", str(store.path), str(out)]
        return subprocess.run(
            [*command, "--space", str(space), "--target-macs", "1e6", *brief, *words],
            capture_output=True,
            text=True,
            check=False,
        )

    first = run("--trials", "3")
    assert first.returncode == 0, first.stderr
    again = run("--trials", "5", "--controller", "random")
    assert "5 candidates; best: trial" in again.stdout, again.stderr
    definition = load_definition(str(out / "best.json"))
    assert "--controller random" in definition.origin.command
    refused = run("--trials", "5", "--alpha", "hard")
    assert refused.returncode == 2
    assert "reward" in refused.stderr
    assert "Traceback" not in refused.stderr
