"""Experiments that are not in the paper, in the same form as its tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from openmfr.masking.config import MaskKind
from openmfr.recipes import probe_real, tiny_real
from openmfr.reproduce.experiment import Arm, Experiment
from openmfr.reproduce.networks import BY_CHANCE, BY_EVOLUTION, MACS, scaled_ridnet
from openmfr.reproduce.tables import BOTH_KINDS, base, claim, final, peers
from openmfr.train import TrainConfig

#: Multiply-adds of a RIDNet that takes as long as the fastest of its peers, over theirs.
SAME_TIME: Final = 1.5


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


def parts() -> Experiment:
    """The final recipe, and the same with each of its parts taken away."""
    whole, small = final(), probe_real()
    size, network = small.backbone.input_size, whole.backbone.architecture
    assert network is not None
    shrunk = replace(
        whole.backbone, input_size=size, architecture=replace(network, input_size=size)
    )
    without = {
        "tiny network": replace(whole, backbone=tiny_real().backbone),
        "margin 0.2": replace(whole, head=replace(whole.head, margin=0.2)),
        "15% masked": replace(whole, masks=replace(whole.masks, probability=0.15)),
        "no masks": replace(whole, masks=replace(whole.masks, probability=0.0)),
        "64 × 64 pixels": replace(whole, backbone=shrunk),
        "14 epochs": replace(whole, schedule=small.schedule),
    }
    return Experiment(
        table="parts",
        title="What each part of the final recipe is worth",
        arms=(
            Arm(name="whole", config=whole),
            *(Arm(name=name, config=config) for name, config in without.items()),
        ),
        claims=tuple(
            claim(f"beats {name}, {figure}", "whole", name, figure)
            for name in without
            for figure in BOTH_KINDS
        ),
        notes=(
            "Not in the paper. The whole is `masked_real`: RIDNet-Tiny, margin 0.4, masks on a "
            "third of the images, at 112 × 112, for 22 epochs; masks of training are of other "
            "styles than those of the test. The tiny network has as many multiply-adds.",
        ),
    )


def latency() -> Experiment:
    """A RIDNet beside networks that take as long, where Table 7 has equal multiply-adds."""
    start = base()
    ridnet = replace(start, backbone=scaled_ridnet(start.backbone, SAME_TIME * MACS))
    return Experiment(
        table="latency",
        title="Networks of equal time",
        arms=(Arm(name="RIDNet", config=ridnet), *peers()),
        claims=tuple(
            claim(f"beats {arm.name}, {figure}", "RIDNet", arm.name, figure)
            for arm in peers()
            for figure in BOTH_KINDS
        ),
        notes=(
            f"Not in the paper. The others are those of Table 7. The RIDNet has {SAME_TIME} times "
            "their multiply-adds, and takes no longer than the fastest of them: one image on one "
            "thread of ONNX Runtime, `python benchmarks/ridnet.py`.",
        ),
    )


def found() -> Experiment:
    """What a search found, beside the network that it began with."""
    start = base()
    networks = {
        "by hand": "ridnet_xs",
        "by evolution": BY_EVOLUTION,
        "by chance": BY_CHANCE,
    }
    return Experiment(
        table="found",
        title="RIDNets that a search found, at equal cost",
        arms=tuple(
            Arm(
                name=who,
                config=replace(
                    start, backbone=scaled_ridnet(start.backbone, MACS, network=network)
                ),
            )
            for who, network in networks.items()
        ),
        claims=tuple(
            claim(f"{better} beats {than}, {figure}", better, than, figure)
            for better, than in (
                ("by evolution", "by hand"),
                ("by chance", "by hand"),
                ("by evolution", "by chance"),
            )
            for figure in BOTH_KINDS
        ),
        notes=(
            "Not in the paper. The first is RIDNet-XS, which was chosen by hand, and with which "
            "our search began; the others are the best finalists of evolution and of chance. All "
            "are scaled to the cost of Table 7's networks.",
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
