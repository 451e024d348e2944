"""Trials whose worker was killed are given to another one, with the same decisions.

A worker holds the operating system's lock on a folder of its own, which ends with the process,
however it ends. Who cannot be asked so, as it works on another machine, is asked by the storage: a
database expects signs of life, and Optuna gives the trials of silent workers to others.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from openmfr.errors import UserError
from openmfr.files import only_one

#: What a trial says of its worker, and of the trial that it was taken up from.
HOST, WORKER, TAKEN_FROM = "host", "worker", "taken up from"
#: What it says of who chose its candidate, which taking it up does not change.
CONTROLLER = "controller"


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One process of a search.

    Attributes:
        folder: Of the locks of all workers of the search.
        host: The machine.
        name: Of the lock.
    """

    folder: Path
    host: str
    name: str

    def claim(self, trial: Trial) -> None:
        """Say that a trial is this worker's."""
        trial.set_user_attr(HOST, self.host)
        trial.set_user_attr(WORKER, self.name)

    def take_up_lost(self, study: Study) -> int:
        """Enqueue the decisions of trials whose workers are gone; return how many."""
        return sum(self._take_up(study, trial) for trial in running(study) if self._is_lost(trial))

    def _is_lost(self, trial: FrozenTrial) -> bool:
        attributes = trial.user_attrs
        if attributes.get(HOST) != self.host:
            return False
        if attributes[WORKER] == self.name:  # of an earlier process of our number: we work on none
            return True
        lock = self.folder / attributes[WORKER]
        if not lock.is_dir():
            return True
        try:
            with only_one(lock, patience=0):
                return True
        except UserError:
            return False

    @staticmethod
    def _take_up(study: Study, trial: FrozenTrial) -> bool:
        try:
            study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            return False  # another worker was quicker
        about = {CONTROLLER: trial.user_attrs[CONTROLLER]} if CONTROLLER in trial.user_attrs else {}
        study.enqueue_trial(trial.params, user_attrs={TAKEN_FROM: trial.number, **about})
        return True


@contextmanager
def working(folder: Path) -> Iterator[Worker]:
    """Be a worker of a search while the block runs.

    Args:
        folder: Of the locks of all workers of the search; it is made.
    """
    host = platform.node() or "this machine"
    name = f"{host}-{os.getpid()}"
    lock = folder / name
    lock.mkdir(parents=True, exist_ok=True)
    with only_one(lock):
        yield Worker(folder=folder, host=host, name=name)
        shutil.rmtree(lock)


def running(study: Study) -> list[FrozenTrial]:
    """Trials that are under way, or were when their worker was killed."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
