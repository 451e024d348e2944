"""How well a small classifier tells our masked faces from really masked ones; AUC 0.5 is perfect.

Real: the masked faces of `mfr2-dev`. Ours: its unmasked faces and some of LFW, masked. A logistic
regression sees the lower face as colours, oriented gradients and fine contrast in a grid of cells,
shifted, scaled and relit at random; it is trained on some people and asked about others,
repeatedly. Surgical and cloth masks are held against real ones of their kind.

Detectors place a masked face otherwise than a bare one, by pixels; so all faces, ours after they
were masked, are first brought to the same eyes, as Face Mesh finds them.

The sources differ too: "upper face" is the same classifier on the eyes and the forehead, which no
mask changes, so what it finds there is not the masks' doing. The last columns say which of the
numbers, taken alone, tell the lower faces apart.

Needs `OPENMFR_DATA` (`../shared/data` by default) and MediaPipe.

    python benchmarks/mask_realism.py [--quick] [--seed 11]
"""

from __future__ import annotations

import argparse
import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from openmfr.data.geometry import Status, judge_fit
from openmfr.errors import UserError
from openmfr.faces.align import ARCFACE_TEMPLATE, similarity, warp
from openmfr.faces.mesh_provider import FaceMeshProvider
from openmfr.masking.bank import STYLE_WEIGHTS, MaskBank
from openmfr.masking.baselines import erase_lower, overlay_flat
from openmfr.masking.render import render_mask
from openmfr.masking.wear import draw_wear

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

LFW_FACES, VARIANTS, FOLDS = 100, 4, 5
LOWER, UPPER = (44, 112), (4, 44)  # rows of the 112; a mask begins at the nose's bridge, about 56
LEFT, RIGHT = 14, 98
GROUPS = ("colour", "edges", "fine", "local")
CELL_ROWS, CELL_COLUMNS = 4, 5
#: Which really masked faces a style is held against; there are too few of the others.
KINDS = {"surgical": "surgical", "cloth": "cloth"}
RIDGE = 60.0  # strength of the regression's penalty: there are few faces and many numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class Faces:
    """Pictures of people; `person` says which belong together, `kind` what they wear."""

    images: list[UInt8Array]
    person: list[str]
    kind: list[str]

    def wears(self, kind: str) -> BoolArray:
        """Which of them wear a mask of a kind; "" is any."""
        return np.array([name.startswith(kind) for name in self.kind])


@dataclass(frozen=True, kw_only=True, eq=False)
class Looks:
    """What the classifier sees of pictures, in several variants of each.

    Attributes:
        numbers: By group, shape (VARIANTS, pictures, numbers).
        person: Of each picture.
    """

    numbers: dict[str, Float32Array]
    person: npt.NDArray[np.str_]

    @classmethod
    def of(cls, faces: Faces, rows: tuple[int, int]) -> Looks:
        rng = np.random.default_rng(14)
        seen = [[features(vary(i, rng), rows) for i in faces.images] for _ in range(VARIANTS)]
        numbers = {
            group: np.array([[picture[group] for picture in variant] for variant in seen])
            for group in GROUPS
        }
        return cls(numbers=numbers, person=np.array(faces.person))

    def only(self, kept: BoolArray) -> Looks:
        numbers = {group: values[:, kept] for group, values in self.numbers.items()}
        return Looks(numbers=numbers, person=self.person[kept])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer faces and repeats")
    parser.add_argument(
        "--seed", type=int, default=11, help="which masks; a fresh one checks against tuning"
    )
    options = parser.parse_args()
    lfw, repeats = (30, 3) if options.quick else (LFW_FACES, 10)
    data = Path(os.environ.get("OPENMFR_DATA", "../shared/data"))
    real, bare, vertices = read_faces(data, lfw=lfw)
    print(f"{len(real.images)} really masked faces, {len(bare.images)} to be masked")
    heading = f"{'':24}{'real':>5}{'lower face':>22}{'upper face':>22}"
    print(heading + "".join(f"{group:>9}" for group in GROUPS) + "   AUC (95 % interval)")
    provider = FaceMeshProvider()
    real = by_eyes(real, provider)
    real_looks = {rows: Looks.of(real, rows) for rows in (LOWER, UPPER)}
    for name, dressed in made_by_us(bare, vertices, options.seed):
        ours = by_eyes(dressed, provider)
        is_kind = real.wears(KINDS.get(name.split(",")[0], ""))
        cells = []
        for rows in (LOWER, UPPER):
            looks = real_looks[rows].only(is_kind), Looks.of(ours, rows)
            cells.append("{:.3f} ({:.3f}–{:.3f})".format(*told_apart(*looks, repeats=repeats)))
            if rows == LOWER:
                alone = [told_apart(*looks, repeats=1, group=group)[0] for group in GROUPS]
        shares = "".join(f"{share:9.3f}" for share in alone)
        print(f"{name:24}{is_kind.sum():5}{cells[0]:>22}{cells[1]:>22}{shares}", flush=True)


