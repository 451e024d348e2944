"""How good a candidate would be: it is trained briefly, and asked about people it has not seen.

The training is that of `openmfr.train` (network, head, optimizer, schedule, augmentation), without
what a run of hours needs around it: checkpoints, a log, a folder. Images are decoded and shrunk
once, and all candidates are trained on the same of them in the same order; what differs is the
candidate alone.

The measure is the area under the ROC curve of all pairs of the people who were set aside. It uses
every pair, so it moves least between seeds; rates at a small FMR hang on few pairs, and briefly
trained networks do not differ in them as they do later.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from openmfr.checkpoint import embed_batch
from openmfr.config import from_dict, to_dict
from openmfr.data.labels import LEAST_HELD_OUT, Labels
from openmfr.data.loader import training_identities
from openmfr.data.order import Stream
from openmfr.data.store import Store
from openmfr.distributed import Ranks
from openmfr.embed import decode_batch
from openmfr.errors import check_fields
from openmfr.evaluation.rates import RankedScores
from openmfr.files import fingerprint, read_json, write_json
from openmfr.heads import HeadConfig, NotFiniteError
from openmfr.models import BackboneConfig, to_input
from openmfr.models.ridnet import Architecture
from openmfr.train import AugmentConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from openmfr.train.config import PRECISIONS, Precision
from openmfr.train.learner import Learner

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]

#: Told after each measurement: the step and the accuracy → whether to go on.
Report = Callable[[int, float], bool]

#: Images of a person from which on her pairs are worth measuring.
_LEAST_IMAGES: Final = 4
_EMBED_BATCH: Final = 128
#: Changes when scores are computed in another way, so that a cache never mixes them.
_METHOD: Final = "1"


@dataclass(frozen=True, kw_only=True)
class ProxyConfig:
    """How briefly a candidate is trained, and on whom.

    The defaults are for networks of some 40 million multiply-adds at 48 × 48 pixels, which one
    thread of a server trains in two minutes. A quarter of the steps and a third of the people
    misled a search (docs/LOG.md).

    Attributes:
        identities: People, drawn from those with four images or more; all if there are fewer.
        images: Of each, at most.
        set_aside: Share of the people whom no candidate is trained on.
        steps: Optimizer steps.
        batch: Images of a step.
        learning_rate: At its peak, for 256 images.
        embedding_dim: D.
        looks: How often accuracy is measured: evenly spread, the last time at the end.
        first_look: The first measurement after which a candidate may be stopped.
        precision: Of the network's arithmetic.
        seed: Of weights, order and augmentation; the people are the same for all seeds.
    """

    identities: int = 1_200
    images: int = 20
    set_aside: float = 0.25
    steps: int = 1_000
    batch: int = 64
    learning_rate: float = 0.1
    embedding_dim: int = 128
    looks: int = 4
    first_look: int = 2
    precision: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "identities": (self.identities >= 8, "from 8"),
            "images": (self.images >= _LEAST_IMAGES, f"from {_LEAST_IMAGES}"),
            "set_aside": (0 < self.set_aside < 1, "between 0 and 1"),
            "steps": (self.steps >= 1, "from 1"),
            "batch": (self.batch >= 2, "from 2"),
            "learning_rate": (0 < self.learning_rate < math.inf, "above 0, finite"),
            "embedding_dim": (self.embedding_dim >= 1, "from 1"),
            "looks": (1 <= self.looks <= self.steps, "from 1, at most one for each step"),
            "first_look": (self.first_look >= 1, "from 1"),
            "precision": (self.precision in PRECISIONS, ", ".join(PRECISIONS)),
            "seed": (self.seed >= 0, "from 0"),
        }
        check_fields(self, limits, next_step="leave it out", within="proxy.")

    @property
    def look_steps(self) -> tuple[int, ...]:
        """Steps after which accuracy is measured; the last one is the end."""
        return tuple(round(self.steps * (i + 1) / self.looks) for i in range(self.looks))

    def training(self, architecture: Architecture, *, images: int) -> TrainConfig:
        """The training of a candidate.

        Args:
            architecture: The candidate.
            images: In the training set.
        """
        return TrainConfig(
            backbone=BackboneConfig(
                name="ridnet",
                architecture=architecture,
                input_size=architecture.input_size,
                embedding_dim=self.embedding_dim,
            ),
            head=HeadConfig(kind="cosface", margin=0.2, scale=30.0),
            optimizer=OptimizerConfig(learning_rate=self.learning_rate, weight_decay=5e-4),
            schedule=ScheduleConfig(
                epochs=self.steps * self.batch / images,
                warmup_epochs=0.1 * self.steps * self.batch / images,
                shape="cosine",
            ),
            augment=AugmentConfig(flip=0.5, brightness=0.1, contrast=0.2),
            batch_size=self.batch,
            precision=self.precision,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class ProxyScore:
    """What a brief training came to.

    Attributes:
        accuracy: Area under the ROC curve of all pairs of the people set aside, 0 to 1; 0 for a
            candidate that could not be trained.
        seconds: That it took.
        steps: That were made.
        is_stopped: Whether it was stopped early.
        reason: Why it could not be trained; empty otherwise.
        history: Step and accuracy of each measurement.
    """

    accuracy: float
    seconds: float
    steps: int
    is_stopped: bool = False
    reason: str = ""
    history: tuple[tuple[int, float], ...] = ()


class Proxy:
    """Scores candidates.

    Args:
        store: Aligned faces.
        labels: Who is on them; held-out images are not used.
        config: How briefly to train.
        device: Where.
        cache: Folder of scores, which other searches and workers share; none if None. A candidate
            that was stopped early is not kept there: where it would have come to is unknown.

    Raises:
        UserError: If there are too few people with enough images, or the labels are of another
            store.
    """

    def __init__(
        self,
        store: Store,
        labels: Labels,
        config: ProxyConfig,
        device: torch.device,
        *,
        cache: Path | None = None,
    ) -> None:
        labels.check_store(store)
        self.store = store
        self.labels = labels
        self.config = config
        self.device = device
        self.data_fingerprint = fingerprint(store.fingerprint, labels.fingerprint)
        self.fingerprint = fingerprint(
            "proxy",
            _METHOD,
            json.dumps(to_dict(config), sort_keys=True),
            self.data_fingerprint,
        )
        self.cache = cache
        chosen = _choose(labels, config)
        self._classes = training_identities(chosen)
        self._identity = chosen.identity
        self._rows = chosen.kept(), np.flatnonzero(chosen.is_held_out)
        self._faces: dict[int, _Faces] = {}

    def longer(self, times: int) -> Self:
        """The same people, and trainings of so many times the steps."""
        config = replace(self.config, steps=times * self.config.steps)
        found = type(self)(self.store, self.labels, config, self.device, cache=self.cache)
        found._faces = self._faces  # decoded once
        return found

    def score(self, architecture: Architecture, *, report: Report | None = None) -> ProxyScore:
        """Train a candidate briefly, and measure it.

        The same candidate has the same score on the same machine, whoever asks and however often.

        Args:
            architecture: The candidate.
            report: Told after each measurement; when it says no, training ends.
        """
        known = self._read(architecture)
        if known is not None:
            for step, accuracy in known.history if report else ():
                report(step, accuracy)  # type: ignore[misc]  # others may be compared with it
            return known
        start = time.perf_counter()
        try:
            found = self._train(architecture, report)
        except _UntrainableError as fault:
            found = ProxyScore(accuracy=0.0, seconds=0.0, steps=fault.steps, reason=str(fault))
        found = replace(found, seconds=time.perf_counter() - start)
        if self.cache is not None and not found.is_stopped:
            write_json(self._path(self.cache, architecture), to_dict(found))
        return found

    def _read(self, architecture: Architecture) -> ProxyScore | None:
        path = None if self.cache is None else self._path(self.cache, architecture)
        if path is None or not path.exists():
            return None
        return from_dict(ProxyScore, read_json(path, what="score"), where=str(path))

    def _path(self, cache: Path, architecture: Architecture) -> Path:
        return cache / self.fingerprint / f"{architecture.fingerprint}.json"

    def _train(self, architecture: Architecture, report: Report | None) -> ProxyScore:
        config, faces = self.config, self._faces_of(architecture.input_size)
        count = len(faces.training)
        history: list[tuple[int, float]] = []
        with torch.random.fork_rng():
            learner = Learner(
                config.training(architecture, images=count),
                identities=int(faces.training_class.max()) + 1,
                images=count,
                device=self.device,
                ranks=Ranks(),
            )
            stream = Stream(np.arange(count), seed=config.seed)
            for step in range(config.steps):
                _step(learner, step, faces, stream.draw(step * config.batch, config.batch).images)
                if step + 1 not in config.look_steps:
                    continue
                history.append((step + 1, self._measure(learner, faces)))
                is_wanted = report is None or report(*history[-1])
                if not is_wanted and len(history) >= config.first_look:
                    break
        steps, accuracy = history[-1]
        return ProxyScore(
            accuracy=accuracy,
            seconds=0.0,
            steps=steps,
            is_stopped=steps < config.steps,
            history=tuple(history),
        )

    def _measure(self, learner: Learner, faces: _Faces) -> float:
        learner.head.settle()
        learner.backbone.eval()
        size = learner.config.backbone.input_size
        parts = [
            embed_batch(
                learner.backbone,
                part.to(self.device),
                input_size=size,
                precision=self.config.precision,
            )
            for part in torch.split(faces.measured, _EMBED_BATCH)
        ]
        embedding = np.concatenate(parts)
        if not np.isfinite(embedding).all():
            raise _UntrainableError("embeddings that are not finite", steps=self.config.steps)
        return area_of_all_pairs(embedding, faces.measured_identity)

    def _faces_of(self, size: int) -> _Faces:
        """Decode and shrink once for all candidates of an input size."""
        if size not in self._faces:
            training, measured = self._rows
            self._faces[size] = _Faces(
                training=_shrunk(self.store, training, size),
                training_class=torch.from_numpy(self._classes[training]),
                measured=_shrunk(self.store, measured, size),
                measured_identity=self._identity[measured],
            )
        return self._faces[size]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Faces:
    """Images of one size, uint8 (N, H, W, 3), and who is on them, (N,)."""

    training: Tensor
    training_class: Tensor
    measured: Tensor
    measured_identity: IntArray


class _UntrainableError(Exception):
    """A candidate whose training came to nothing."""

    def __init__(self, reason: str, *, steps: int) -> None:
        super().__init__(reason)
        self.steps = steps


def area_of_all_pairs(embedding: FloatArray, identity: IntArray) -> float:
    """Area under the ROC curve of all pairs of images.

    Args:
        embedding: Shape (N, D), of any length.
        identity: Shape (N,).

    Example:
        >>> embedding = np.array([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.1, 1.0]])
        >>> area_of_all_pairs(embedding, np.array([0, 0, 1, 1]))
        1.0
    """
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    unit = embedding / np.maximum(length, np.finfo(embedding.dtype).tiny)
    a, b = np.triu_indices(len(unit), k=1)
    score, is_genuine = (unit @ unit.T)[a, b], identity[a] == identity[b]
    return RankedScores(score[is_genuine], score[~is_genuine]).curve().auc()


def _step(learner: Learner, step: int, faces: _Faces, rows: IntArray) -> None:
    chosen = torch.from_numpy(rows)
    try:
        loss = learner.step(step, faces.training[chosen], faces.training_class[chosen])
    except NotFiniteError as fault:
        raise _UntrainableError(str(fault), steps=step) from fault
    if not math.isfinite(float(loss)):
        raise _UntrainableError(f"a loss of {float(loss)}", steps=step)


def _shrunk(store: Store, rows: IntArray, size: int) -> Tensor:
    """Decode images and shrink them as the network's input will be, but in whole numbers."""
    parts = []
    for start in range(0, len(rows), _EMBED_BATCH):
        decoded = torch.from_numpy(decode_batch(store, rows[start : start + _EMBED_BATCH]))
        if store.image_size != size:
            pixels = to_input(decoded, size).permute(0, 2, 3, 1)
            decoded = pixels.mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8)
        parts.append(decoded)
    return torch.cat(parts).contiguous()


def _choose(labels: Labels, config: ProxyConfig) -> Labels:
    """Keep a few images of a few people, and hold some of those people out."""
    rng = np.random.default_rng(0)  # so that seeds differ in their training alone
    rows = np.flatnonzero(labels.keep)
    rows = rows[rng.permutation(len(rows))]
    rows = rows[np.argsort(labels.identity[rows], kind="stable")]  # by person, shuffled within
    known, first, counts = np.unique(labels.identity[rows], return_index=True, return_counts=True)
    place = np.arange(len(rows)) - np.repeat(first, counts)
    eligible = known[counts >= _LEAST_IMAGES]
    chosen = rng.permutation(eligible)[: config.identities]
    kept = rows[(place < config.images) & np.isin(labels.identity[rows], chosen)]
    keep = np.zeros(len(labels), dtype=np.bool_)
    keep[kept] = True
    chosen_alone = labels.without(labels.keep & ~keep, reason="not in the proxy")
    aside = max(round(len(chosen) * config.set_aside), LEAST_HELD_OUT)
    return chosen_alone.hold_out(aside, seed=0)
