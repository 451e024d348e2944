"""Whether a mask is worn: on synthetic and real faces, through the recogniser, without torch."""

from __future__ import annotations

import csv
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from toy_onnx import write_own

from openmfr.data.geometry import Geometry
from openmfr.data.store import decode_image
from openmfr.deploy.mask_worn import THRESHOLD, MaskClassifier, said_of_masks
from openmfr.deploy.model import OnnxModel
from openmfr.deploy.runtime import Recognizer
from openmfr.errors import UserError
from openmfr.faces.align import template
from openmfr.faces.detect import DetectedFace
from openmfr.masking.bank import MaskBank
from openmfr.masking.render import render_mask
from openmfr.synthetic.dataset import synthesise

UInt8Array = npt.NDArray[np.uint8]
#: People whom the network was not trained on.
SEED, PEOPLE = 901, 12


@pytest.fixture(scope="module")
def classifier() -> MaskClassifier:
    return MaskClassifier()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[UInt8Array, UInt8Array]:
    """Synthetic faces, bare and the same with masks."""
    folder = tmp_path_factory.mktemp("synth") / "faces"
    store, _ = synthesise(folder, identities=PEOPLE, images=1, seed=SEED, workers=1, geometry=True)
    geometry, bank = (
        Geometry.open(folder / "geometry", store),
        MaskBank.drawn(12, seed=SEED, size=64),
    )
    bare, masked = [], []
    for index in range(len(store)):
        vertices = geometry.vertices(index)
        assert vertices is not None
        bare.append(store.decode(index))
        masked.append(render_mask(bare[-1], vertices, bank[index]).image)
    return np.stack(bare), np.stack(masked)


def test_masks_are_seen_on_people_whom_it_does_not_know(
    classifier: MaskClassifier, pairs: tuple[UInt8Array, UInt8Array]
) -> None:
    bare, masked = (classifier.worn(faces) for faces in pairs)
    assert bare.dtype == np.float32
    assert bare.shape == (PEOPLE,)
    assert (bare < THRESHOLD).all()
    assert (masked >= THRESHOLD).all()


def test_a_face_is_judged_alike_alone_and_among_others(
    classifier: MaskClassifier, pairs: tuple[UInt8Array, UInt8Array]
) -> None:
    faces = np.concatenate([*pairs] * 4)  # more than one batch
    together = classifier.worn(faces)
    alone = [classifier.worn(face[None])[0] for face in faces]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert classifier.worn(faces[:0]).shape == (0,)


def test_larger_crops_are_judged_as_those_of_112_pixels(
    classifier: MaskClassifier, pairs: tuple[UInt8Array, UInt8Array]
) -> None:
    for faces in pairs:
        larger = faces.repeat(2, axis=1).repeat(2, axis=2)
        np.testing.assert_allclose(classifier.worn(larger), classifier.worn(faces), atol=0.15)


def test_threads_share_one_classifier(
    classifier: MaskClassifier, pairs: tuple[UInt8Array, UInt8Array]
) -> None:
    expected = classifier.worn(pairs[1])
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(classifier.worn, [pairs[1]] * 12):
            np.testing.assert_array_equal(found, expected)


def test_other_arrays_are_refused_with_what_is_allowed(classifier: MaskClassifier) -> None:
    with pytest.raises(UserError, match=r"float32 .* allowed: uint8 \(N, 112, 112, 3\)"):
        classifier.worn(np.zeros((1, 112, 112, 3), np.float32))
    with pytest.raises(UserError, match=r"uint8 \(112, 112, 3\)"):
        classifier.worn(np.zeros((112, 112, 3), np.uint8))


def test_another_network_is_no_mask_classifier(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="another ONNX network"):
        MaskClassifier(write_own(tmp_path / "recogniser.onnx"))


def test_a_recogniser_says_whether_a_mask_is_worn_if_it_is_to_look(
    tmp_path: Path, classifier: MaskClassifier, pairs: tuple[UInt8Array, UInt8Array]
) -> None:
    class Whole:
        def detect(self, _: UInt8Array) -> list[DetectedFace]:
            return [DetectedFace(box=(0, 0, 112, 112), score=1.0, landmarks=template(112))]

    model = OnnxModel(write_own(tmp_path / "own.onnx"), threads=1)
    bare, masked = (faces[0] for faces in pairs)
    looking = Recognizer(model, detector=Whole(), masks=classifier)
    for photo, faces in ((bare, pairs[0]), (masked, pairs[1])):
        worn = looking.embed(photo).mask_worn
        assert worn == pytest.approx(float(classifier.worn(faces[:1])[0]), abs=1e-3)
    assert Recognizer(model, detector=Whole()).embed(masked).mask_worn is None


def test_a_user_cannot_say_both_masked_and_bare() -> None:
    assert said_of_masks(masked=True, bare=False) is True
    with pytest.raises(UserError, match="both"):
        said_of_masks(masked=True, bare=True)


def test_it_works_where_torch_cannot_be_imported() -> None:
    code = (
        "import without_torch; import numpy as np; "
        "from openmfr.deploy.mask_worn import MaskClassifier; "
        "print(MaskClassifier().worn(np.zeros((2, 112, 112, 3), np.uint8)).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "(2,)", done.stderr


def test_really_worn_masks_are_seen(classifier: MaskClassifier, real_data: Path) -> None:
    faces, is_masked = [], []
    with (real_data / "mfr2-dev" / "images.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            faces.append(decode_image((real_data / "mfr2-dev" / row["path"]).read_bytes()))
            is_masked.append(row["mask"] != "no-mask")
    is_seen, worn = classifier.worn(np.stack(faces)) >= THRESHOLD, np.array(is_masked)
    assert is_seen[worn].mean() > 0.95
    assert is_seen[~worn].mean() < 0.05


def test_bare_faces_are_rarely_taken_for_masked(
    classifier: MaskClassifier, real_data: Path
) -> None:
    with (real_data / "lfw-112" / "images.csv").open(encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file)][::10]
    faces = np.stack([decode_image((real_data / "lfw-112" / path).read_bytes()) for path in paths])
    assert (classifier.worn(faces) >= THRESHOLD).mean() < 0.02
