"""Whether a mask is worn: how often it is seen, on real faces, and what that costs of a CPU.

Real masks: `mfr2-dev`, the masked development set. Bare faces: its others, and LFW, where nobody
wears one. Both as they are (aligned by YuNet's landmarks) and, for openmfr's own alignment, photos
that come unaligned, through `Recognizer`: 30 of MFR2, 45 of RMFD, 80 of LFW. Intervals are 95 %
and resample identities; RMFD names none, so each of its photos is one.

Beside the network that openmfr brings along: a logistic regression on the embeddings of `r1.onnx`,
a face recogniser, learnt from synthetic faces; and the same learnt from MFR2 itself, always asked
about people that it was not learnt from.

Needs `OPENMFR_DATA` (`../shared/data` by default), and MediaPipe for the unaligned photos.

    python benchmarks/mask_worn.py [--quick] [--json PATH]
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

# One thread, whatever the libraries would choose; before numpy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
from reporting import Row, arguments, paired, report
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from openmfr.data.geometry import Geometry
from openmfr.data.store import decode_image
from openmfr.deploy.mask_worn import THRESHOLD, MaskClassifier
from openmfr.deploy.model import OnnxModel, Pixels
from openmfr.evaluation.intervals import interval, resample_identities
from openmfr.faces.align import align_face
from openmfr.faces.detect import choose_face
from openmfr.faces.photo import read_photo
from openmfr.masking.bank import MaskBank
from openmfr.masking.render import render_mask
from openmfr.masking.wear import draw_wear
from openmfr.synthetic.dataset import synthesise

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.floating]
BoolArray = npt.NDArray[np.bool_]

DATA = Path(os.environ.get("OPENMFR_DATA", Path(__file__).parents[2] / "shared" / "data"))
#: Another seed than that of the faces that the network was trained on.
SEED, REPLICATES, FOLDS = 5, 1000, 5
#: Goals: the smallest AUC on MFR2, and the recogniser's time over ours.
LEAST_AUC, FASTER = 0.99, 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Faces:
    """Aligned faces, whether each wears a mask, and who it is."""

    images: UInt8Array
    is_masked: BoolArray
    identity: npt.NDArray[np.str_]

    def only(self, chosen: npt.NDArray[np.integer] | BoolArray) -> Faces:
        return Faces(
            images=self.images[chosen],
            is_masked=self.is_masked[chosen],
            identity=self.identity[chosen],
        )


def listed(folder: Path) -> Faces:
    """The aligned faces of a data set's list."""
    with (folder / "images.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    images = [decode_image((folder / row["path"]).read_bytes()) for row in rows]
    return Faces(
        images=np.stack(images),
        is_masked=np.array([row.get("mask", "no-mask") != "no-mask" for row in rows]),
        identity=np.array([row["path"].split("/")[0] for row in rows]),
    )


def unaligned(folder: Path, kinds: Sequence[str]) -> tuple[Faces, int]:
    """Photos as openmfr finds and aligns them itself; and how many had no face to be found."""
    from openmfr.faces.face_mesh import FaceMeshDetector

    detector = FaceMeshDetector()
    images, is_masked, identity, lost = [], [], [], 0
    with (folder / "frames.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].split("/")[0] in kinds]
    for row in rows:
        pixels = read_photo(folder / row["path"]).pixels
        found = detector.detect(pixels)
        if not found:
            lost += 1
            continue
        face = choose_face(found, width=pixels.shape[1], height=pixels.shape[0])
        images.append(align_face(pixels, face.landmarks))
        is_masked.append(row["kind"] != "unmasked")
        identity.append(row["identity"] or row["path"])
    return Faces(
        images=np.stack(images), is_masked=np.array(is_masked), identity=np.array(identity)
    ), lost


def auc(score: FloatArray, is_masked: BoolArray, weight: FloatArray) -> float:
    """Chance that a masked face has a higher score than a bare one, each face weighing so much."""
    order = np.argsort(score, kind="stable")
    masked, bare = (weight * is_masked)[order], (weight * ~is_masked)[order]
    below = np.cumsum(bare) - bare
    # Faces of one score count half.
    _, start, count = np.unique(score[order], return_index=True, return_counts=True)
    ties = np.add.reduceat(bare, start)
    total = np.repeat(below[start], count) + 0.5 * np.repeat(ties, count)
    return float((masked * total).sum() / (masked.sum() * bare.sum()))


def describe(name: str, faces: Faces, score: FloatArray) -> str:
    """AUC, accuracy, misses and false alarms, each with its interval."""
    is_masked, is_seen = faces.is_masked, score >= THRESHOLD
    wrong = is_seen != is_masked

    def rates(weight: FloatArray) -> FloatArray:
        numbers = [1 - _mean(wrong, weight), _mean(~is_seen, weight * is_masked)]
        numbers.append(_mean(is_seen, weight * ~is_masked))
        both = (weight * is_masked).sum() > 0 and (weight * ~is_masked).sum() > 0
        numbers.append(auc(score, is_masked, weight) if both else np.nan)
        return np.array(numbers)

    _, people = np.unique(faces.identity, return_inverse=True)
    draws = resample_identities(rates, people, people, replicates=REPLICATES)
    values = rates(np.ones(len(score)))
    words = []
    titles = ("accuracy", "misses", "false alarms", "AUC")
    for title, value, drawn in zip(titles, values, draws.T, strict=True):
        if np.isnan(value):
            continue
        group = {"misses": is_masked, "false alarms": ~is_masked}.get(title, is_masked | True)
        ends = interval(value, drawn, trials=len(np.unique(people[group])))
        low, high = ends or (np.nan, np.nan)
        digits, scale, unit = (4, 1, "") if title == "AUC" else (2, 100, " %")
        numbers = f"{scale * value:.{digits}f}{unit}"
        words.append(f"{title} {numbers} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]")
    count = f"{is_masked.sum():,} masked, {(~is_masked).sum():,} bare"
    return f"{name} ({count}): {'; '.join(words)}"


def _mean(values: BoolArray, weight: FloatArray) -> float:
    total = weight.sum()
    return float((values * weight).sum() / total) if total else np.nan


def synthetic(people: int) -> Faces:
    """Synthetic faces, bare and masked, for the regression."""
    with TemporaryDirectory() as folder:
        store, _ = synthesise(
            Path(folder) / "faces", identities=people, images=1, seed=SEED, workers=1, geometry=True
        )
        geometry = Geometry.open(store.path / "geometry", store)
        bank = MaskBank.drawn(50, seed=SEED, size=128)
        images, is_masked = [], []
        for index in range(len(store)):
            vertices = geometry.vertices(index)
            if vertices is None:
                continue
            rng, face = np.random.default_rng([SEED, index]), store.decode(index)
            images += [face, render_mask(face, vertices, bank.pick(rng), draw_wear(rng)).image]
            is_masked += [False, True]
    return Faces(
        images=np.stack(images),
        is_masked=np.array(is_masked),
        identity=np.repeat(np.arange(len(images) // 2).astype(np.str_), 2),
    )


def embed(model: OnnxModel, images: UInt8Array) -> FloatArray:
    return np.concatenate(
        [model.embed(images[first : first + 32]) for first in range(0, len(images), 32)]
    )


def regression(embeddings: FloatArray, is_masked: BoolArray) -> LogisticRegression:
    return LogisticRegression(C=0.01, max_iter=3000).fit(embeddings, is_masked)


def of_other_people(embeddings: FloatArray, faces: Faces) -> FloatArray:
    """What a regression says of each face that was learnt from the other folds' people."""
    names, people = np.unique(faces.identity, return_inverse=True)
    fold = np.random.default_rng(SEED).permutation(len(names))[people] % FOLDS
    score = np.zeros(len(embeddings))
    for number in range(FOLDS):
        asked = fold == number
        learnt = regression(embeddings[~asked], faces.is_masked[~asked])
        score[asked] = learnt.predict_proba(embeddings[asked])[:, 1]
    return score


def seconds(work: Callable[[], object], count: int) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - start) / count


def main() -> None:
    options = arguments(__doc__ or "")
    classifier = MaskClassifier()
    model = OnnxModel(
        DATA / "reference" / "r1.onnx", spec=Pixels(color="RGB", mean=127.5, std=128.0), threads=1
    )
    mfr2, lfw = listed(DATA / "mfr2-dev"), listed(DATA / "lfw-112")
    if options.quick:
        lfw = lfw.only(np.arange(0, len(lfw.images), 8))
    print("The network, faces aligned by YuNet:")
    score = classifier.worn(mfr2.images)
    print(" ", describe("MFR2", mfr2, score))
    print(" ", describe("LFW", lfw, classifier.worn(lfw.images)))
    print("The network, faces found and aligned by openmfr:")
    for kinds in (("mfr2-160",), ("rmfd-single",), ("lfw250",)):
        faces, lost = unaligned(DATA / "raw-ingest", kinds)
        text = describe(kinds[0], faces, classifier.worn(faces.images))
        print(f"  {text}; no face found: {lost}")
    print("Logistic regression on embeddings of r1.onnx, aligned by YuNet:")
    made, some = (
        synthetic(40 if options.quick else 300),
        lfw.only(np.arange(0, len(lfw.images), 4)),
    )
    learnt = regression(embed(model, made.images), made.is_masked)
    embeddings = embed(model, mfr2.images)
    on_lfw = learnt.predict_proba(embed(model, some.images))[:, 1]
    print(
        " ",
        describe("learnt from synthetic faces, MFR2", mfr2, learnt.predict_proba(embeddings)[:, 1]),
    )
    print(" ", describe("learnt from synthetic faces, LFW", some, on_lfw))
    print(" ", describe("learnt from MFR2, MFR2", mfr2, of_other_people(embeddings, mfr2)))

    one = mfr2.images[:1]
    repeats, count = (5, 20) if options.quick else (15, 100)
    times = [
        (
            1 / seconds(lambda: classifier.worn(one), 5 * count),
            1 / seconds(lambda: model.embed(one), count),
        )
        for _ in range(repeats)
    ]
    area = auc(score, mfr2.is_masked, np.ones(len(score)))
    rows: list[Row] = [
        paired("one face, one thread, against r1.onnx", times, unit="faces/CPU s", goal=FASTER),
        paired(f"AUC on MFR2 against {LEAST_AUC}", [(area, LEAST_AUC)], unit="AUC", goal=1.0),
    ]
    report("mask_worn", rows, json_path=options.json)


if __name__ == "__main__":
    main()
