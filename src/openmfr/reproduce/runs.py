"""Trains the arms of an experiment, each with several seeds, and measures what comes out.

A run is known by what decides its outcome: recipe, seed, images, labels, and the network that it
starts from. So arms that two tables share are trained once, a call that was stopped goes on where
it was, and several calls beside each other share the work. Outcomes are small files apart from the
trainings: with them alone, another machine goes on.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from openmfr.checkpoint import Checkpoint, CheckpointEmbedder
from openmfr.cleaning.passes import run_pass
from openmfr.config import to_dict
from openmfr.data.ingest import LABELS
from openmfr.data.labels import Labels
from openmfr.data.noise import NOISY, NoiseConfig, plant_noise
from openmfr.data.store import Store
from openmfr.embed import embed_store
from openmfr.errors import Preempted
from openmfr.files import fingerprint, if_free, read_json, write_json
from openmfr.reproduce.experiment import Arm, Experiment
from openmfr.reproduce.outcome import Outcome
from openmfr.reproduce.sets import Sets, synthetic_training
from openmfr.train import Training

logger = logging.getLogger(__name__)

#: Seconds between looks at what other processes have done.
_PATIENCE: Final = 1.0
#: Draws of people behind the intervals.
REPLICATES: Final = 1_000
#: What is planted in labels that are to be cleaned: strangers on, and wrong names under, a tenth of
#: the images, a fifth of the people in two parts.
NOISE: Final = NoiseConfig()
#: In `out`: a folder for each training, and a file for what each reached.
_TRAININGS, _OUTCOMES = "runs", "outcomes"
_SPENT: Final = "spent.json"
#: CPU seconds in that account: of all, and of training alone.
_ALL, _TRAINING = "seconds", "training"
#: What is being counted, and whether a kill has lost some.
_OPEN, _LOST = "open", "lost"
_RUN: Final = "run"
#: In a training's folder, its embeddings of the test faces, begun when the network is trained.
EMBEDDINGS: Final = "embeddings"


class Runs:
    """The trainings of experiments on the same images.

    Args:
        sets: What to train and measure on.
        out: Folder for trainings, in `runs`, and for what each reached, in `outcomes`.
        device: Where to train.
        replicates: Draws of people for the intervals.
    """

    def __init__(
        self,
        sets: Sets,
        out: Path,
        *,
        device: torch.device | None = None,
        replicates: int = REPLICATES,
    ) -> None:
        self.sets = sets
        self.trainings = out / _TRAININGS
        self.outcomes = out / _OUTCOMES
        self.device = device or torch.device("cpu")
        self.replicates = replicates
        self._synthetic: Store | None = None

    def folder(self, experiment: Experiment, arm: Arm, seed: int) -> Path:
        """Where a training stands: named by what decides its outcome."""
        text = self._description(experiment, arm, seed)
        return self.trainings / fingerprint(text, self._faces(arm).fingerprint)

    def _description(self, experiment: Experiment, arm: Arm, seed: int) -> str:
        """What decides a training's outcome, beside the images, as JSON."""
        before = ""
        if arm.start_from is not None:
            before = self.folder(experiment, experiment.arm(arm.start_from), seed).name
        recipe = to_dict(replace(arm.config, seed=seed))
        known: list[Any] = [recipe, arm.identities, before]
        if arm.is_synthetic:
            known.append("synthetic")
        if arm.is_noisy:
            known.append(to_dict(NOISE))
        if arm.cleaned_by is not None:
            known.append(self.folder(experiment, experiment.arm(arm.cleaned_by), seed).name)
        return json.dumps(known, sort_keys=True)

    def outcome(self, experiment: Experiment, arm: Arm, seed: int) -> Outcome | None:
        """Read what a training reached; None if it is not done."""
        path = self._outcome_path(self.folder(experiment, arm, seed))
        return Outcome.read(path, sets=self.sets.fingerprint)

    def go(
        self, experiment: Experiment, *, seeds: int, minutes: float | None = None
    ) -> Iterator[tuple[Arm, int, Outcome]]:
        """Train and measure whatever is not done, all arms with one seed before the next seed.

        What another process trains is left to it, and waited for at the end.

        Args:
            experiment: Its arms.
            seeds: Trainings of each arm: seeds 0, 1 and so on.
            minutes: When to stop, with a checkpoint of what is being trained; a later call goes on.

        Yields:
            Arm, seed and outcome of each training, done before or now.
        """
        end = math.inf if minutes is None else time.monotonic() + 60 * minutes
        waiting = [(arm, seed) for seed in range(seeds) for arm in experiment.arms]
        while waiting:
            left_to_others = []
            for arm, seed in waiting:
                outcome = self.outcome(experiment, arm, seed)
                if outcome is None and time.monotonic() < end:
                    try:
                        outcome = self._make_if_free(experiment, arm, seed, end)
                    except Preempted:
                        if time.monotonic() < end:
                            raise  # somebody else's wish, not the budget's
                        continue
                    if outcome is None:
                        left_to_others.append((arm, seed))
                if outcome is not None:
                    yield arm, seed, outcome
            if len(left_to_others) == len(waiting):
                time.sleep(_PATIENCE)
            waiting = left_to_others

    def _make_if_free(
        self, experiment: Experiment, arm: Arm, seed: int, end: float
    ) -> Outcome | None:
        """Train and measure, before it what it needs; None if another process is at it."""
        for needed in filter(None, (arm.start_from, arm.cleaned_by)):
            before = experiment.arm(needed)
            is_trained = (self.folder(experiment, before, seed) / EMBEDDINGS).exists()
            if not is_trained and self._make_if_free(experiment, before, seed, end) is None:
                return None
        folder = self.folder(experiment, arm, seed)
        folder.mkdir(parents=True, exist_ok=True)
        with if_free(folder) as is_free:
            if not is_free:
                return None
            done = self.outcome(experiment, arm, seed)
            if done is not None and (folder / EMBEDDINGS).exists():
                return done  # by another process, since it was looked for
            logger.info("%s, %s, seed %d", experiment.table, arm.name, seed)
            left = end - time.monotonic()
            return self._make(experiment, arm, seed, None if math.isinf(left) else left)

    def _make(self, experiment: Experiment, arm: Arm, seed: int, seconds: float | None) -> Outcome:
        folder, start_from = self.folder(experiment, arm, seed), None
        are_same_people = True
        if arm.start_from is not None:
            before = experiment.arm(arm.start_from)
            start_from = self.folder(experiment, before, seed) / _RUN
            are_same_people = before.is_synthetic == arm.is_synthetic
        with _counted(folder, _ALL):
            training = Training(
                config=replace(arm.config, seed=seed),
                store=self._faces(arm).path,
                labels=self._labels(experiment, arm, seed),
                start_from=start_from,
                head_start="same" if are_same_people else "new",
            )
            trainer = training.trainer(folder / _RUN, device=self.device)
            with _counted(folder, _TRAINING):
                best = trainer.fit(seconds=seconds)
            embedder = CheckpointEmbedder(Checkpoint.open(best), device=self.device)
            results = self.sets.measure(embedder, folder / EMBEDDINGS, replicates=self.replicates)
        spent = read_json(folder / _SPENT, what="account")
        is_time_known = self.device.type == "cpu" and not spent.get(_LOST)
        outcome = Outcome.of(
            results,
            training_seconds=spent[_TRAINING] if is_time_known else None,
            seconds=spent[_ALL],
        )
        outcome.write(
            self._outcome_path(folder),
            sets=self.sets.fingerprint,
            training=self._description(experiment, arm, seed),
        )
        done = self.outcome(experiment, arm, seed)
        assert done is not None
        return done

    def _outcome_path(self, folder: Path) -> Path:
        """Where it is written down what a training reached."""
        return self.outcomes / f"{folder.name}.npz"

    def _faces(self, arm: Arm) -> Store:
        """What an arm is trained on."""
        if not arm.is_synthetic:
            return self.sets.training
        if self._synthetic is None:
            self._synthetic = synthetic_training(self.trainings)
        return self._synthetic

    def _labels(self, experiment: Experiment, arm: Arm, seed: int) -> Path:
        """The labels of an arm: as given, of a share of the people, noisy, or cleaned again."""
        path, folder = self._faces(arm).path / LABELS, self.folder(experiment, arm, seed)
        if arm.is_noisy:
            path = self._noisy(Labels.read(path)) / NOISY
        if arm.cleaned_by is not None:
            cleaner = self.folder(experiment, experiment.arm(arm.cleaned_by), seed) / _RUN
            path = self._cleaned(Labels.read(path), self._faces(arm), cleaner, folder)
        return path if arm.identities == 1 else _share(path, arm.identities, folder)

    def _noisy(self, labels: Labels) -> Path:
        """Noise in the labels, the same for all seeds."""
        name = f"noise-{fingerprint(labels.fingerprint, json.dumps(to_dict(NOISE)))}"
        folder = self.trainings / name
        plant_noise(labels, NOISE).write(folder)
        return folder

    def _cleaned(self, labels: Labels, store: Store, cleaner: Path, folder: Path) -> Path:
        """Clean labels by what a network says of the images."""
        embedder = CheckpointEmbedder(Checkpoint.open(cleaner), device=self.device)
        embeddings = embed_store(embedder, store, folder / "training-embeddings")
        run_pass(labels, embeddings, folder / "cleaned", store=store)
        return folder / "cleaned" / LABELS


def _share(path: Path, share: float, folder: Path) -> Path:
    """The labels of a share of the people: the same for all seeds, smaller ones in larger."""
    labels = Labels.read(path)
    people = np.random.default_rng(0).permutation(labels.kept_identities)
    chosen = people[: max(2, round(share * people.size))]
    drop = ~np.isin(labels.identity, chosen)
    labels.without(drop & labels.keep, reason="not in this share").write(folder / LABELS)
    return folder / LABELS


@contextmanager
def _counted(folder: Path, what: str) -> Iterator[None]:
    """Add the block's CPU seconds to those of earlier calls, however it ends.

    Those of a call that was killed are lost; that they are is written down.
    """
    begun, path = time.process_time(), folder / _SPENT
    account = read_json(path, what="account") if path.exists() else {}
    was_killed = what in account.get(_OPEN, ())
    lost = {_LOST: True} if was_killed else {}
    write_json(path, {**account, **lost, _OPEN: sorted({*account.get(_OPEN, ()), what})})
    try:
        yield
    finally:
        account = read_json(path, what="account")
        seconds = account.get(what, 0.0) + time.process_time() - begun
        left = [name for name in account[_OPEN] if name != what]
        write_json(path, {**account, what: seconds, _OPEN: left})
