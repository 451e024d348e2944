"""From paths to a trainer: open what a training needs, and bind it to its folder."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from openmfr.checkpoint import Checkpoint
from openmfr.config import to_dict
from openmfr.data.geometry import Geometry
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.distributed import Ranks
from openmfr.errors import UserError
from openmfr.masking.bank import MaskBank
from openmfr.models import build_backbone, count
from openmfr.run import Run
from openmfr.train.config import HeadStart, TrainConfig
from openmfr.train.trainer import Trainer
from openmfr.version import __version__

if TYPE_CHECKING:
    from openmfr.masking.augment import Masker


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training that can be described, begun, and gone on with.

    Attributes:
        config: The resolved configuration.
        store: Folder of aligned faces.
        labels: Label table; `labels.parquet` in the store's folder if None.
        geometry: Where the store's faces are; `geometry` in its folder if None. Only masks need it.
        templates: Folder of a user's mask templates; drawn ones if None.
        start_from: Checkpoint or run to fine-tune.
        head_start: What to do with its prototypes.
    """

    config: TrainConfig
    store: Path
    labels: Path | None = None
    geometry: Path | None = None
    templates: Path | None = None
    start_from: Path | None = None
    head_start: HeadStart = "same"

    def read_labels(self) -> Labels:
        """Read the label table."""
        return Labels.read(self.labels or self.store / "labels.parquet")

    def masker(self, store: Store, labels: Labels) -> Masker | None:
        """Make what puts on the configuration's masks; None where it asks for none."""
        masks = self.config.masks
        if not masks.probability:
            return None
        from openmfr.masking.augment import Masker  # numba takes a second: only where it is needed

        geometry, bank = None, None
        if masks.needs_geometry:
            geometry = Geometry.open(self.geometry or store.path / "geometry", store)
            bank = MaskBank.read(self.templates) if self.templates else masks.draw_bank()
        return Masker(
            masks,
            seed=self.config.seed,
            geometry=geometry,
            bank=bank,
            is_masked=labels.is_masked,
        )

    def describe(self) -> dict[str, str]:
        """What would be done: images, steps, network and its cost, by name."""
        store, labels = Store(self.store), self.read_labels()
        labels.check_store(store)
        if self.config.holdout_identities:
            labels = labels.hold_out(self.config.holdout_identities, seed=self.config.seed)
        config, images = self.config, int(labels.keep.sum())
        with torch.device("meta"):
            cost = count(build_backbone(config.backbone), config.backbone.input_size)
        return {
            "images": f"{images:,} of {len(labels.kept_identities):,} identities",
            "held out": f"{config.holdout_identities} identities",
            "steps": f"{config.steps(images):,} of {config.batch_size} images",
            "backbone": f"{config.backbone.name}, {cost.macs / 1e9:.2f} G multiply-adds, "
            f"{cost.params / 1e6:.2f} M parameters",
            "head": f"{config.head.kind}, margin {config.head.margin:g}",
            "learning rate": f"{config.peak_rate:g} at its peak, {config.schedule.shape}",
            "precision": config.precision,
            "masks": f"{config.masks.probability:.0%} of the images, {config.masks.kind}",
        }

    def trainer(
        self,
        out: Path,
        *,
        device: torch.device,
        workers: int | None = None,
        ranks: Ranks | None = None,
    ) -> Trainer:
        """Open everything and make the trainer of a run's folder.

        Args:
            out: The run's folder; one that the same training began goes on.
            device: Where to train.
            workers: Processes that decode. By default none beside a CPU, which they would only
                interrupt (decoding takes 2 % of a step), and four beside a GPU.
            ranks: Those that train together; by default this process alone.
        """
        if workers is None:
            workers = 0 if device.type == "cpu" else 4
        if workers < 0:
            raise UserError(
                where="workers", found=str(workers), allowed="from 0", next_step="leave it out"
            )
        store, labels = Store(self.store), self.read_labels()
        labels.check_store(store)
        start_from = Checkpoint.open(self.start_from) if self.start_from else None
        masker = self.masker(store, labels)
        masks = masker.settings if masker is not None else {}
        settings = {
            "config": to_dict(self.config),
            "store": store.fingerprint,
            "labels": labels.fingerprint,
            "start_from": start_from.fingerprint if start_from else None,
            "head_start": self.head_start,
            **masks,
        }
        about = {
            "store_path": str(self.store.resolve()),
            "openmfr": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        return Trainer(
            self.config,
            store=store,
            labels=labels,
            run=Run(out, settings=settings, about=about),
            device=device,
            workers=workers,
            masker=masker,
            start_from=start_from,
            head_start=self.head_start,
            ranks=ranks,
        )
