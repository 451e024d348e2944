"""Train the network that sees whether a mask is worn, on masks rendered onto bare faces.

A few thousand faces and a few minutes on one CPU are enough. Some identities are set aside and say
how well it works on faces and masks like those it was trained with; how well it works on others,
only labelled photos of real masks can say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from openmfr.data.geometry import Geometry
from openmfr.data.labels import IntArray, Labels
from openmfr.data.store import Store
from openmfr.deploy.mask_worn import THRESHOLD
from openmfr.errors import UserError, check_fields
from openmfr.files import atomic_path
from openmfr.masking.bank import MaskBank
from openmfr.run import progress
from openmfr.train.augment import AugmentConfig, augment
from openmfr.train.mask_examples import Examples, make_examples
from openmfr.train.mask_net import MaskNet, to_onnx

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

#: Detectors place a masked face three pixels off; every step also draws another light.
_AUGMENT: Final = AugmentConfig(
    rotation=5.0, scale=0.06, shift=0.025, brightness=0.1, contrast=0.15, saturation=0.3, grey=0.05
)
_RATE, _DECAY, _SMOOTHING = 3e-3, 1e-3, 0.02
_WARMUP: Final = 0.05
#: Keeps the masks and draws of the faces set aside from those of training.
_HELD_OUT: Final = 1
_TEMPLATE_SIZE: Final = 128
_BATCH: Final = 256


@dataclass(frozen=True, kw_only=True)
class LearnConfig:
    """How the network is trained.

    Attributes:
        faces: At most so many of the store's bare faces, chosen at random.
        pairs: Bare and masked examples to draw of each.
        epochs: How often each example is seen.
        batch: Examples in a step.
        templates: Masks to draw.
        held_out: Share of the identities to measure on.
        seed: Of everything that is drawn.
    """

    faces: int = 4_000
    pairs: int = 4
    epochs: int = 4
    batch: int = 64
    templates: int = 400
    held_out: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        counts = {
            name: (getattr(self, name) >= 1, "from 1")
            for name in ("faces", "pairs", "epochs", "templates")
        }
        limits = counts | {
            "batch": (self.batch >= 2, "from 2"),
            "held_out": (0 < self.held_out < 1, "above 0, below 1"),
            "seed": (self.seed >= 0, "from 0"),
        }
        check_fields(self, limits, next_step="leave it out")


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """A trained network, and how it did on the identities set aside.

    Attributes:
        network: On the CPU, in evaluation mode.
        store: Fingerprint of the store whose faces it was trained on.
        trained_on: Examples seen in training.
        held_out: Examples measured on.
        misses: Share of masks among them that were not seen.
        false_alarms: Share of bare faces among them that were taken for masked.
    """

    network: MaskNet
    store: str
    trained_on: int
    held_out: int
    misses: float
    false_alarms: float


def learn(
    store: Store,
    labels: Labels,
    geometry: Geometry,
    config: LearnConfig,
    *,
    bank: MaskBank | None = None,
) -> Learnt:
    """Train the network on a store's faces, with masks rendered onto them.

    Args:
        store: Faces.
        labels: Who is on them; those not kept, and those that wear real masks, are left alone.
        geometry: Where their faces are.
        config: How.
        bank: Masks to wear; drawn if None, others for the identities set aside.

    Returns:
        The network and what it did on identities set aside.

    Raises:
        UserError: If there are too few faces.
    """
    labels.check_store(store)
    train, held_out = _split(labels, geometry, config)
    parts = []
    for images, pairs, seed in (
        (train, config.pairs, config.seed),
        (held_out, 1, config.seed + _HELD_OUT),
    ):
        masks = bank or MaskBank.drawn(config.templates, seed=seed, size=_TEMPLATE_SIZE)
        parts.append(make_examples(store, images, geometry, masks, pairs=pairs, seed=seed))
    network = _train(parts[0], config)
    is_seen = predict(network, parts[1].images) >= THRESHOLD
    is_worn = parts[1].is_worn
    return Learnt(
        network=network,
        store=store.fingerprint,
        trained_on=len(parts[0].is_worn),
        held_out=len(is_worn),
        misses=float(1 - is_seen[is_worn].mean()),
        false_alarms=float(is_seen[~is_worn].mean()),
    )


def predict(network: MaskNet, images: UInt8Array) -> Float32Array:
    """Say how probably each of M faces, uint8 (M, 112, 112, 3), wears a mask, float32 (M,)."""
    network.eval()
    with torch.inference_mode():
        parts = [
            torch.sigmoid(network(_to_floats(images[first : first + _BATCH])))
            for first in range(0, len(images), _BATCH)
        ]
    return torch.cat(parts).numpy()


def check_out(out: Path, *, overwrite: bool) -> None:
    """Check where a network is to be written, before it is trained.

    Raises:
        UserError: If it is no name for an ONNX file, or one that exists may not be replaced.
    """
    if out.suffix != ".onnx":
        raise UserError(
            where=str(out),
            found="a name that ends otherwise",
            allowed="a file that ends in .onnx",
            next_step=f"{out.with_suffix('.onnx')}",
        )
    if out.exists() and not overwrite:
        raise UserError(
            where=str(out),
            found="a file",
            allowed="a new file",
            next_step="name another, or add --overwrite",
        )


def save(learnt: Learnt, out: Path) -> int:
    """Write a trained network as an ONNX file that `MaskClassifier` reads; return its bytes."""
    about = {
        "openmfr.mask_worn.trained_on": str(learnt.trained_on),
        "openmfr.mask_worn.store": learnt.store,
        "openmfr.mask_worn.misses": f"{learnt.misses:.4f}",
        "openmfr.mask_worn.false_alarms": f"{learnt.false_alarms:.4f}",
    }
    encoded = to_onnx(learnt.network, about=about).SerializeToString()
    with atomic_path(out) as temporary:
        temporary.write_bytes(encoded)
    return len(encoded)


def _split(labels: Labels, geometry: Geometry, config: LearnConfig) -> tuple[IntArray, IntArray]:
    """Choose faces to train on, and others of other people to measure on."""
    usable = np.flatnonzero(labels.keep & ~labels.is_masked & geometry.is_fitted)
    rng = np.random.default_rng(config.seed)
    chosen = np.sort(rng.permutation(usable)[: config.faces])
    people = np.unique(labels.identity[chosen])
    aside = rng.permutation(people)[: math.ceil(config.held_out * len(people))]
    is_aside = np.isin(labels.identity[chosen], aside)
    if is_aside.all() or not is_aside.any():
        raise UserError(
            where="store",
            found=f"{len(chosen)} bare faces of {len(people)} people whose geometry is known",
            allowed="some hundred, of two people at least",
            next_step="openmfr synth makes faces, openmfr mask fit their geometry",
        )
    return chosen[~is_aside], chosen[is_aside]


def _train(examples: Examples, config: LearnConfig) -> MaskNet:
    torch.manual_seed(config.seed)  # initial weights and dropout have no generator of their own
    network = MaskNet().train()
    generator = torch.Generator().manual_seed(config.seed)
    count = len(examples.is_worn)
    batch = min(config.batch, count)
    steps = config.epochs * (count // batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _RATE, total_steps=steps + 1, pct_start=_WARMUP, cycle_momentum=False
    )
    target = torch.from_numpy(examples.is_worn).float() * (1 - 2 * _SMOOTHING) + _SMOOTHING
    with progress("mask learn", total=steps * batch, unit="faces") as advance:
        for _ in range(config.epochs):
            order = torch.randperm(count, generator=generator)
            for chosen in torch.split(order[: count // batch * batch], batch):
                faces = _to_floats(examples.images[chosen.numpy()])
                logits = network(augment(faces, _AUGMENT, generator))
                loss = nn.functional.binary_cross_entropy_with_logits(logits, target[chosen])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
                advance(batch)
    return network.eval()


def _to_floats(images: UInt8Array) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
