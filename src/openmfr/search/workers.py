"""Trials whose worker was killed are given to another one, with the same decisions.

A worker holds the operating system's lock on a folder of its own, which ends with the process,
however it ends. Who cannot be asked so, as it works on another machine or in another folder, is
asked by the storage: a database expects signs of life, and Optuna gives the trials of silent
workers to others.
"""

from __future__ import annotations

import os
import platform
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from openmfr.errors import UserError
from openmfr.files import only_one

#: What a trial says of its worker, and of the trial that it was taken up from.
HOST, WORKER, TAKEN_FROM = "host", "worker", "taken up from"
#: What it says of who chose its candidate, which taking it up does not change.
CONTROLLER = "controller"
#: Seconds after which a trial that no worker has claimed is lost: the worker was killed between
#: asking for it and saying so, which takes a policy seconds.
_UNCLAIMED: Final = 120.0


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One process of a search.

    Attributes:
        folder: Of the locks of all workers of the search here.
        host: The machine and that folder: who has both can look whether a lock is held.
        name: Of the lock.
    """

    folder: Path
    host: str
    name: str

    def claim(self, trial: Trial) -> None:
        """Say that a trial is this worker's."""
        trial.set_user_attr(WORKER, self.name)
        trial.set_user_attr(HOST, self.host)

    def take_up_lost(self, study: Study) -> int:
        """Enqueue the decisions of trials whose workers are gone; return how many."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # heartbeats, since 2021
            optuna.storages.fail_stale_trials(study)  # of silent workers, where they are heard
        return sum(self._take_up(study, trial) for trial in running(study) if self._is_lost(trial))

    def _is_lost(self, trial: FrozenTrial) -> bool:
        attributes = trial.user_attrs
        if HOST not in attributes:
            return _age(trial) > _UNCLAIMED
        if attributes[HOST] != self.host:
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
        if decisions := decisions_of(trial):
            kept = {key: value for key, value in trial.user_attrs.items() if key == CONTROLLER}
            study.enqueue_trial(decisions, user_attrs={TAKEN_FROM: trial.number, **kept})
        return True


@contextmanager
def working(folder: Path) -> Iterator[Worker]:
    """Be a worker of a search while the block runs.

    Args:
        folder: Of the locks of all workers of the search; it is made.
    """
    machine = platform.node() or "this machine"
    name = f"{machine}-{os.getpid()}"
    lock = folder / name
    lock.mkdir(parents=True, exist_ok=True)
    # Containers may share a name and a path: the inode tells their folders apart.
    host = f"{machine}, {folder.resolve()}, inode {folder.stat().st_ino}"
    with only_one(lock):
        yield Worker(folder=folder, host=host, name=name)
        shutil.rmtree(lock)


def decisions_of(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial's candidate is: all of it where it was enqueued, else what is decided so far."""
    return trial.system_attrs.get("fixed_params") or trial.params


def _age(trial: FrozenTrial) -> float:
    """Seconds since a trial began."""
    begun = trial.datetime_start
    return 0.0 if begun is None else (datetime.now() - begun).total_seconds()


def running(study: Study) -> list[FrozenTrial]:
    """Trials that are under way, or were when their worker was killed."""
    return study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
