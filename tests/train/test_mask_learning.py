"""The network that sees masks can be trained from a store, and the file repeated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from openmfr.cli.main import main
from openmfr.data.geometry import Geometry
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.deploy.mask_worn import MaskClassifier
from openmfr.errors import UserError
from openmfr.masking.bank import MaskBank
from openmfr.synthetic.dataset import synthesise
from openmfr.train.mask_examples import make_examples
from openmfr.train.mask_learning import LearnConfig, learn, predict, save

CONFIG = LearnConfig(faces=40, pairs=2, epochs=2, batch=16, templates=6)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synth") / "faces"
    synthesise(folder, identities=20, images=2, seed=3, workers=1, geometry=True)
    return folder


def opened(faces: Path) -> tuple[Store, Labels, Geometry]:
    store = Store(faces)
    return store, Labels.read(faces / "labels.parquet"), Geometry.open(faces / "geometry", store)


def test_a_trained_network_is_a_file_that_does_the_same_and_says_what_it_was_trained_on(
    faces: Path, tmp_path: Path
) -> None:
    store, labels, geometry = opened(faces)
    learnt = learn(store, labels, geometry, CONFIG)
    assert (learnt.trained_on, learnt.held_out) == (36 * 2 * 2, 4 * 2)
    size = save(learnt, tmp_path / "own.onnx")
    assert size == (tmp_path / "own.onnx").stat().st_size < 400_000
    model = onnx.load(tmp_path / "own.onnx")
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["openmfr.mask_worn.store"] == store.fingerprint
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    images = np.stack([store.decode(index) for index in range(10)])
    found = MaskClassifier(tmp_path / "own.onnx").worn(images)
    np.testing.assert_allclose(found, predict(learnt.network, images), atol=1e-5)


def test_the_same_faces_and_seed_give_the_same_network(faces: Path) -> None:
    config = LearnConfig(faces=20, pairs=1, epochs=1, batch=8, templates=4)
    first, again = (learn(*opened(faces), config).network for _ in range(2))
    for name, weights in first.state_dict().items():
        np.testing.assert_array_equal(weights.numpy(), again.state_dict()[name].numpy())


def test_every_face_is_an_example_bare_and_masked(faces: Path) -> None:
    store, _, geometry = opened(faces)
    bank = MaskBank.drawn(4, seed=0, size=64)
    chosen = np.array([3, 5])
    examples = make_examples(store, chosen, geometry, bank, pairs=3, seed=0)
    assert examples.images.shape == (12, 112, 112, 3)
    assert examples.is_worn.tolist() == [False, True] * 6
    others = make_examples(store, chosen[1:], geometry, bank, pairs=3, seed=0)
    np.testing.assert_array_equal(examples.images[6:], others.images)


def test_really_masked_and_dropped_faces_are_left_alone(faces: Path) -> None:
    store, labels, geometry = opened(faces)
    some = np.arange(len(store)) % 4
    table = labels.child(is_masked=some == 0).without(some == 1, reason="blurred")
    learnt = learn(
        store, table, geometry, LearnConfig(faces=99, pairs=1, epochs=1, batch=8, templates=4)
    )
    assert learnt.trained_on + learnt.held_out == len(store) // 2 * 2


def test_faces_of_one_person_are_too_few(faces: Path) -> None:
    store, labels, geometry = opened(faces)
    one = labels.without(labels.identity > 0, reason="test")
    with pytest.raises(UserError, match="of two people at least"):
        learn(store, one, geometry, CONFIG)


def test_the_command_writes_a_file_and_replaces_none(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks, out = tmp_path / "masks", str(tmp_path / "own.onnx")
    masks.mkdir()
    Image.fromarray(MaskBank.drawn(1, seed=0, size=128)[0].rgba).save(masks / "mine.png")
    words = ["mask", "learn", str(faces), out, "--faces", "16", "--epochs", "1"]
    words += ["--templates", str(masks)]
    assert main(words) == 0
    assert "of masks missed" in capsys.readouterr().out
    written = Path(out).read_bytes()
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*words[:3], str(tmp_path / "own.pt")]) == 2
    assert Path(out).read_bytes() == written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks", "own.onnx"]
