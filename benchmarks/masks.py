"""Putting on masks while training: its speed, against goals and against a network for geometry.

Synthetic faces with their geometry; CPU seconds of one process, as masks compete for the cores.
`train` compares the trainer with masks on 15 % of the images to the same trainer without, in turn.

The network is what mask adders of the FMA-3D kind run on every image: as large as PRNet (26.6 M
parameters, input 256 × 256), with random weights, in torch on one thread. Its forward pass alone is
timed, without detection, cropping and rendering.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from reporting import Row, arguments, paired, report
from torch import Tensor, nn

from openmfr.data.fit import fit_geometry
from openmfr.data.geometry import FOLDER, Geometry
from openmfr.data.store import Store
from openmfr.device import keep_freed_pages
from openmfr.masking.augment import Masker
from openmfr.masking.config import MaskConfig
from openmfr.recipes import tiny_real
from openmfr.synthetic.dataset import synthesise
from openmfr.train import TrainConfig, Training

IDENTITIES, IMAGES = 30, 20
MASKED_GOAL, FIT_GOAL = 1_000.0, 180.0
NETWORK_GOAL, TRAIN_GOAL = 100.0, 0.97
PROBABILITY = 0.15


class Block(nn.Module):
    """A residual block with a bottleneck; halves the picture if `stride` is 2."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        middle = after // 2
        self.short = (
            nn.Conv2d(before, after, 1, stride, bias=False) if stride > 1 else nn.Identity()
        )
        self.long = nn.Sequential(
            *convolution(nn.Conv2d(before, middle, 1, bias=False)),
            *convolution(nn.Conv2d(middle, middle, 3, stride, 1, bias=False)),
            nn.Conv2d(middle, after, 1, bias=False),
        )
        self.out = nn.Sequential(nn.BatchNorm2d(after), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.short(x) + self.long(x))
        return y


def convolution(layer: nn.Conv2d | nn.ConvTranspose2d) -> tuple[nn.Module, ...]:
    return layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU()


def position_network(width: int = 28) -> nn.Module:
    """From a picture to the position of each vertex: 26.6 M parameters, 8 × 8 in the middle."""
    layers: list[nn.Module] = [*convolution(nn.Conv2d(3, width, 3, 1, 1, bias=False))]
    for _ in range(5):
        layers += [Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1)]
        width *= 2
    layers += convolution(nn.ConvTranspose2d(width, width, 3, 1, 1, bias=False))
    for level in range(5):
        layers += convolution(nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False))
        width //= 2
        for _ in range(2 if level == 0 else 0):
            layers += convolution(nn.ConvTranspose2d(width, width, 3, 1, 1, bias=False))
    layers.append(nn.Conv2d(width, 3, 3, 1, 1))
    return nn.Sequential(*layers).eval()


def rate(work: Callable[[int], object], count: int) -> float:
    """Calls per CPU second of this process, all its threads."""
    start = time.process_time()
    for i in range(count):
        work(i)
    return count / (time.process_time() - start)


def fit_rate(store: Store, out: Path) -> float:
    """Faces per CPU second of `openmfr mask fit`: decoded, reconstructed, judged, packed."""
    start = time.process_time()
    fit_geometry(store, out, workers=1)
    return len(store) / (time.process_time() - start)


