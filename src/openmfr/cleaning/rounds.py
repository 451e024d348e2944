"""Rounds of cleaning: train, embed, measure, clean, and train again while it helps.

Every stage leaves a file or folder that is whole or can be gone on with, and a stage whose last
file stands is passed over. So rounds that were killed at any moment go on when the same call is
repeated, and end with the same files.

Source:
    MFR paper, §2.2.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from openmfr.checkpoint import Checkpoint, CheckpointEmbedder
from openmfr.cleaning.changes import read_vetoes
from openmfr.cleaning.config import CleanConfig
from openmfr.cleaning.passes import LABELS, PASS, read_pass, run_pass
from openmfr.cleaning.rounds_report import write_rounds_report
from openmfr.cleaning.rounds_result import (
    CLEAN,
    EMBEDDINGS,
    REPORT,
    ROUND,
    RUN,
    Round,
    RoundsResult,
    labels_of,
    round_folder,
)
from openmfr.config import to_dict
from openmfr.data.labels import LEAST_HELD_OUT, Labels
from openmfr.data.store import Store
from openmfr.distributed import Ranks
from openmfr.embed import META, Embeddings, embed_store
from openmfr.errors import UserError, check_fields
from openmfr.evaluation.difference import compare_verifications
from openmfr.evaluation.sampling import sample_pairs
from openmfr.evaluation.verification import VerificationResult, measure
from openmfr.evaluation.verification_report import write_verification_report
from openmfr.files import fingerprint, only_one, remove_leftovers
from openmfr.run import Run, run_metrics
from openmfr.train.feeder import Patience
from openmfr.train.holdout import PAIRS
from openmfr.train.start import Training
from openmfr.train.trainer import HELD_OUT_FILE, LABELS_FILE
from openmfr.version import __version__

logger = logging.getLogger(__name__)

#: A person's refusals beside a pass's page; the passes of later rounds obey them.
VETOES = "vetoes.csv"
#: Seconds between two looks of a waiting rank.
_PATIENCE = 0.2
#: What decides only how long the rounds go on: it may change from call to call.
_STOP_RULES = ("rounds", "margin")


@dataclass(frozen=True, kw_only=True)
class RoundsConfig:
    """How rounds of cleaning are measured, and when they end.

    Attributes:
        rounds: Trainings at most.
        margin: Accuracy that a round must gain over the one before for another to follow, −1 to 1;
            −1 goes on in any case.
        holdout_identities: Identities set aside before the first round to measure all rounds on.
            Labels that hold identities out already keep those instead.
        afresh: Whether each pass cleans the first table, with a better network each time, so that a
            mistake of an early one is not carried on; else that of the round before, as the paper
            does.
        replicates: Draws of identities behind each interval; 0 for none.
    """

    rounds: int = 3
    margin: float = 0.002
    holdout_identities: int = 100
    afresh: bool = True
    replicates: int = 1_000

    def __post_init__(self) -> None:
        limits = {
            "rounds": (self.rounds >= 1, "from 1"),
            "margin": (-1 <= self.margin <= 1, "-1 to 1"),
            "holdout_identities": (
                self.holdout_identities >= LEAST_HELD_OUT,
                f"from {LEAST_HELD_OUT}",
            ),
            "replicates": (self.replicates >= 0, "from 0"),
        }
        check_fields(self, limits, next_step="see openmfr clean rounds --help")


class Rounds:
    """Trains and cleans by turns.

    Args:
        training: What to train, on which store and from which labels. The people measured are set
            aside here, so that they are the same in all rounds: the recipe's own are not.
        out: Folder for everything: `round-1`, `round-2` …, and a report about all of them.
        config: How often.
        clean: Settings of the passes.
        vetoes: Files in which a person refused decisions of earlier passes: all passes obey them.
            Those that lie as `vetoes.csv` beside a pass in `out` are obeyed by later rounds'.
        device: Where to train and embed.
        workers: Processes that decode; see `Training.trainer`.
        patience: How long the trainings wait for a batch; see `Trainer.fit`.
        ranks: Those that work together; by default this process alone. They train and clean
            together; the first one embeds and measures.

    Raises:
        UserError: If labels and store do not belong together, too few identities can be set aside,
            or `out` holds something else or rounds with other settings.
    """

    def __init__(
        self,
        training: Training,
        out: Path,
        *,
        config: RoundsConfig | None = None,
        clean: CleanConfig | None = None,
        vetoes: Sequence[Path] = (),
        device: torch.device | None = None,
        workers: int | None = None,
        patience: Patience | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.training = replace(training, config=replace(training.config, holdout_identities=0))
        self.out = out
        self.config = config or RoundsConfig()
        self.clean = clean or CleanConfig()
        self.vetoes = tuple(vetoes)
        self.device = device or torch.device("cpu")
        self.workers = workers
        self.patience = patience
        self.ranks = ranks or Ranks()
        self.store = Store(training.store)
        self.first = self._hold_out(training.read_labels(), seed=training.config.seed)
        for path in self.vetoes:
            read_vetoes(path, len(self.store))  # a fault in it is said now, not after a training
        self.pairs = sample_pairs(
            self.first.identity, self.first.is_held_out, pairs=PAIRS, seed=training.config.seed
        )
        masker = self.training.masker(self.store, self.first)
        rules = to_dict(self.config)
        settings = {
            "config": to_dict(self.training.config),
            "clean": to_dict(self.clean),
            "rounds": {name: rules[name] for name in rules if name not in _STOP_RULES},
            "store": self.store.fingerprint,
            "labels": self.first.fingerprint,
            **(masker.settings if masker is not None else {}),
        }
        about = {"store_path": str(self.store.path.resolve()), "openmfr": __version__}
        self._run = Run(out, settings=settings, about=about)

    def _hold_out(self, labels: Labels, *, seed: int) -> Labels:
        """Set the people aside whom all rounds are measured on, unless the table has done so."""
        labels.check_store(self.store)
        if labels.is_held_out.any():
            return labels
        return labels.hold_out(self.config.holdout_identities, seed=seed)

    def run(self) -> RoundsResult:
        """Go through all rounds, or through those that are still to come.

        Returns:
            All rounds, and which is the best; the same on every rank.

        Raises:
            UserError: If a training diverges, a pass leaves nothing, or a round was trained on
                labels that have been made anew since.
        """
        if self.ranks.is_first:
            self._run.begin()
        self.ranks.barrier()
        with only_one(self.out) if self.ranks.is_first else nullcontext():
            if self.ranks.is_first:
                for folder in (*self.out.glob("round-*"), *self.out.glob(f"round-*/{REPORT}")):
                    remove_leftovers(folder)
                self.first.write(self.out / LABELS_FILE)
                self.first.only_held_out().write(self.out / HELD_OUT_FILE)
            self.ranks.barrier()
            with self._run.log_to_file(is_first=self.ranks.is_first):
                result = self._go()
            if self.ranks.is_first:
                people = np.unique(self.first.identity[self.first.is_held_out]).size
                settings = {**self._run.settings, "rounds": to_dict(self.config)}
                write_rounds_report(result, people=people, settings=settings)
            self.ranks.barrier()
        return result

    def _go(self) -> RoundsResult:
        labels, stopped = self.first, ""
        rounds: list[Round] = []
        while not stopped:
            rounds.append(self._round(len(rounds) + 1, labels))
            stopped = self._why_stop(rounds)
            if not stopped:
                cleaned = self._clean(rounds[-1].number, labels)
                if _is_same(cleaned, labels):
                    stopped = f"the pass after round {rounds[-1].number} changed nothing"
                labels = cleaned
        notes = self._notes(len(rounds))
        return RoundsResult(out=self.out, rounds=tuple(rounds), stopped=stopped, notes=notes)

    def _why_stop(self, rounds: Sequence[Round]) -> str:
        """Say why no round shall follow; empty if one shall."""
        last, margin = rounds[-1], self.config.margin
        if last.gain is not None and (last.gain.value or 0.0) < margin:
            return (
                f"round {last.number} gained {100 * (last.gain.value or 0.0):.2f} points of "
                f"accuracy, less than the margin of {100 * margin:g}"
            )
        if last.number >= self.config.rounds:
            return f"{self.config.rounds} was the number of rounds asked for"
        return ""

    def _round(self, number: int, labels: Labels) -> Round:
        """Train on labels and measure, or read what an earlier call measured."""
        folder = round_folder(self.out, number)
        if not self._is_done(folder / ROUND):
            logger.info(
                "round %d: %s images of %s identities",
                number,
                f"{int(labels.keep.sum()):,}",
                f"{labels.kept_identities.size:,}",
            )
            self._train(number)
            self._first_does(folder / ROUND, lambda: self._measure(number, labels))
        made = Round.read(folder / ROUND)
        if made.labels != labels.fingerprint:
            raise UserError(
                where=str(folder),
                found=f"a round trained on labels {made.labels}",
                allowed=f"one trained on {labels_of(self.out, number)}, {labels.fingerprint}",
                next_step="delete this folder and those of later rounds: they are made again",
            )
        return made

    def _train(self, number: int) -> None:
        training = replace(self.training, labels=labels_of(self.out, number))
        training.trainer(
            round_folder(self.out, number) / RUN,
            device=self.device,
            workers=self.workers,
            ranks=self.ranks,
        ).fit(patience=self.patience)

    def _embed(self, number: int) -> Embeddings:
        """Embed what the pass will look at and who is measured, or open what stands."""
        folder = round_folder(self.out, number)
        if (folder / EMBEDDINGS / META).exists():
            return Embeddings(folder / EMBEDDINGS)
        table = self.first if self.config.afresh else Labels.read(labels_of(self.out, number))
        return embed_store(
            CheckpointEmbedder(Checkpoint.open(folder / RUN), device=self.device),
            self.store,
            folder / EMBEDDINGS,
            labels=table.child(keep=table.keep | table.is_held_out),
        )

    def _verify(self, number: int) -> VerificationResult:
        compared = self.pairs.compare(self._embed(number).array, self.first.identity)
        return measure(compared, replicates=self.config.replicates)

    def _measure(self, number: int, labels: Labels) -> None:
        """Measure a trained round beside the one before and the first, and write both reports."""
        folder, before = round_folder(self.out, number), max(number - 1, 1)
        results = {n: self._verify(n) for n in dict.fromkeys((number, before, 1))}
        counts, gain, total = {"dropped": 0, "moved": 0, "merged": 0}, None, None
        if number > 1:
            made = read_pass(round_folder(self.out, before) / CLEAN)["counts"]
            counts = {name: made[name] for name in counts}
            gain, total = (
                compare_verifications(results[n], results[number])["accuracy"] for n in (before, 1)
            )
        write_verification_report(
            folder / REPORT,
            title=f"Round {number}: people that no round was trained on",
            results={f"round {n}": result for n, result in results.items()},
            configuration={
                "round": number,
                "labels": labels.fingerprint,
                **to_dict(self.training.config),
            },
            metrics=run_metrics(folder / RUN),
            image=self.store.decode,
            sources=self.store.column("source"),
        )
        accuracy = results[number].accuracy.mean
        logger.info("round %d: accuracy %.4f", number, accuracy.value)
        Round(
            number=number,
            labels=labels.fingerprint,
            images=int(labels.keep.sum()),
            identities=int(labels.kept_identities.size),
            accuracy=accuracy,
            gain=gain,
            total=total,
            **counts,
        ).write(folder / ROUND)

    def _clean(self, number: int, labels: Labels) -> Labels:
        """Make the labels of the next round, or read those that an earlier call made."""
        folder = round_folder(self.out, number)
        if self._is_done(folder / CLEAN / PASS):
            return Labels.read(folder / CLEAN / LABELS)
        self._first_does(folder / EMBEDDINGS / META, lambda: self._embed(number))
        cleaned = run_pass(
            self.first if self.config.afresh else labels,
            Embeddings(folder / EMBEDDINGS),
            folder / CLEAN,
            self.clean,
            store=self.store,
            vetoes=self._refusals(number),
            ranks=self.ranks,
        )
        if cleaned.kept_identities.size < 2:
            raise UserError(
                where=str(folder / CLEAN),
                found=f"{cleaned.kept_identities.size} identity left",
                allowed="at least 2, to train on",
                next_step="choose gentler thresholds, and another folder",
            )
        return cleaned

    def _refusals(self, number: int) -> tuple[Path, ...]:
        """Files that the pass of a round obeys: those given, and those beside earlier passes."""
        beside = [round_folder(self.out, n) / CLEAN / VETOES for n in range(1, number)]
        return (*self.vetoes, *(path for path in beside if path.is_file()))

    def _notes(self, rounds: int) -> tuple[str, ...]:
        """Refusals that came after the last pass: a finished pass is not made again."""
        passes = [round_folder(self.out, n) / CLEAN for n in range(1, rounds + 1)]
        made = [path for path in passes if (path / PASS).exists()]
        obeyed = read_pass(made[-1])["settings"]["vetoes"] if made else ()
        late = [
            path.relative_to(self.out) if path.is_relative_to(self.out) else path
            for path in self._refusals(rounds + 1)
            if fingerprint(path.read_bytes()) not in obeyed
        ]
        return tuple(
            f"No pass has obeyed {path} yet: go on with more rounds, or begin another folder with "
            "--vetoes"
            for path in late
        )

    def _is_done(self, file: Path) -> bool:
        """Whether an earlier call made a file; every rank looks before one of them goes on."""
        is_done = file.exists()
        self.ranks.barrier()
        return is_done

    def _first_does(self, file: Path, work: Callable[[], object]) -> None:
        """Let the first rank make a file while the others wait, however long it takes.

        A barrier would give up after some minutes.
        """
        if self.ranks.is_first:
            work()
        while not file.exists():
            time.sleep(_PATIENCE)


def _is_same(one: Labels, other: Labels) -> bool:
    """Whether a training would see the same images under the same names."""
    kept = one.keep
    return np.array_equal(kept, other.keep) and np.array_equal(
        one.identity[kept], other.identity[kept]
    )
