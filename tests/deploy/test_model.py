"""An ONNX file embeds what its input means: ours by itself, anyone's once that is declared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper
from toy_onnx import DIM, expected, write_foreign, write_own
from toys import make_store

from openmfr.cli.main import main as run_openmfr
from openmfr.data.store import Store
from openmfr.deploy.model import InputSpec, OnnxModel, Pixels, read_input
from openmfr.embed import Embeddings, decode_batch
from openmfr.errors import UserError
from openmfr.faces.photo import read_photo

UInt8Array = npt.NDArray[np.uint8]

INSIGHTFACE = Pixels(color="RGB", mean=127.5, std=127.5)


def faces(count: int, size: int = 112) -> UInt8Array:
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def planes(
    images: UInt8Array, *, mean: float = 127.5, std: float = 127.5
) -> npt.NDArray[np.float64]:
    return (images.transpose(0, 3, 1, 2).astype(np.float64) - mean) / std


def cosine(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    result: npt.NDArray[np.floating] = (a * b).sum(axis=1) / lengths
    return result


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_any_number_of_faces_is_embedded_whatever_batch_a_file_is_made_for(
    tmp_path: Path, batch: int | str
) -> None:
    model = OnnxModel(write_foreign(tmp_path / "w.onnx", batch=batch), spec=INSIGHTFACE, threads=1)
    assert model.embedding_dim == DIM
    for count in (0, 1, 4, 6):
        found = model.embed(faces(count))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected(planes(faces(count))), rtol=1e-4, atol=1e-5)


def test_declared_order_of_colours_mean_and_std_reach_the_network(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "w.onnx")
    images = faces(3)
    found = OnnxModel(path, spec=Pixels(color="BGR", mean=100.0, std=50.0), threads=1).embed(images)
    wanted = expected(planes(images[..., ::-1], mean=100.0, std=50.0))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_narrow_network_sees_the_middle_of_the_aligned_face(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "n.onnx", shape=(3, 112, 96), known=(112, 96))
    model = OnnxModel(path, spec=INSIGHTFACE, threads=1)
    images = faces(2)
    assert model.face_size == 112
    wanted = expected(planes(images[:, :, 8:104]))
    np.testing.assert_allclose(model.embed(images), wanted, rtol=1e-4, atol=1e-5)


def test_what_the_graph_leaves_open_comes_from_a_json_file(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "w.onnx", shape=(3, "H", "W"))
    with pytest.raises(UserError, match=r"input data, float32, N×3×N×N.*JSON file"):
        OnnxModel(path, spec=INSIGHTFACE)
    declared = tmp_path / "input.json"
    declared.write_text(
        json.dumps(
            {"height": 112, "width": 112, "layout": "NCHW", "dtype": "float32", "color": "RGB"}
            | {"mean": 127.5, "std": 127.5}
        )
    )
    model = OnnxModel(path, spec=read_input(str(declared)), threads=1)
    wanted = expected(planes(faces(2)))
    np.testing.assert_allclose(model.embed(faces(2)), wanted, rtol=1e-4, atol=1e-5)


def test_a_file_that_does_not_say_what_pixels_mean_is_not_guessed(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "w.onnx")
    with pytest.raises(UserError, match=r"N×3×112×112.*--input RGB,127\.5,127\.5"):
        OnnxModel(path)


def test_our_own_file_says_itself_what_it_takes_and_gives_lengths_back(tmp_path: Path) -> None:
    model = OnnxModel(write_own(tmp_path / "own.onnx", seed=5), threads=1)
    assert (model.fingerprint, model.card, model.face_size) == (f"{5:016x}", {"name": "toy"}, 112)
    wanted = expected(planes(faces(3)), seed=5)
    np.testing.assert_allclose(model.embed(faces(3)), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"openmfr.format_version": "2"}, "found 2; allowed: 1; update openmfr"),
        ({"openmfr.input": "{"}, "openmfr.input: found no JSON object"),
        ({"openmfr.input": '{"heigth": 112}'}, "did you mean height?"),
        ({"openmfr.input": '{"layout": "NCHW"}'}, "as its description says"),
        ({"openmfr.card": "[]"}, "allowed: a model card"),
    ],
)
def test_metadata_that_cannot_be_trusted_is_refused(
    tmp_path: Path, metadata: dict[str, str], message: str
) -> None:
    path = write_own(tmp_path / "own.onnx", metadata=metadata)
    with pytest.raises(UserError) as error:
        OnnxModel(path)
    assert message in str(error.value)


def test_a_declaration_for_our_own_file_is_refused(tmp_path: Path) -> None:
    path = write_own(tmp_path / "own.onnx")
    with pytest.raises(UserError, match="says itself what it takes"):
        OnnxModel(path, spec=INSIGHTFACE)
    OnnxModel(path, spec=InputSpec(), threads=1)  # the same is no contradiction


@pytest.mark.parametrize("content", [b"", b"no network", None])
def test_a_file_that_is_no_network_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "broken.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.onnx: found n.*\n?.*allowed: an ONNX file"):
        OnnxModel(path)


def test_a_truncated_network_is_one_line(tmp_path: Path) -> None:
    path = write_own(tmp_path / "own.onnx")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UserError, match="no usable ONNX network"):
        OnnxModel(path)


def test_a_network_with_several_vectors_is_no_recogniser(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "two.onnx", outputs=("age", "gender"))
    with pytest.raises(UserError, match=r"age.*gender.*or an output named embedding"):
        OnnxModel(path, spec=INSIGHTFACE)


def test_of_several_vectors_the_one_named_embedding_is_taken(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "two.onnx", outputs=("gender", "embedding"))
    assert OnnxModel(path, spec=INSIGHTFACE, threads=1).embed(faces(2)).shape == (2, DIM)


def test_a_network_with_two_inputs_is_no_recogniser(tmp_path: Path) -> None:
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in "abc"]
    node = helper.make_node("Add", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "two", values[:2], values[2:])
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    onnx.save(model, str(tmp_path / "two.onnx"))
    with pytest.raises(UserError, match=r"2 inputs.*allowed: one: the image"):
        OnnxModel(tmp_path / "two.onnx", spec=INSIGHTFACE)


def test_faces_of_another_size_are_refused_with_the_command_that_makes_them(tmp_path: Path) -> None:
    model = OnnxModel(write_own(tmp_path / "own.onnx"), threads=1)
    with pytest.raises(UserError, match="openmfr ingest --size 112"):
        model.embed(faces(1, size=128))


def test_embeddings_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    path = write_foreign(tmp_path / "w.onnx")
    model = OnnxModel(path, spec=Pixels(mean=0.0, std=1e-36), threads=1)  # sums of 255e36 are inf
    black_and_white = np.zeros((2, 112, 112, 3), np.uint8)
    black_and_white[1] = 255
    with pytest.raises(UserError, match=r"image 1 of the batch.*declared mean and std"):
        model.embed(black_and_white)


def test_threads_share_a_model(tmp_path: Path) -> None:
    model = OnnxModel(write_own(tmp_path / "own.onnx"), threads=1)
    batches = [faces(count) for count in range(1, 9)] * 4
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(model.embed, batches))
    for batch, found in zip(batches, together, strict=True):
        np.testing.assert_array_equal(found, model.embed(batch))


def test_a_fingerprint_changes_with_weights_and_declaration_and_not_with_the_name(
    tmp_path: Path,
) -> None:
    def of(name: str, seed: int, spec: Pixels = INSIGHTFACE) -> str:
        return OnnxModel(write_foreign(tmp_path / name, seed=seed), spec=spec).fingerprint

    assert of("a.onnx", 0) == of("b.onnx", 0)
    assert of("a.onnx", 0) != of("b.onnx", 1)
    assert of("a.onnx", 0) != of("a.onnx", 0, Pixels(color="BGR", mean=127.5, std=127.5))


def test_a_fingerprint_knows_weights_that_lie_beside_the_file(tmp_path: Path) -> None:
    found = []
    for seed in (0, 1):
        network = onnx.load(str(write_foreign(tmp_path / "inside.onnx", seed=seed)))
        # The graphs are the same to the byte: all weights are in the other file.
        onnx.save_model(
            network,
            str(tmp_path / "beside.onnx"),
            save_as_external_data=True,
            location="beside.data",
            size_threshold=0,
        )
        model = OnnxModel(tmp_path / "beside.onnx", spec=INSIGHTFACE, threads=1)
        wanted = expected(planes(faces(1)), seed=seed)
        np.testing.assert_allclose(model.embed(faces(1)), wanted, rtol=1e-4, atol=1e-5)
        found.append(model.fingerprint)
        (tmp_path / "beside.data").unlink()
    assert found[0] != found[1]


def test_a_provider_that_is_missing_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    path = write_own(tmp_path / "own.onnx")
    with pytest.raises(UserError, match=r"no NoSuchProvider.*allowed:.*CPUExecutionProvider"):
        OnnxModel(path, providers=["NoSuchProvider", "CPUExecutionProvider"])


def test_openvino_gives_the_same_embeddings(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    path = write_own(tmp_path / "own.onnx")
    ours, theirs = OnnxModel(path, threads=1), OnnxModel(path, threads=1, runtime="openvino")
    assert (theirs.fingerprint, theirs.spec, theirs.card) == (
        ours.fingerprint,
        ours.spec,
        ours.card,
    )
    for count in (1, 5):
        found = theirs.embed(faces(count))
        np.testing.assert_allclose(found, ours.embed(faces(count)), rtol=1e-3, atol=1e-4)


def test_openvino_is_asked_for_in_words_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match="pip install openvino"):
        OnnxModel(write_own(tmp_path / "own.onnx"), runtime="openvino")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RGB", "COLOR,MEAN,STD"),
        ("RGB,127.5", "COLOR,MEAN,STD"),
        ("RGB,a,b", "COLOR,MEAN,STD"),
        ("RBG,127.5,128", "found 'RBG'"),
        ("RGB,127.5,0", "input.std: found 0.0; allowed: above 0"),
        ("RGB,nan,1", "input.mean: found nan"),
        ("missing.json", "no readable input declaration"),
    ],
)
def test_a_declaration_that_is_wrong_says_how_to_write_it(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read_input(text)
    assert message in str(error.value)


def test_bytes_are_not_normalised_twice() -> None:
    with pytest.raises(UserError, match="the graph normalises bytes itself"):
        InputSpec(dtype="uint8", mean=127.5, std=127.5)


def test_a_store_is_embedded_by_an_onnx_file_without_torch(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", identities=3, images=2, size=112)
    write_foreign(tmp_path / "w.onnx")
    script = (
        "import sys, without_torch; from openmfr.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["embed", "w.onnx", "store", "out", "--flip", "--input", "RGB,127.5,127.5"]
    subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    images = decode_batch(store, range(6))
    wanted = expected(planes(images)) + expected(planes(images[:, :, ::-1]))
    found = Embeddings(tmp_path / "out")
    np.testing.assert_allclose(found.array, wanted, rtol=1e-3, atol=1e-4)
    spec = read_input("RGB,127.5,127.5")
    assert found.model_fingerprint == OnnxModel(tmp_path / "w.onnx", spec=spec).fingerprint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("embed w.onnx store out", "--input RGB,127.5,127.5"),
        ("embed w.onnx store out --input RGB,0,1 --precision bfloat16", "--precision: found"),
        ("embed w.onnx store out --input RGB,0,1 --device tpu", "allowed: cpu, cuda"),
        ("embed missing.onnx store out", "found nothing; allowed: an ONNX file"),
        ("embed store store out --input RGB,0,1", "for a checkpoint"),
        ("embed store store out --runtime openvino", "openvino for a checkpoint"),
    ],
)
def test_a_wrong_command_is_one_line_and_writes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    make_store(tmp_path / "store", identities=2, images=1)
    write_foreign(tmp_path / "w.onnx")
    monkeypatch.chdir(tmp_path)
    assert run_openmfr(words.split()) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_real_recogniser_gives_its_published_embeddings(real_data: Path) -> None:
    """A MobileFaceNet of 112×96; its embeddings were made by others, with flipped ones beside."""
    spec = Pixels(color="RGB", mean=127.5, std=128.0)
    model = OnnxModel(real_data / "reference" / "r1.onnx", spec=spec, threads=1)
    published = np.load(real_data / "reference" / "r1_lfw112.npz", allow_pickle=False)
    rows = range(0, len(published["path"]), 500)
    images = np.stack(
        [read_photo(real_data / "lfw-112" / str(published["path"][row])).pixels for row in rows]
    )
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    found = np.hstack([model.embed(images), model.embed(mirrored)])
    wanted = published["embedding"][list(rows)].astype(np.float32)
    assert cosine(found, wanted).min() > 0.9999
    # What declaring matters for: swapped colours look like embeddings, and are others.
    swapped = OnnxModel(model.path, spec=Pixels(color="BGR", mean=127.5, std=128.0), threads=1)
    assert cosine(swapped.embed(images), wanted[:, :128]).min() < 0.98


def test_a_store_remembers_which_network_embedded_it(tmp_path: Path) -> None:
    """Unlike a checkpoint's, nothing but the file says what a network is."""
    make_store(tmp_path / "store", identities=2, images=1, size=112)
    write_own(tmp_path / "own.onnx", seed=1)
    words = ["embed", str(tmp_path / "own.onnx"), str(tmp_path / "store"), str(tmp_path / "out")]
    assert run_openmfr(words) == 0
    write_own(tmp_path / "own.onnx", seed=2)
    assert run_openmfr(words) == 2
    assert len(Embeddings(tmp_path / "out")) == len(Store(tmp_path / "store"))