def read_faces(data: Path, *, lfw: int) -> tuple[Faces, Faces, list[Float32Array]]:
    """Really masked faces; faces to be masked, and their vertices."""
    masked, bare = (Faces(images=[], person=[], kind=[]) for _ in range(2))
    for row in table(data / "mfr2-dev"):
        into = bare if row["mask"] == "no-mask" else masked
        into.images.append(read(data / "mfr2-dev" / row["path"]))
        into.person.append(row["identity"])
        into.kind.append(row["mask"])
    rows = table(data / "lfw-112")
    chosen = np.random.default_rng(0).choice(len(rows), lfw, replace=False)
    for number in chosen.tolist():
        bare.images.append(read(data / "lfw-112" / rows[number]["path"]))
        bare.person.append(rows[number]["identity"])
        bare.kind.append("no-mask")
    provider = FaceMeshProvider()
    fits = [provider.reconstruct(image) for image in bare.images]
    kept = [
        (image, person, fit)
        for image, person, fit in zip(bare.images, bare.person, fits, strict=True)
        if fit is not None and judge_fit(fit, size=len(image)) == Status.FITTED
    ]
    images, people, vertices = (list(column) for column in zip(*kept, strict=True))
    return masked, Faces(images=images, person=people, kind=["no-mask"] * len(people)), vertices


def table(folder: Path) -> list[dict[str, str]]:
    path = folder / "images.csv"
    if not path.is_file():
        raise UserError(
            where="OPENMFR_DATA",
            found=f"no file {path}",
            allowed="a folder with mfr2-dev and lfw-112, aligned to 112×112",
            next_step="set OPENMFR_DATA to it",
        )
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read(path: Path) -> UInt8Array:
    return np.asarray(Image.open(path).convert("RGB"))


def made_by_us(bare: Faces, vertices: list[Float32Array], seed: int) -> Iterator[tuple[str, Faces]]:
    """The faces dressed in each way; the same masks and the same wear for both ways."""
    for style in (None, *STYLE_WEIGHTS):
        styles = STYLE_WEIGHTS if style is None else {style: 1.0}
        bank = MaskBank.drawn(len(bare.images), seed=seed, styles=styles)
        for way, put_on in (("rendered", render_mask), ("flat", overlay_flat)):
            rng = np.random.default_rng(seed + 1)
            images = [
                put_on(image, fit, template, draw_wear(rng)).image
                for image, fit, template in zip(bare.images, vertices, bank.templates, strict=True)
            ]
            kind = [template.style for template in bank.templates]
            dressed = Faces(images=images, person=bare.person, kind=kind)
            yield f"{style or 'all styles'}, {way}", dressed
    rng = np.random.default_rng(seed + 2)
    erased = [erase_lower(image, rng).image for image in bare.images]
    yield "erased", Faces(images=erased, person=bare.person, kind=["erased"] * len(erased))


def by_eyes(faces: Faces, provider: FaceMeshProvider) -> Faces:
    """Align faces by their eyes alone; those that are not found are left out."""
    kept = Faces(images=[], person=[], kind=[])
    for image, person, kind in zip(faces.images, faces.person, faces.kind, strict=True):
        fit = provider.reconstruct(image)
        if fit is None:
            continue
        eyes = np.array([fit[corners, :2].mean(axis=0) for corners in ([33, 133], [362, 263])])
        crop_to_photo = similarity(ARCFACE_TEMPLATE[:2], eyes.astype(np.float64))
        kept.images.append(warp(image, crop_to_photo, len(image)))
        kept.person.append(person)
        kept.kind.append(kind)
    return kept


