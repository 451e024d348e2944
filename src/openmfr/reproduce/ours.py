"""Experiments that are not in the paper, in the same form as its tables."""

from __future__ import annotations

from dataclasses import replace

from openmfr.masking.config import MaskKind
from openmfr.reproduce.experiment import Arm, Experiment
from openmfr.reproduce.tables import BOTH_KINDS, base, claim
from openmfr.train import TrainConfig


def masks() -> Experiment:
    """Ways to mask training images."""

    def worn(kind: MaskKind, share: float = 0.15) -> TrainConfig:
        start = base(masks=share)
        return replace(start, masks=replace(start.masks, kind=kind))

    none, erased, flat, rendered, more = (
        "none",
        "15% erased",
        "15% flat",
        "15% rendered",
        "33% rendered",
    )
    better = ((rendered, none), (rendered, erased), (rendered, flat), (more, rendered))
    return Experiment(
        table="masks",
        title="Masks in 3D, flat masks, erased halves",
        arms=(
            Arm(name=none, config=base(masks=0.0)),
            Arm(name=erased, config=worn("erase")),
            Arm(name=flat, config=worn("flat")),
            Arm(name=rendered, config=worn("rendered")),
            Arm(name=more, config=worn("rendered", 0.33)),
        ),
        claims=tuple(
            claim(f"{first} beats {second}, {figure}", first, second, figure)
            for figure in ("masked", "masked pairs", "bare", "really masked")
            for first, second in better
        ),
        notes=(
            "Not in the paper, which renders masks onto 15 % of the images. Flat masks are the "
            "same templates, laid on without depth and light; erased halves have one colour.",
        ),
    )


def synthetic() -> Experiment:
    """Synthetic faces before real ones; not in the paper."""
    start = base()
    names = ("synthetic faces alone", "synthetic, then real", "real faces alone")
    alone, then_real, real = names
    return Experiment(
        table="synthetic",
        title="Training on synthetic faces before real ones",
        arms=(
            Arm(name=alone, config=start, is_synthetic=True),
            Arm(name=then_real, config=start, start_from=alone),
            Arm(name=real, config=start),
        ),
        claims=tuple(
            claim(f"synthetic faces help, {figure}", then_real, real, figure)
            for figure in BOTH_KINDS
        ),
        notes=(
            "Not in the paper. 1,000 synthetic people with 20 images each come first, in a "
            "training of the same length; then real faces, with new prototypes.",
        ),
    )