def render_rows(store: Store, folder: Path, *, images: int, repeats: int) -> list[Row]:
    """Masks from cached geometry, fits, and the network, in turn."""
    decoded = [store.decode(i) for i in range(len(store))]
    geometry = Geometry.open(store.path / FOLDER, store)
    masker = Masker(MaskConfig(probability=1.0), seed=0, geometry=geometry)
    network, picture = position_network(), torch.rand(1, 3, 256, 256)

    def mask(i: int) -> object:
        index = i % len(store)
        # An epoch is another draw, so that no template or wear is favoured.
        return masker.mask(decoded[index], index=index, epoch=i // len(store))

    @torch.inference_mode()
    def forward(_: int) -> object:
        return network(picture)

    for i in range(len(store)):
        mask(i)  # compiles, and makes the templates ready
    forward(0)
    fit_rate(store, folder / "first fit")  # loads the model
    runs = [
        (rate(mask, images), fit_rate(store, folder / f"fit{i}"), rate(forward, 3))
        for i in range(repeats)
    ]
    size = sum(p.numel() for p in network.parameters()) / 1e6
    masked, fitted, networks = zip(*runs, strict=True)
    return [
        paired(
            "masks from cached geometry, against the goal",
            [(r, MASKED_GOAL) for r in masked],
            unit="images/CPU s",
            goal=1.0,
        ),
        paired(
            "openmfr mask fit, against the goal",
            [(r, FIT_GOAL) for r in fitted],
            unit="images/CPU s",
            goal=1.0,
        ),
        paired(
            f"masks from cached geometry, against the forward pass of {size:.1f} M parameters",
            list(zip(masked, networks, strict=True)),
            unit="images/CPU s",
            goal=NETWORK_GOAL,
        ),
    ]


def train(config: TrainConfig, store: Path, run: Path) -> tuple[float, float]:
    """Train for a while; return the trainer's own images/s, and images per CPU second."""
    before = cpu_seconds()
    trainer = Training(config=config, store=store).trainer(run, device=torch.device("cpu"))
    trainer.fit()
    rows = [row for row in trainer.run.metrics() if "loss" in row]
    rates = [row["images_per_second"] for row in rows if row["step"] > 1]
    images = rows[-1]["step"] * config.batch_size
    return statistics.median(rates), images / (cpu_seconds() - before)


def cpu_seconds() -> float:
    """Of this process and of the loader's that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def train_rows(store: Store, folder: Path, *, steps: int, repeats: int) -> list[Row]:
    """The trainer with masks against the same without."""
    recipe = tiny_real()
    plain = replace(
        recipe,
        schedule=replace(
            recipe.schedule, epochs=steps * recipe.batch_size / len(store), warmup_epochs=0.0
        ),
        masks=MaskConfig(),
        holdout_identities=0,
        checkpoint_steps=10_000,
    )
    masked = replace(plain, masks=MaskConfig(probability=PROBABILITY))
    # Neither side pays for what torch and numba do once in a process.
    short = replace(masked, schedule=replace(plain.schedule, epochs=0.1))
    Training(config=short, store=store.path).trainer(
        folder / "first", device=torch.device("cpu")
    ).fit()
    pairs = []
    for i in range(repeats):
        with_masks = train(masked, store.path, folder / f"masked{i}")
        pairs.append((with_masks, train(plain, store.path, folder / f"plain{i}")))
    return [
        paired(
            f"tiny_real's trainer, masks on {PROBABILITY:.0%} against none",
            [(ours[0], bare[0]) for ours, bare in pairs],
            unit="images/s",
            goal=TRAIN_GOAL,
        ),
        # Drawing the templates, a second or a few, is in this one.
        paired(
            "the same, with what comes before the first step",
            [(ours[1], bare[1]) for ours, bare in pairs],
            unit="images/CPU s",
        ),
    ]


def main() -> None:
    options = arguments(__doc__ or "")
    keep_freed_pages()  # as `openmfr train` does
    images, repeats = (600, 3) if options.quick else (3_000, 5)
    steps, runs = (41, 1) if options.quick else (121, 5)
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        store, _ = synthesise(
            Path(folder) / "store", identities=IDENTITIES, images=IMAGES, seed=0, geometry=True
        )
        torch.set_num_threads(1)
        rows = render_rows(store, Path(folder), images=images, repeats=repeats)
        torch.set_num_threads(threads)
        rows += train_rows(store, Path(folder), steps=steps, repeats=runs)
    report("masks", rows, json_path=options.json)


if __name__ == "__main__":
    main()
