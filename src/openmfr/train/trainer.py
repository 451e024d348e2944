"""The trainer: one recipe, one store, one folder; killed and repeated it ends in the same weights.

The loop holds no hidden state. Which images a step sees depends on seed and step; so do all its
random draws; the rest (weights, momentum, the loss scale) is in the checkpoint. A resumed run
therefore repeats the uninterrupted one bit by bit on one machine with one number of threads and of
ranks; on a GPU, as far as its kernels repeat themselves. On another number of ranks it goes on with
the same images in the same order; sums are added in another order then, and batch norm and
augmentation draw over other parts of a batch.

On several ranks every method is called by all of them; the first one alone writes the run's folder.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard.writer import SummaryWriter

from openmfr.checkpoint import Checkpoint, CheckpointFolder, CheckpointInfo, load_into
from openmfr.config import to_dict
from openmfr.data.labels import Labels
from openmfr.data.loader import (
    Change,
    FaceDataset,
    StreamSampler,
    load_batches,
    training_identities,
)
from openmfr.data.order import order_of, training_images
from openmfr.data.store import Store
from openmfr.distributed import Ranks
from openmfr.errors import UserError
from openmfr.evaluation.comparisons import Comparisons
from openmfr.files import only_one
from openmfr.heads import NotFiniteError
from openmfr.run import Run, progress
from openmfr.train.config import HeadStart, TrainConfig
from openmfr.train.holdout import Holdout, summarise
from openmfr.train.learner import Learner
from openmfr.train.parallel import check_batch

logger = logging.getLogger(__name__)

LOG_EVERY = 20
LABELS_FILE, HELD_OUT_FILE = "labels.parquet", "held_out.parquet"


class Trainer:
    """Trains one recogniser.

    Args:
        config: What to do.
        store: The images.
        labels: Who is on them. The run keeps the table that it really used (`labels.parquet`), in
            which held-out identities are left out, and one that keeps those alone
            (`held_out.parquet`).
        run: Where checkpoints, metrics and log go.
        device: Where to train.
        workers: Processes that decode; the result does not depend on them.
        masker: Puts on the masks that the configuration asks for, if any.
        start_from: A checkpoint to start from.
        head_start: What to do with its prototypes.
        ranks: Those that train together; by default this process alone.

    Raises:
        UserError: If the labels belong to another store, fewer than two identities remain, the
            batch is too small for the ranks, or `start_from` holds another network or labels.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        store: Store,
        labels: Labels,
        run: Run,
        device: torch.device | None = None,
        workers: int = 0,
        masker: Change | None = None,
        start_from: Checkpoint | None = None,
        head_start: HeadStart = "same",
        ranks: Ranks | None = None,
    ) -> None:
        labels.check_store(store)
        self.ranks = ranks or Ranks()
        check_batch(config.batch_size, self.ranks)
        self.config = config
        self.store = store
        self.run = run
        self.device = device or torch.device("cpu")
        self.workers = workers
        self.masker = masker
        self.holdout: Holdout | None = None
        if config.holdout_identities:
            self.holdout = Holdout(
                store, labels, identities=config.holdout_identities, seed=config.seed
            )
            labels = self.holdout.training_labels
        self.labels = labels
        self.identity = training_identities(labels)
        self.order = order_of(
            training_images(labels, store),
            self.identity,
            sampling=config.sampling,
            seed=config.seed,
        )
        self.images = self.order.size
        self.steps = config.steps(self.images)
        self.learner = Learner(
            config,
            identities=int(self.identity.max()) + 1,
            images=self.images,
            device=self.device,
            ranks=self.ranks,
        )
        if start_from is not None:
            self.learner.start_from(start_from, labels=labels.fingerprint, head=head_start)
        self.checkpoints = CheckpointFolder(
            run.path / "checkpoints",
            ranks=self.ranks,
            in_background=config.background_checkpoints,
        )

    def fit(self) -> Path:
        """Train to the end, from the last checkpoint if there is one.

        With held-out identities a page about them, with training curves, is written at the end.

        Returns:
            The best checkpoint's folder.

        Raises:
            UserError: If the loss is no longer finite.
        """
        if self.ranks.is_first:
            self.run.begin()
            self.labels.write(self.run.path / LABELS_FILE)
            if self.holdout is not None:
                self.labels.only_held_out().write(self.run.path / HELD_OUT_FILE)
        self.ranks.barrier()
        with only_one(self.run.path) if self.ranks.is_first else nullcontext():
            first = self._resume()
            if first < self.steps:
                with self.run.log_to_file(is_first=self.ranks.is_first), torch.random.fork_rng():
                    self._loop(first)
            if self.holdout is not None and not (self.run.path / "report.html").exists():
                self._report(self.holdout)
            best = self.checkpoints.best()
            self.ranks.barrier()
        return best

    def _loop(self, first: int) -> None:
        config = self.config
        logger.info(
            "%s images of %s identities, %s steps of %s, from step %s",
            f"{self.images:,}",
            f"{self.learner.head.num_identities:,}",
            f"{self.steps:,}",
            config.batch_size,
            f"{first:,}",
        )
        board = self._board(first)
        evaluate_steps = max(1, round(config.evaluate_epochs * self.images / config.batch_size))
        since, seconds = first, time.perf_counter()
        with progress(
            "train",
            total=self.steps * config.batch_size,
            unit="images",
            done=first * config.batch_size,
            is_shown=self.ranks.is_first,
        ) as advance:
            for step, (images, identity) in enumerate(self.batches(first), start=first):
                loss = self.step(step, images, identity)
                done = step + 1
                is_last = done == self.steps
                is_measured = is_last or done % evaluate_steps == 0
                is_saved = is_measured or done % config.checkpoint_steps == 0
                note = ""
                if is_saved or done == 1 or done % LOG_EVERY == 0:
                    value = self._check_finite(done, loss)
                    rate = (done - since) / (time.perf_counter() - seconds)
                    self._record(self._row(done, value, rate), board)
                    note = f"loss {value:.3f}"
                if is_saved:
                    self.learner.head.settle()
                    self._check_weights(done)
                    self._checkpoint(done, board, is_measured=is_measured)
                if note:
                    since, seconds = done, time.perf_counter()
                advance(config.batch_size, note)
        if board is not None:
            board.close()

    def batches(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Serve decoded batches from a step to the end: uint8 (B, H, W, 3), and classes (B,)."""
        sampler = StreamSampler(
            self.order,
            batch_size=self.config.batch_size,
            start_step=first,
            stop_step=self.steps,
            ranks=self.ranks,
        )
        return load_batches(
            FaceDataset(self.store, self.identity, change=self.masker),
            sampler,
            workers=self.workers,
            pin_memory=self.device.type == "cuda",
        )

    def step(self, step: int, images: Tensor, identity: Tensor) -> Tensor:
        """Make one optimizer step; see `Learner.step`.

        Raises:
            UserError: If embeddings are not finite, with the images that are concerned.
        """
        try:
            return self.learner.step(step, images, identity)
        except NotFiniteError as error:
            batch = self.order.draw(step * self.config.batch_size, self.config.batch_size).images
            concerned = ", ".join(str(index) for index in batch[error.rows][:10])
            raise self._diverged(
                step, f"embeddings that are not finite, of images {concerned} of the store"
            ) from error

    def _check_finite(self, step: int, loss: Tensor) -> float:
        value = float(loss)
        if not math.isfinite(value):
            raise self._diverged(step, f"loss {value}")
        return value

    def _check_weights(self, step: int) -> None:
        """What is saved must be finite."""
        found = self.learner.what_is_not_finite()
        if found is not None:
            raise self._diverged(step, found)

    def _diverged(self, step: int, found: str) -> UserError:
        return UserError(
            where=f"{self.run.path}, step {step}",
            found=found,
            allowed="finite numbers",
            next_step="lower the learning rate or lengthen the warm-up, in a new folder",
        )

    def _row(self, step: int, loss: float, steps_per_second: float) -> dict[str, float]:
        row = {
            "step": step,
            "epoch": step * self.config.batch_size / self.images,
            "loss": loss,
            "learning_rate": self.learner.learning_rate,
            "images_per_second": steps_per_second * self.config.batch_size,
        }
        if self.learner.scaler.is_enabled():
            row["skipped_steps"] = self.learner.skipped_steps
        return row

    def _board(self, first: int) -> SummaryWriter | None:
        if not self.ranks.is_first:
            return None
        return SummaryWriter(str(self.run.path / "tensorboard"), purge_step=first)

    def _record(self, row: dict[str, float], board: SummaryWriter | None) -> None:
        if board is None:
            return
        self.run.add_metrics(row)
        for name, value in row.items():
            if name != "step":
                board.add_scalar(name, value, int(row["step"]))

    def _checkpoint(self, done: int, board: SummaryWriter | None, *, is_measured: bool) -> None:
        metrics: dict[str, float] = {}
        if is_measured and self.holdout is not None:
            metrics = summarise(self._compare_held_out(self.holdout))
            epoch = done * self.config.batch_size / self.images
            self._record({"step": done, "epoch": epoch, **metrics}, board)
            logger.info(
                "epoch %.1f: %s", epoch, ", ".join(f"{k} {v:.4f}" for k, v in metrics.items())
            )
        info = CheckpointInfo(
            backbone=self.config.backbone,
            step=done,
            images_seen=done * self.config.batch_size,
            identities=self.learner.head.num_identities,
            store=self.store.fingerprint,
            labels=self.labels.fingerprint,
            metrics=metrics,
        )
        self.checkpoints.add(
            info,
            score=metrics.get("holdout_accuracy"),
            backbone=self.learner.backbone.state_dict(),
            training=self.learner.training_state(),
            shards=self.learner.shards(),
        )

    def _compare_held_out(self, holdout: Holdout) -> Comparisons:
        config = self.config
        return holdout.compare(
            self.learner.backbone,
            config.backbone.input_size,
            config.precision,
            self.device,
            self.ranks,
        )

    def _report(self, holdout: Holdout) -> None:
        best = Checkpoint.open(self.checkpoints.best())
        load_into(self.learner.backbone, best.read_backbone(), where=best.path)
        compared = self._compare_held_out(holdout)
        if self.ranks.is_first:
            holdout.report(
                compared,
                self.run.path,
                run=self.run,
                configuration={
                    **self.run.about,
                    **to_dict(self.config),
                    "checkpoint": best.path.name,
                },
            )

    def _resume(self) -> int:
        """Load the run's last checkpoint, if there is one; return the next step."""
        last = self.checkpoints.last()
        first = 0
        if last is not None:
            checkpoint = Checkpoint.open(last)
            self.learner.load(checkpoint)
            first = checkpoint.info.step
        if self.ranks.is_first:
            self.run.rewind_metrics(first)
        self.ranks.barrier()
        return first
