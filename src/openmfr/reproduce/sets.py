"""What experiments are trained on and measured on: real faces that a user has, or synthetic ones.

Nobody may hand on the real ones, so a folder of photos is named, and made into stores once. The
masked test faces wear styles, and masks of a seed, that training never sees. All test faces are
compared with all others: on the same people, a published list of a few thousand pairs leaves
differences between networks ten times as uncertain.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from openmfr.data.crop import IngestConfig
from openmfr.data.fit import fit_geometry
from openmfr.data.geometry import FOLDER as GEOMETRY
from openmfr.data.geometry import Geometry
from openmfr.data.ingest import LABELS, ingest
from openmfr.data.labels import IntArray, Labels
from openmfr.data.store import MASK_STYLE, Store
from openmfr.embed import Embedder, Embeddings, embed_store
from openmfr.errors import UserError
from openmfr.evaluation.all_pairs.rates import statistics_of
from openmfr.evaluation.all_pairs.sets import measure_sets
from openmfr.evaluation.all_pairs.tail import draw_together
from openmfr.evaluation.masked import MASKED_BARE
from openmfr.evaluation.protocols.lists import read_pairs
from openmfr.evaluation.protocols.pairs import PairList
from openmfr.evaluation.verification import measure
from openmfr.files import fingerprint
from openmfr.masking.augment import Masker
from openmfr.masking.config import MaskConfig, StyleWeights
from openmfr.masking.render_store import render_store
from openmfr.reproduce.experiment import Figure
from openmfr.reproduce.tables import TEST_STYLES
from openmfr.synthetic.dataset import synthesise

#: Folders of photos, aligned to 112 × 112, a folder for each person; the last with `pairs.csv`.
TRAINING: Final = "train-celeba"
BARE_TEST: Final = "lfw-112"
MASKED_TEST: Final = "mfr2-dev"

#: Of the test's masks and people; training draws its own from 0.
_TEST_SEED: Final = 1_000
#: Training and test people of the synthetic sets, and images of each.
SYNTHETIC: Final = (400, 150, 16)
#: People to train on before real ones, and images of each.
PRETRAINING: Final = (1_000, 20)
#: Masks that the test faces wear.
TEST_MASKS: Final = 200

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

#: In the folder of a network's embeddings, those of the test faces.
_BARE, _MASKED = "bare", "masked"

#: Of all pairs, and of the few pairs of really masked faces.
FMR: Final = 1e-3
REAL_FMR: Final = 1e-2


class Resampled(NamedTuple):
    """An FNMR, and the same on each draw of people, shape (replicates,), NaN where undefined."""

    value: float
    drawn: npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Sets:
    """Stores of faces.

    Attributes:
        training: What arms are trained on; its geometry lies in it.
        bare: Test faces.
        worn: The same, wearing masks.
        real: Really masked faces, and their pairs with a mask on one of the faces; None without.
    """

    training: Store
    bare: Store
    worn: Store
    real: tuple[Store, PairList] | None

    @property
    def fingerprint(self) -> str:
        """Identifies what is measured on, alike on every machine.

        The masked faces enter by what they were made from and how: where exactly a mask lies comes
        from landmarks, whose last digits depend on the processor.
        """
        masks = {name: self.worn.settings[name] for name in ("renderer_version", "masks", "seed")}
        known = [
            self.bare.fingerprint,
            json.dumps(masks, sort_keys=True),
            f"all pairs: bare, masked, masked pairs, at {FMR:g}",
        ]
        if self.real is None:
            return fingerprint(*known)
        store, pairs = self.real
        rows = [array.tobytes() for array in (pairs.index_a, pairs.index_b, pairs.is_genuine)]
        return fingerprint(*known, store.fingerprint, *rows)

    @property
    def identity(self) -> IntArray:
        """Who is on each bare test face, shape (N,)."""
        return Labels.read(self.bare.path / LABELS).identity

    @property
    def is_worn(self) -> BoolArray:
        """Whose faces could be masked, shape (N,)."""
        return np.array([style is not None for style in self.worn.column(MASK_STYLE)])

    @property
    def is_masked_side(self) -> BoolArray:
        """Who wears a mask where masked faces meet bare ones, shape (N,): every second one.

        So no photo meets itself.
        """
        is_second: BoolArray = np.arange(len(self.bare)) % 2 == 1
        return self.is_worn & is_second

    def embedded(self, folder: Path) -> tuple[FloatArray, FloatArray]:
        """Embeddings of the bare and of the masked test faces that `measure` left, both (N, D)."""
        bare, masked = (Embeddings(folder / name).array for name in (_BARE, _MASKED))
        return bare, masked

    def measure(
        self, embedder: Embedder, folder: Path, *, replicates: int
    ) -> Mapping[Figure, Resampled]:
        """Embed all test faces, mirrored too, and measure.

        Bare faces are compared with all other bare ones, masked ones with all other masked ones.
        Every second one with its mask is compared with the bare ones between, so that no photo
        meets itself. All on the same draws of people.

        Args:
            embedder: A trained recogniser.
            folder: Where its embeddings go; what is there already is used.
            replicates: Draws of people for intervals.

        Returns:
            By what it is measured on; "both" follows from two of them.
        """

        def embed(store: Store, name: str) -> FloatArray:
            return np.asarray(embed_store(embedder, store, folder / name, flip=True).array)

        faces = np.concatenate([embed(self.bare, _BARE), embed(self.worn, _MASKED)])
        found = self._all_pairs(faces, replicates)
        if self.real is not None:
            store, pairs = self.real
            identity = Labels.read(store.path / LABELS).identity
            scored = pairs.compare(embed(store, "really-masked"), identity)
            listed = replace(scored.only(_is(scored.kind, MASKED_BARE)), kind=None)
            result = measure(listed, fmrs=(REAL_FMR,), replicates=replicates)
            place = result.names.index(f"fnmr@{REAL_FMR:g}")
            value = result.measured[place].value
            found["really masked"] = Resampled(_number(value), result.drawn[:, place])
        return found

    def _all_pairs(self, faces: FloatArray, replicates: int) -> dict[Figure, Resampled]:
        """Measure embeddings of the bare and, below them, of the masked faces, shape (2N, D)."""
        nobody = np.zeros(len(self.bare), dtype=np.bool_)
        masked = self.is_masked_side
        compared: dict[Figure, tuple[BoolArray, BoolArray]] = {
            "bare": (np.concatenate([~nobody, nobody]),) * 2,
            "masked": (np.concatenate([nobody, masked]), np.concatenate([~masked, nobody])),
            "masked pairs": (np.concatenate([nobody, self.is_worn]),) * 2,
        }
        parts = measure_sets(
            faces,
            np.tile(self.identity, 2),
            {str(name): sides for name, sides in compared.items()},
            fmrs=(FMR,),
            replicates=0,
        )
        drawn = draw_together(
            [statistics_of(part.pairs, [FMR]) for part in parts.values()],
            replicates=replicates,
            seed=0,
        )
        return {
            name: Resampled(_number(parts[name].measured[0].value), draws[:, 0])
            for name, draws in zip(compared, drawn, strict=True)
        }


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _is(kind: npt.NDArray[np.str_] | None, wanted: str) -> npt.NDArray[np.bool_]:
    assert kind is not None
    return np.asarray(kind == wanted)


def real_sets(photos: Path, out: Path, *, workers: int | None = None) -> Sets:
    """Make the stores of a folder of photos, or open what an earlier call made.

    Args:
        photos: Has the folders `train-celeba`, `lfw-112` and, if possible, `mfr2-dev` with
            `pairs.csv`, whose column `kind` says mu, mm or uu.
        out: Folder for the stores.
        workers: Processes; one for each CPU by default.

    Raises:
        UserError: If a folder is missing.
    """
    missing = [name for name in (TRAINING, BARE_TEST) if not (photos / name).is_dir()]
    if missing:
        raise UserError(
            where=str(photos),
            found=f"no folder {', '.join(missing)}",
            allowed=f"{TRAINING}, {BARE_TEST} and, if possible, {MASKED_TEST} with pairs.csv",
            next_step="fill it, or leave --data out: synthetic faces",
        )

    def store_of(name: str) -> Store:
        ingest(photos / name, out / name, config=IngestConfig(is_aligned=True), workers=workers)
        return Store(out / name)

    training, bare = store_of(TRAINING), store_of(BARE_TEST)
    for store in (training, bare):
        fit_geometry(store, workers=workers)
    real = None
    if (photos / MASKED_TEST).is_dir():
        masked = store_of(MASKED_TEST)
        real = masked, read_pairs(photos / MASKED_TEST / "pairs.csv", masked.column("source"))
    return _with_masks(training, bare, out, real=real, masks=TEST_MASKS, workers=workers)


def synthetic_sets(
    out: Path,
    *,
    people: tuple[int, int, int] = SYNTHETIC,
    masks: int = TEST_MASKS,
    workers: int | None = None,
) -> Sets:
    """Make synthetic faces to train and measure on.

    Args:
        out: Folder for the stores.
        people: Training people, test people, images of each.
        masks: How many different ones the test faces wear.
        workers: Processes; one for each CPU by default.
    """
    trained, tested, images = people
    training, _ = synthesise(
        out / "synthetic-training",
        identities=trained,
        images=images,
        seed=0,
        workers=workers,
        geometry=True,
    )
    bare, _ = synthesise(
        out / "synthetic-test",
        identities=tested,
        images=images,
        seed=_TEST_SEED,
        workers=workers,
        geometry=True,
    )
    return _with_masks(training, bare, out, real=None, masks=masks, workers=workers)


def synthetic_training(out: Path) -> Store:
    """Make synthetic faces to train on before real ones, or open them: as many as those.

    Args:
        out: Folder for the store.
    """
    people, images = PRETRAINING
    store, _ = synthesise(
        out / "synthetic-faces", identities=people, images=images, seed=0, geometry=True
    )
    return store


def _with_masks(
    training: Store,
    bare: Store,
    out: Path,
    *,
    real: tuple[Store, PairList] | None,
    masks: int,
    workers: int | None,
) -> Sets:
    config = MaskConfig(
        probability=1.0, styles=StyleWeights.only(TEST_STYLES), templates=masks, seed=_TEST_SEED
    )
    masker = Masker(
        config,
        seed=_TEST_SEED,
        geometry=Geometry.open(bare.path / GEOMETRY, bare),
        bank=config.draw_bank(),
    )
    labels = Labels.read(bare.path / LABELS)
    folder = out / f"{bare.path.name}-masked"
    worn, _, _ = render_store(bare, labels, folder, masker=masker, workers=workers)
    return Sets(
        training=training,
        bare=bare,
        worn=worn,
        real=real,
    )
