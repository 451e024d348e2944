"""What rounds of cleaning reached, and where each part of it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from openmfr.cleaning.passes import LABELS
from openmfr.config import from_dict, to_dict
from openmfr.evaluation.intervals import Measured
from openmfr.files import read_json, write_json
from openmfr.train.trainer import LABELS_FILE

#: Parts of a round's folder: the training, what its network made of the images, how well it tells
#: people apart, what the round was (written last of these), and the pass that follows.
RUN, EMBEDDINGS, REPORT, ROUND, CLEAN = "run", "embeddings", "report", "round.json", "clean"


def round_folder(out: Path, number: int) -> Path:
    """Folder of a round; the first is 1."""
    return out / f"round-{number}"


def labels_of(out: Path, number: int) -> Path:
    """The labels that a round trains on: the first ones, or those of the pass before it."""
    return round_folder(out, number - 1) / CLEAN / LABELS if number > 1 else out / LABELS_FILE


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one training was given, and what it reached.

    Attributes:
        number: From 1.
        labels: Fingerprint of the table that it was trained on.
        images: Images that it was trained on.
        identities: Their identities.
        dropped: Images that the pass before it took out of the table that it cleaned; 0 in the
            first round, which no pass precedes.
        moved: Images that went to another identity.
        merged: Identities that went on under the number of another.
        accuracy: On pairs of people that no round saw.
        gain: Accuracy minus that of the round before, with its paired interval; None in the first.
        total: The same against the first round.
    """

    number: int
    labels: str
    images: int
    identities: int
    dropped: int = 0
    moved: int = 0
    merged: int = 0
    accuracy: Measured
    gain: Measured | None = None
    total: Measured | None = None

    def write(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        write_json(path, to_dict(self))

    @classmethod
    def read(cls, path: Path) -> Round:
        """Read what `write` wrote.

        Raises:
            UserError: If the file is damaged.
        """
        return from_dict(cls, read_json(path, what="round"), where=str(path))


@dataclass(frozen=True, kw_only=True)
class RoundsResult:
    """All rounds.

    Attributes:
        out: Their folder.
        rounds: In order.
        stopped: Why there are no more.
        notes: What a person must know beside it.
    """

    out: Path
    rounds: tuple[Round, ...]
    stopped: str
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Round:
        """The round with the highest accuracy, the first of equals."""
        return max(self.rounds, key=lambda made: made.accuracy.value or 0.0)

    @property
    def run(self) -> Path:
        """The best round's training."""
        return round_folder(self.out, self.best.number) / RUN

    @property
    def labels(self) -> Path:
        """The labels that it was trained on."""
        return labels_of(self.out, self.best.number)

    @property
    def report(self) -> Path:
        """The page about all rounds."""
        return self.out / "report.html"
