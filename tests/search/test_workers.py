"""Workers share a search, and what a killed one had begun is done by another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from optuna.trial import TrialState
from toy_search import SPACE, Begin, config

from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.search.controller import ask
from openmfr.search.space import Space
from openmfr.search.workers import TAKEN_FROM, WORKER, working


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


def test_a_worker_of_another_folder_is_left_to_the_storage(begin: Begin, tmp_path: Path) -> None:
    """It shares the machine and the database, not the folder where its lock could be looked at."""
    search = begin()
    trial = search.study.ask()
    with working(tmp_path / "workers") as alive, working(tmp_path / "elsewhere") as other:
        alive.claim(trial)
        assert other.take_up_lost(search.study) == 0
    assert search.study.trials[0].state == TrialState.RUNNING


def test_a_trial_that_nobody_claimed_is_lost_after_a_while(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker was killed between asking and claiming; the search would wait for it for ever."""
    search = begin(config(trials=2))
    search.study.ask()
    with working(tmp_path / "workers") as worker:
        assert worker.take_up_lost(search.study) == 0
        monkeypatch.setattr("openmfr.search.workers._UNCLAIMED", -1.0)
        assert worker.take_up_lost(search.study) == 1
    search.run()
    assert len(search.summary().candidates) == 2
    assert any(found.final_reward for found in search.summary().candidates)


def test_workers_may_all_begin_a_search_at_once(begin: Begin) -> None:
    """One must not take what another is writing for leftovers."""
    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            begun = [pool.submit(begin, out=f"found-{number}") for _ in range(8)]
            assert all(worker.result().space == SPACE for worker in begun)


def test_who_chose_a_candidate_outlives_its_worker(begin: Begin) -> None:
    """Or a report would give the finds of a controller to another."""
    search = begin(config(controller="random"))
    with working(search.out / "workers") as lost:
        trial = search.study.ask()
        lost.claim(trial)
        search._describe(trial, ask(SPACE, trial))
    other = begin(config(controller="tpe", trials=2))
    other.run()
    assert [found.controller for found in other.summary().candidates] == ["random", "tpe"]


#: Starts a worker that begins a trial and hangs in it, as a training does.
HANGING = """
import sys, time
from pathlib import Path
import torch
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.search.proxy import Proxy
from toy_search import BRIEF, SPACE, config
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
    assert second.log
    assert second.log in postgres_url
    assert "@" not in second.log
    other = Space(stages=SPACE.stages[:1], kernels=("1", "3"), path_depths=(2,))
    with pytest.raises(UserError, match="a search of another space"):
        begin(space=other, storage=postgres_url, out="third")
