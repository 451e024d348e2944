"""The trainer: one recipe, one store, one folder; killed and repeated it ends in the same weights.

The loop holds no hidden state. Which images a step sees depends on seed and step; so do all its
random draws; the rest (weights, momentum, the loss scale) is in the checkpoint. A resumed run
therefore repeats the uninterrupted one bit by bit on one machine with one number of threads and of
ranks; on a GPU, as far as its kernels repeat themselves. On another number of ranks it goes on with
the same images in the same order; sums are added in another order then, and batch norm and
augmentation draw over other parts of a batch.

On several ranks every method is called by all of them; the first one alone writes the run's folder.
Before each step they agree that all may make it, so that they stop together, with a checkpoint,
when one of them is asked to (SIGTERM) or gets no batch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

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
from openmfr.distributed import Ranks, lost_rank_said
from openmfr.errors import UserError, full_disk_said
from openmfr.evaluation.comparisons import Comparisons
from openmfr.files import only_one
from openmfr.heads import NotFiniteError
from openmfr.run import Run, event, progress
from openmfr.train.config import HeadStart, TrainConfig
from openmfr.train.curves import Record, recording
from openmfr.train.feeder import Patience, feeding, lost_decoder_said
from openmfr.train.holdout import Holdout, summarise
from openmfr.train.learner import Learner
from openmfr.train.parallel import check_batch
from openmfr.train.stopping import StopRequest, stop_after_the_end, stop_on_sigterm, take_batch
from openmfr.train.watchdog import Losses, Pace, SlowRanks, Stopwatch, diverged

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
        is_balanced = config.sampling == "identities"  # else half a gigabyte for 42 M images
        self.order = order_of(
            training_images(labels, store),
            self.identity[labels.keep] if is_balanced else None,
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
        self._saved_step = 0
        self._losses, self._stopwatch, self._slow = Losses(), Stopwatch(), SlowRanks()

    def fit(self, *, patience: Patience | None = None, seconds: float | None = None) -> Path:
        """Train to the end, from the last checkpoint if there is one.

        With held-out identities a page about them, with training curves, is written at the end.
        While it trains, SIGTERM ends it at the next step, with a checkpoint; Ctrl-C at once.

        Args:
            patience: How long to wait for a batch.
            seconds: Ask all ranks to stop after so long, as SIGTERM does; by default never.

        Returns:
            The best checkpoint's folder.

        Raises:
            UserError: If the loss is no longer finite, no batch comes, another rank does not
                answer, or the disk is full. The last checkpoint is a good one in each case.
            Preempted: If SIGTERM came or the time was over; the same call goes on.
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
                with (
                    self._watched(),
                    torch.random.fork_rng(),
                    stop_on_sigterm() as stop,
                    stop.after(seconds),
                ):
                    self._loop(first, stop, patience or Patience())
            if self.holdout is not None and not (self.run.path / "report.html").exists():
                self._report(self.holdout)
            best = self.checkpoints.best()
            self.ranks.barrier()
        return best

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Around the steps: log them, measure their parts, and say clearly what ends them."""
        hook = self.learner.head.register_forward_pre_hook(self._stopwatch.reach_others)
        try:
            with (
                self.run.log_to_file(is_first=self.ranks.is_first, rank=self.ranks.rank),
                full_disk_said(self.run.path),
                lost_decoder_said(str(self.run.path)),
                lost_rank_said(f"{self.run.path}, rank {self.ranks.rank}"),
            ):
                yield
        finally:
            hook.remove()

    def _loop(self, first: int, stop: StopRequest, patience: Patience) -> None:
        logger.info(
            "%s images of %s identities, %s steps of %s, from step %s",
            f"{self.images:,}",
            f"{self.learner.head.num_identities:,}",
            f"{self.steps:,}",
            self.config.batch_size,
            f"{first:,}",
            extra=event("resume" if first else "begin", step=first),
        )
        self._saved_step = first
        self._losses.begin(first)
        self._stopwatch.restart()
        with (
            recording(self.run, first=first, is_first=self.ranks.is_first) as record,
            self._progress(first) as advance,
            feeding(self.batches(first), patience) as feeder,
        ):
            for step in range(first, self.steps):
                images, identity = take_batch(
                    feeder,
                    self.ranks,
                    stop,
                    where=f"{self.run.path}, step {step + 1}",
                    waiting=self._stopwatch.waiting(),
                    save=partial(self._save_before_stop, step),
                )
                self._stopwatch.begin_step()
                self._losses.add(self.step(step, images, identity))
                advance(self.config.batch_size, self._after(step + 1, record))
            self.checkpoints.wait()
            stop_after_the_end(self.ranks, stop, where=str(self.run.path))

    def _save_before_stop(self, done: int) -> None:
        if done != self._saved_step:
            self._check_loss(done)
            self._settle(done)
            self._save(done, {})
        self.checkpoints.wait()

    def _after(self, done: int, record: Record) -> str:
        """What follows a step: a row of metrics, a measurement, a checkpoint; or nothing.

        Returns:
            What to show beside the progress.
        """
        config = self.config
        evaluate_steps = max(1, round(config.evaluate_epochs * self.images / config.batch_size))
        is_measured = done == self.steps or done % evaluate_steps == 0
        is_saved = is_measured or done % config.checkpoint_steps == 0
        if not (is_saved or done == 1 or done % LOG_EVERY == 0):
            return ""
        value = self._check_loss(done)
        pace = self._stopwatch.pace
        record(self._row(done, value, pace))
        self._slow.note(done, pace, self.ranks)
        if is_saved:
            self._settle(done)
            self._save(done, self._measure(done, record) if is_measured else {})
        self._stopwatch.restart()
        return f"loss {value:.3f}"

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
            FaceDataset(
                self.store,
                self.identity,
                change=self.masker,
                threads=1 if self.workers else torch.get_num_threads(),
            ),
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
                step + 1, f"embeddings that are not finite, of images {concerned} of the store"
            ) from error

    def _check_loss(self, done: int) -> float:
        """Look at the losses since the last look, which are the same on all ranks."""
        step, value = self._losses.look()
        if not math.isfinite(value):
            raise self._diverged(step, f"loss {value}")
        assert step == done
        return value

    def _settle(self, done: int) -> None:
        """Make up for moves of the head that were put off; what is saved must be finite."""
        self.learner.head.settle()
        found = self.learner.what_is_not_finite()
        if found is not None:
            raise self._diverged(done, found)

    def _diverged(self, step: int, found: str) -> UserError:
        size, last = self.config.batch_size, self._saved_step
        steps = range(max(step - 1, 1), step + 1)  # and the one before, which moved the weights
        return diverged(
            self.run.path,
            step=step,
            found=found,
            learning_rate=self.learner.learning_rate,
            images={n: self.order.draw((n - 1) * size, size).images.tolist() for n in steps},
            good=self.run.path / "checkpoints" / f"step-{last:08d}" if last else None,
            is_first=self.ranks.is_first,
        )

    def _row(self, step: int, loss: float, pace: Pace) -> dict[str, float]:
        row = {
            "step": step,
            "epoch": step * self.config.batch_size / self.images,
            "loss": loss,
            "learning_rate": self.learner.learning_rate,
            "images_per_second": self.config.batch_size / pace.step,
            "step_seconds": pace.step,
            "data_seconds": pace.data,
        }
        if self.learner.scaler.is_enabled():
            row["skipped_steps"] = self.learner.skipped_steps
        return row

    def _progress(self, first: int) -> AbstractContextManager[Callable[..., None]]:
        size, is_shown = self.config.batch_size, self.ranks.is_first
        total, done = self.steps * size, first * size
        return progress("train", total=total, unit="images", done=done, is_shown=is_shown)

    def _measure(self, done: int, record: Record) -> dict[str, float]:
        """Figures of the held-out identities by name; none without them."""
        if self.holdout is None:
            return {}
        metrics = summarise(self._compare_held_out(self.holdout))
        epoch = done * self.config.batch_size / self.images
        record({"step": done, "epoch": epoch, **metrics})
        text = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        logger.info("epoch %.1f: %s", epoch, text, extra=event("measurement", step=done))
        return metrics

    def _save(self, done: int, metrics: dict[str, float]) -> None:
        """Write a checkpoint; `_settle` comes before."""
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
        self._saved_step = done
        logger.info("checkpoint after step %s", f"{done:,}", extra=event("checkpoint", step=done))

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
