"""How much of a planted noise a cleaning pass finds, and what each of its parts is worth.

On real embeddings (those of a public MobileFaceNet, `reference/r1_train_celeba.npz`) of a real
training set: 120 identities are set aside and lend outliers (10 %), 10 % of the images go under
another name, a fifth of the identities with 8 images or more is split in two. Thresholds are
searched; nothing knows the truth but the judge.

Beside each share stands what the plain way reached on the same noise: leave-one-out centres, four
passes at 0.35, then thresholds swept *with the truth known*. Ratios are above 1 where ours is
better. The variants say what a pass loses without one of its parts.

Needs `OPENMFR_DATA` (`../shared/data` by default).

    python benchmarks/cleaning_noise.py [--quick] [--json PATH]
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from reporting import Row, arguments, report

from openmfr.cleaning.clean import clean
from openmfr.cleaning.config import CleanConfig
from openmfr.cleaning.judge import NoiseFound, judge
from openmfr.data.labels import Labels
from openmfr.data.noise import NoiseConfig, plant_noise
from openmfr.data.texts import Texts
from openmfr.errors import UserError

#: Share → what the plain way reached, the goal, and whether more is better.
PLAIN = {
    "outliers found": (0.982, 0.985, True),
    "flips found": (0.984, 0.985, True),
    "unplanted images dropped": (0.032, 0.030, False),
    "flips moved home": (0.899, 0.930, True),
    "wrong moves": (0.031, 0.030, False),
    "splits rejoined": (0.918, 0.940, True),
    "wrong merges": (0.016, 0.010, False),
}
VARIANTS = {
    "as by default": CleanConfig(),
    "each other image counts alike": CleanConfig(center="leave_one_out"),
    "an image votes for itself": CleanConfig(center="mean"),
    "no moves": CleanConfig(relabel=False),
    "the paper's pass, 0.35 and 0.7": CleanConfig(
        center="mean", intra_threshold=0.35, inter_threshold=0.7, relabel=False
    ),
}
DRAWS = 5


def main() -> None:
    options = arguments(__doc__ or "")
    embedding, labels = read_data(Path(os.environ.get("OPENMFR_DATA", "../shared/data")))
    draws = range(1 if options.quick else DRAWS)
    shown = dict(list(VARIANTS.items())[: 1 if options.quick else None])
    shares: dict[str, list[dict[str, float]]] = {}
    for name, config in shown.items():
        shares[name] = [of_draw(embedding, labels, config, draw).rates for draw in draws]
        means = {share: mean([rates[share] for rates in shares[name]]) for share in PLAIN}
        print(f"{name:32}" + "  ".join(f"{share} {value:.1%}" for share, value in means.items()))
    ours = shares["as by default"]
    rows = [row(share, [rates[share] for rates in ours]) for share in PLAIN]
    report("cleaning_noise", rows, json_path=options.json)


def read_data(data: Path) -> tuple[npt.NDArray[np.float16], Labels]:
    """Embeddings of the training set and its labels, which are taken to be true."""
    path = data / "reference" / "r1_train_celeba.npz"
    if not path.is_file():
        raise UserError(
            where="OPENMFR_DATA",
            found=f"no file {path}",
            allowed="a folder with reference/r1_train_celeba.npz",
            next_step="set OPENMFR_DATA to it",
        )
    saved = np.load(path)
    names = np.array([source.split("/")[0] for source in saved["path"]])
    identity = np.unique(names, return_inverse=True)[1].astype(np.int64)
    nothing = Texts.constant("", len(identity))
    labels = Labels(
        identity=identity,
        keep=np.ones(identity.shape, dtype=np.bool_),
        reason=nothing,
        center_score=np.full(identity.shape, np.nan, dtype=np.float32),
        is_masked=np.zeros(identity.shape, dtype=np.bool_),
        mask_style=nothing,
        group=nothing,
        store_fingerprint="reference",
    )
    return saved["embedding"], labels


def of_draw(
    embedding: npt.NDArray[np.float16], labels: Labels, config: CleanConfig, draw: int
) -> NoiseFound:
    planted = plant_noise(labels, NoiseConfig(seed=draw))
    return judge(planted, clean(planted.noisy, embedding, config).labels)


def mean(shares: Sequence[float]) -> float:
    return float(np.mean(shares))


def row(share: str, found: Sequence[float]) -> Row:
    plain, goal, is_more_better = PLAIN[share]
    floor = 1e-4  # a share of none is better than any goal, and no ratio
    ratios = [value / plain if is_more_better else plain / max(value, floor) for value in found]
    ours = mean(found)
    return Row(
        what=share,
        ours=ours,
        baseline=plain,
        unit="of them",
        ratio=ours / plain if is_more_better else plain / max(ours, floor),
        goal=goal / plain if is_more_better else plain / goal,
        low=min(ratios),
        high=max(ratios),
    )


if __name__ == "__main__":
    main()
