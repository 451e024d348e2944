"""What experiments are trained on and measured on: real faces that a user has, or synthetic ones.

Nobody may hand on the real ones, so a folder of photos is named, and made into stores once. The
masked test faces wear styles, and masks of a seed, that training never sees.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.data.crop import IngestConfig
from openmfr.data.fit import fit_geometry
from openmfr.data.geometry import FOLDER as GEOMETRY
from openmfr.data.geometry import Geometry
from openmfr.data.ingest import LABELS, ingest
from openmfr.data.labels import IntArray, Labels
from openmfr.data.store import Store
from openmfr.embed import Embedder, Embeddings, embed_store
from openmfr.errors import UserError
from openmfr.evaluation.comparisons import Comparisons
from openmfr.evaluation.masked import BARE, MASKED_BARE, MaskedPairs
from openmfr.evaluation.protocols.lists import read_pairs
from openmfr.evaluation.protocols.pairs import PairList
from openmfr.evaluation.sampling import sample_pairs
from openmfr.evaluation.verification import VerificationResult, measure
from openmfr.files import fingerprint
from openmfr.masking.augment import Masker
from openmfr.masking.config import MaskConfig, StyleWeights
from openmfr.masking.render_store import render_store
from openmfr.reproduce.experiment import Figure
from openmfr.reproduce.tables import TEST_STYLES
from openmfr.synthetic.dataset import synthesise

#: Folders of photos, aligned to 112 × 112, a folder for each person; the last two with `pairs.csv`.
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

#: In the folder of a network's embeddings, those of the test faces.
_BARE, _MASKED = "bare", "masked"

FMR: Final = 1e-2
FNMR: Final = f"fnmr@{FMR:g}"


@dataclass(frozen=True, kw_only=True)
class Sets:
    """Stores, and the pairs that are measured.

    Attributes:
        training: What arms are trained on; its geometry lies in it.
        bare: Test faces.
        worn: The same, wearing masks.
        pairs: The pairs of both.
        real: Really masked faces, and their pairs with a mask on one of the faces; None without.
    """

    training: Store
    bare: Store
    worn: Store
    pairs: MaskedPairs
    real: tuple[Store, PairList] | None

    @property
    def fingerprint(self) -> str:
        """Identifies what is measured on, alike on every machine.

        The masked faces enter by what they were made from and how: where exactly a mask lies comes
        from landmarks, whose last digits depend on the processor.
        """
        stores = [self.bare, *(self.real[:1] if self.real else ())]
        masks = {name: self.worn.settings[name] for name in ("renderer_version", "masks", "seed")}
        pairs = [self.pairs.pairs, *(self.real[1:] if self.real else ())]
        rows = [array.tobytes() for p in pairs for array in (p.index_a, p.index_b, p.is_genuine)]
        names = [store.fingerprint for store in stores]
        return fingerprint(*names, json.dumps(masks, sort_keys=True), *rows)

    @property
    def identity(self) -> IntArray:
        """Who is on each bare test face, shape (N,)."""
        return Labels.read(self.bare.path / LABELS).identity

    def embedded(self, folder: Path) -> tuple[FloatArray, FloatArray]:
        """Embeddings of the bare and of the masked test faces that `measure` left, both (N, D)."""
        bare, masked = (Embeddings(folder / name).array for name in (_BARE, _MASKED))
        return bare, masked

    def measure(
        self, embedder: Embedder, folder: Path, *, replicates: int
    ) -> Mapping[Figure, VerificationResult]:
        """Embed all test faces, bare, mirrored too, and measure.

        Args:
            embedder: A trained recogniser.
            folder: Where its embeddings go; what is there already is used.
            replicates: Draws of people for intervals.

        Returns:
            By what it is measured on; "both" follows from two of them.
        """

        def embed(store: Store, name: str) -> FloatArray:
            return np.asarray(embed_store(embedder, store, folder / name, flip=True).array)

        both = np.concatenate([embed(self.bare, _BARE), embed(self.worn, _MASKED)])
        compared = self.pairs.compare(both, self.identity)
        found: dict[Figure, Comparisons] = {"bare": compared.only(_is(compared.kind, BARE))}
        found["masked"] = compared.only(_is(compared.kind, MASKED_BARE))
        if self.real is not None:
            store, pairs = self.real
            identity = Labels.read(store.path / LABELS).identity
            scored = pairs.compare(embed(store, "really-masked"), identity)
            found["really masked"] = scored.only(_is(scored.kind, MASKED_BARE))
        return {
            name: measure(replace(pairs, kind=None), fmrs=(FMR,), replicates=replicates)
            for name, pairs in found.items()
        }


def _is(kind: npt.NDArray[np.str_] | None, wanted: str) -> npt.NDArray[np.bool_]:
    assert kind is not None
    return np.asarray(kind == wanted)


def real_sets(photos: Path, out: Path, *, workers: int | None = None) -> Sets:
    """Make the stores of a folder of photos, or open what an earlier call made.

    Args:
        photos: Has the folders `train-celeba`, `lfw-112` with `pairs.csv` and, if possible,
            `mfr2-dev` with `pairs.csv`, whose column `kind` says mu, mm or uu.
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
            allowed=f"{TRAINING}, {BARE_TEST} with pairs.csv and, if possible, {MASKED_TEST}",
            next_step="fill it, or leave --data out: synthetic faces",
        )

    def store_of(name: str) -> Store:
        ingest(photos / name, out / name, config=IngestConfig(is_aligned=True), workers=workers)
        return Store(out / name)

    training, bare = store_of(TRAINING), store_of(BARE_TEST)
    for store in (training, bare):
        fit_geometry(store, workers=workers)
    pairs = read_pairs(photos / BARE_TEST / "pairs.csv", bare.column("source"))
    real = None
    if (photos / MASKED_TEST).is_dir():
        masked = store_of(MASKED_TEST)
        real = masked, read_pairs(photos / MASKED_TEST / "pairs.csv", masked.column("source"))
    return _with_masks(training, bare, pairs, out, real=real, masks=TEST_MASKS, workers=workers)


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
    bare, labels = synthesise(
        out / "synthetic-test",
        identities=tested,
        images=images,
        seed=_TEST_SEED,
        workers=workers,
        geometry=True,
    )
    pairs = sample_pairs(labels.identity, labels.keep, seed=_TEST_SEED)
    return _with_masks(training, bare, pairs, out, real=None, masks=masks, workers=workers)


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
    pairs: PairList,
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
        pairs=MaskedPairs.of(pairs, bare=bare, masked=worn),
        real=real,
    )