def told_apart(
    real: Looks, ours: Looks, *, repeats: int, group: str | None = None
) -> tuple[float, float, float]:
    """AUC on people who were not trained on, and its interval over drawings of people."""
    groups = GROUPS if group is None else (group,)
    sides = [np.concatenate([side.numbers[g] for g in groups], axis=-1) for side in (real, ours)]
    seen = np.concatenate(sides, axis=1).astype(np.float64)
    people = np.concatenate([real.person, ours.person])
    is_ours = np.repeat([False, True], [len(real.person), len(ours.person)])
    rng = np.random.default_rng(15)
    scores = np.mean([held_out(seen, is_ours, people, rng) for _ in range(repeats)], axis=0)
    names = np.unique(people)
    places = {name: np.flatnonzero(people == name) for name in names}
    drawn = []
    for _ in range(400):
        index = np.concatenate([places[name] for name in rng.choice(names, len(names))])
        if 0 < is_ours[index].sum() < len(index):
            drawn.append(auc(scores[index], is_ours[index]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return auc(scores, is_ours), float(low), float(high)


def held_out(
    seen: FloatArray,
    is_ours: BoolArray,
    people: npt.NDArray[np.str_],
    rng: np.random.Generator,
) -> FloatArray:
    """Score each image by a regression that saw none of its person's."""
    names, person = np.unique(people, return_inverse=True)
    fold = rng.permutation(len(names))[person] % FOLDS
    scores = np.zeros(len(people))
    for number in range(FOLDS):
        trained = fold != number
        x = seen[:, trained].reshape(-1, seen.shape[-1])
        mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
        y = np.tile(is_ours[trained], len(seen))
        weights = regress((x - mean) / spread, y)
        asked = ((seen[:, ~trained] - mean) / spread).mean(axis=0)
        scores[~trained] = asked @ weights[:-1] + weights[-1]
    return scores


def regress(x: FloatArray, y: BoolArray) -> FloatArray:
    """Logistic regression by Newton's method; both classes weigh the same."""
    x = np.column_stack([x, np.ones(len(x))])
    balance = np.where(y, 0.5 / y.mean(), 0.5 / (1 - y.mean()))
    penalty = np.full(x.shape[1], RIDGE * VARIANTS)
    penalty[-1] = 1e-3
    weights = np.zeros(x.shape[1])
    for _ in range(8):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        slope = x.T @ (balance * (p - y)) + penalty * weights
        curve = (x * (balance * p * (1 - p))[:, None]).T @ x + np.diag(penalty)
        weights = weights - np.linalg.solve(curve, slope)
    return weights


def auc(scores: FloatArray, is_ours: BoolArray) -> float:
    """Share of pairs of one of ours and a real one in which ours scores higher."""
    order = np.argsort(scores)
    rank = np.empty(len(scores))
    rank[order] = np.arange(1, len(scores) + 1)
    ours = int(is_ours.sum())
    above = rank[is_ours].sum() - ours * (ours + 1) / 2
    return float(above / (ours * (len(scores) - ours)))


def vary(image: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """Mirror, move, scale and relight a picture, and code it as the real ones are."""
    size = len(image)
    picture = Image.fromarray(image)
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    zoom = float(np.exp(rng.normal(0, 0.04)))
    dx, dy = rng.normal(0, 2.5, 2) + (1 - zoom) * size / 2
    picture = picture.transform(
        (size, size),
        Image.Transform.AFFINE,
        (zoom, 0, float(dx), 0, zoom, float(dy)),
        resample=Image.Resampling.BILINEAR,
    )
    light = np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.05, 3))
    lit = np.clip(np.asarray(picture) * light, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(lit).save(file, "jpeg", quality=92)
    return np.asarray(Image.open(file))


def features(image: UInt8Array, rows: tuple[int, int]) -> dict[str, Float32Array]:
    """What a grid of cells looks like, by group.

    "colour": means and spreads; "edges": share of each direction; "fine": contrast of neighbours
    and how peaked it is; "local": patterns of brighter and darker neighbours.
    """
    crop = image[rows[0] : rows[1], LEFT:RIGHT].astype(np.float32) / 255
    grey = crop.mean(axis=2)
    colours = np.stack([grey, crop[..., 0] - crop[..., 1], crop[..., 2] - crop[..., 1]], axis=-1)
    mean = cells(colours)
    spread = np.sqrt(np.maximum(cells(colours**2) - mean**2, 0))
    down, across = np.gradient(grey)
    turn = np.floor(np.mod(np.arctan2(down, across), np.pi) / np.pi * 8).astype(int) % 8
    edges = cells(np.hypot(down, across)[..., None] * (turn[..., None] == np.arange(8)))
    beside = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    fine = (4 * grey[1:-1, 1:-1] - beside)[..., None]
    square = cells(fine**2)
    peaked = cells(fine**4) / (square**2 + 1e-10)
    local = np.bincount(patterns(grey).ravel(), minlength=10)
    return {
        "colour": np.concatenate([mean.ravel(), spread.ravel()]),
        "edges": (edges / (edges.sum(axis=-1, keepdims=True) + 0.02)).ravel(),
        "fine": np.log(np.concatenate([np.sqrt(square).ravel() + 1e-3, peaked.ravel() + 1])),
        "local": (local / local.sum()).astype(np.float32),
    }


def patterns(grey: Float32Array) -> IntArray:
    """How many of its neighbours are brighter than a pixel, 0–8; 9 where they change often."""
    around = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    rows, columns = grey.shape
    inner = grey[1:-1, 1:-1]
    brighter = np.stack(
        [grey[1 + y : rows - 1 + y, 1 + x : columns - 1 + x] > inner + 1 / 255 for y, x in around]
    )
    changes = (brighter != np.roll(brighter, 1, axis=0)).sum(axis=0)
    return np.where(changes <= 2, brighter.sum(axis=0), 9)


def cells(values: Float32Array) -> Float32Array:
    """Means over a grid of cells, of each channel: (rows, columns, C) to (R, C of cells, C)."""
    tops, lefts = (
        np.linspace(0, edge, count, endpoint=False).astype(int)
        for edge, count in zip(values.shape, (CELL_ROWS, CELL_COLUMNS), strict=False)
    )
    sums = np.add.reduceat(np.add.reduceat(values, tops, axis=0), lefts, axis=1)
    heights = np.diff([*tops, values.shape[0]])
    widths = np.diff([*lefts, values.shape[1]])
    means: Float32Array = sums / (heights[:, None] * widths)[..., None]
    return means.astype(np.float32)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
