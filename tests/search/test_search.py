"""A search goes on, is shared, loses no trial, and says what it found."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from toy_search import SPACE, Begin, FakeProxy, config

from openmfr.artefacts import describe
from openmfr.config import to_dict
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.models.ridnet import (
    Architecture,
    load_definition,
    shipped_definition,
    shipped_path,
)
from openmfr.search.parts import cost_of
from openmfr.search.proxy import ProxyConfig, ProxyScore, Report
from openmfr.search.report import write_search_report
from openmfr.search.results import best_of, pareto_front
from openmfr.search.search import SearchConfig, gain_to_the_end
from openmfr.search.space import Space, load_space


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


def test_an_interrupted_start_is_looked_at_again(begin: Begin) -> None:
    class Interrupted(FakeProxy):
        def _train(self, architecture: Architecture, report: Report | None) -> ProxyScore:
            super()._train(architecture, report)
            raise KeyboardInterrupt

    given = SPACE.sample(random.Random(7))
    with pytest.raises(KeyboardInterrupt):
        begin(kind=Interrupted).run(start=[given])
    search = begin(config(trials=2))
    search.run(start=[given])
    assert search.summary().candidates[0].architecture == given


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
        assert not (beaten and found in front)
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
    # What an address has behind its question mark may be a secret; SQLite's is not.
    database = f"sqlite:///{tmp_path}/trials.db?timeout=77"
    assert run("--trials", "2", "--storage", database).returncode == 0
    for written in ("best.json", "report.json", "report.html"):
        assert "trials.db" in (out / written).read_text()
        assert "timeout=77" not in (out / written).read_text()
    refused = run("--trials", "5", "--alpha", "hard")
    assert refused.returncode == 2
    assert "reward" in refused.stderr
    assert "Traceback" not in refused.stderr
