"""An exported file says what the checkpoint says, alone and anywhere; or there is no file."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from toy_checkpoint import make_checkpoint
from toys import make_store

from openmfr.checkpoint import Checkpoint, CheckpointEmbedder
from openmfr.cli.export import main as export
from openmfr.data.store import Store
from openmfr.deploy.export import ExportConfig, export_checkpoint
from openmfr.deploy.graph import replace_prelu
from openmfr.deploy.model import OnnxModel
from openmfr.deploy.parity import compare
from openmfr.embed import decode_batch
from openmfr.errors import UserError
from openmfr.models import BACKBONES, BackboneConfig

TINY = BackboneConfig(name="tiny", input_size=32, embedding_dim=48)
TOY = BackboneConfig(name="toy_backbone:Toy", input_size=24, embedding_dim=16)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store") / "faces", size=64)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint", TINY)


@pytest.fixture(scope="module")
def exported(tiny: Checkpoint, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of 32 pixels that takes faces of 64."""
    out = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    export_checkpoint(tiny, out, config=ExportConfig(face_size=64), store=store)
    return out


def session(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_an_exported_file_embeds_as_the_checkpoint_does(
    exported: Path, tiny: Checkpoint, store: Store
) -> None:
    model, reference = OnnxModel(exported, threads=1), CheckpointEmbedder(tiny)
    assert (model.embedding_dim, model.face_size) == (48, 64)
    for rows in (range(1), range(1, 6), range(len(store))):
        faces = decode_batch(store, list(rows))
        cosine, length_error = compare(reference.embed(faces), model.embed(faces))
        assert cosine.min() >= 0.99999
        assert length_error.max() < 1e-4


def test_any_runtime_is_given_bytes_and_gives_unit_vectors_and_their_lengths(
    exported: Path, store: Store
) -> None:
    running = session(exported)
    assert [(i.name, i.type, i.shape[1:]) for i in running.get_inputs()] == [
        ("image", "tensor(uint8)", [64, 64, 3])
    ]
    for count in (1, 7):
        embedding, length = running.run(
            ["embedding", "length"], {"image": decode_batch(store, list(range(count)))}
        )
        assert embedding.shape == (count, 48)
        assert length.shape == (count,)
        np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-5)
        assert (length > 0).all()


def test_the_graph_holds_nothing_but_the_network(exported: Path) -> None:
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["Cast"] == kinds["Transpose"] == kinds["Resize"] == 1
    # Every batch norm behind a convolution is folded: those before one stay, one for each block and
    # one before the embedding's linear layer.
    assert kinds["BatchNormalization"] == 11
    assert not {"Gather", "Identity", "Dropout", "Range"} & set(kinds)
    assert {entry.domain for entry in model.opset_import} == {""}


def test_a_file_tells_nothing_of_the_machine_that_wrote_it(exported: Path) -> None:
    content = exported.read_bytes() + exported.with_suffix(".md").read_bytes()
    for told in (b"site-packages", b"torch/nn", b".py", str(Path.cwd()).encode()):
        assert told not in content


def test_the_same_checkpoint_gives_the_same_file(
    exported: Path, tiny: Checkpoint, store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "tiny.onnx"
    export_checkpoint(tiny, out, config=ExportConfig(face_size=64), store=store)
    assert out.read_bytes() == exported.read_bytes()


def test_a_networks_own_slopes_are_kept_whatever_their_sign_and_size(tmp_path: Path) -> None:
    slopes = np.array([-0.5, 0.0, 0.25, 1.0, 3.0], np.float32).reshape(5, 1, 1)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5, 3, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5, 3, 3])
    graph = helper.make_graph(
        [helper.make_node("PRelu", ["x", "slope"], ["y"], "act")],
        "g",
        [x],
        [y],
        [numpy_helper.from_array(slopes, "slope")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    replace_prelu(model)
    assert "PRelu" not in {node.op_type for node in model.graph.node}
    onnx.save(model, tmp_path / "prelu.onnx")
    values = np.random.default_rng(0).normal(size=(2, 5, 3, 3)).astype(np.float32)
    (found,) = session(tmp_path / "prelu.onnx").run(None, {"x": values})
    np.testing.assert_allclose(found, np.where(values > 0, values, slopes * values), rtol=1e-5)


def test_a_users_network_is_exported(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "toy", TOY)
    card = export_checkpoint(checkpoint, tmp_path / "toy.onnx", config=ExportConfig())
    faces = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), np.uint8)
    reference = CheckpointEmbedder(checkpoint).embed(faces)
    cosine, _ = compare(reference, OnnxModel(tmp_path / "toy.onnx", threads=1).embed(faces))
    assert cosine.min() >= 0.99999
    assert card.network.backbone == "toy_backbone:Toy"


#: Deeper ones of the same blocks as iresnet18 and ridnet_tiny, which take minutes.
DEEPER = (
    *("iresnet34", "iresnet50", "iresnet100", "iresnet200"),
    *("ridnet_xs", "ridnet_s", "ridnet_m", "ridnet_l"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*BACKBONES} - {"tiny", *DEEPER}))
def test_every_kind_of_backbone_is_exported(name: str, tmp_path: Path) -> None:
    config = BackboneConfig(name=name, input_size=32, embedding_dim=64)
    checkpoint = make_checkpoint(tmp_path / "checkpoint", config)
    card = export_checkpoint(checkpoint, tmp_path / "model.onnx", config=ExportConfig(face_size=32))
    assert card.parity.least_cosine >= 0.99999
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node)
    assert kinds["Cast"] == kinds["Transpose"] == 1
    assert not {"Gather", "Shape", "Resize", "PRelu"} & set(kinds)


def test_a_network_that_differs_from_itself_is_refused_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    checkpoint = make_checkpoint(tmp_path / "noisy", replace(TOY, name="toy_checkpoint:Noisy"))
    with pytest.raises(UserError, match=r"parity with PyTorch: found a cosine of 0\.\d+ "):
        export_checkpoint(checkpoint, tmp_path / "out" / "noisy.onnx", config=ExportConfig())
    assert not (tmp_path / "out").exists()


def test_a_network_that_pytorch_cannot_follow_is_named(tmp_path: Path) -> None:
    name = "toy_checkpoint:Undecided"
    checkpoint = make_checkpoint(tmp_path / "undecided", replace(TOY, name=name))
    with pytest.raises(UserError, match=f"network {name}: found code that PyTorch cannot"):
        export_checkpoint(checkpoint, tmp_path / "out.onnx", config=ExportConfig())
    assert [path.name for path in tmp_path.iterdir()] == ["undecided"]


def test_a_network_that_diverged_is_refused(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "toy", TOY)
    weights = checkpoint.read_backbone()
    weights["linear.bias"] = torch.full_like(weights["linear.bias"], torch.nan)
    diverged = _with_weights(checkpoint, weights, tmp_path / "diverged")
    with pytest.raises(UserError, match="checkpoint: found embeddings that are zero or not finite"):
        export_checkpoint(diverged, tmp_path / "out.onnx", config=ExportConfig())


def _with_weights(
    checkpoint: Checkpoint, weights: dict[str, torch.Tensor], path: Path
) -> Checkpoint:
    from openmfr.checkpoint import save_checkpoint

    save_checkpoint(path, checkpoint.info, backbone=weights, training={}, shards={})
    return Checkpoint.open(path)


def test_a_file_is_replaced_only_when_asked(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = make_checkpoint(tmp_path / "toy", TOY)
    out = tmp_path / "model.onnx"
    out.write_bytes(exported.read_bytes())
    with pytest.raises(UserError, match=r"model\.onnx: found a file; .*--overwrite"):
        export(checkpoint.path, out)
    assert out.read_bytes() == exported.read_bytes()
    export(checkpoint.path, out, overwrite=True)
    assert OnnxModel(out, threads=1).embedding_dim == 16
    assert "cosine at least" in capsys.readouterr().out


def test_a_card_that_stands_there_is_not_overwritten_either(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "toy", TOY)
    (tmp_path / "model.md").write_text("notes of mine")
    with pytest.raises(UserError, match=r"model\.md: found a file"):
        export(checkpoint.path, tmp_path / "model.onnx")
    assert (tmp_path / "model.md").read_text() == "notes of mine"
    assert not (tmp_path / "model.onnx").exists()


def test_what_cannot_be_exported_is_said_before_anything_is_done(
    tiny: Checkpoint, store: Store, tmp_path: Path
) -> None:
    out = tmp_path / "out.onnx"
    with pytest.raises(UserError, match="no readable checkpoint or run with checkpoints"):
        export(tmp_path / "nowhere", out)
    with pytest.raises(UserError, match=r"ends in \.onnx; name it .*model\.onnx"):
        export(tiny.path, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"--int8: found no faces .* add --calibrate"):
        export(tiny.path, out, int8=True)
    with pytest.raises(UserError, match=r"faces of 64 × 64 pixels; allowed: 112 × 112"):
        export(tiny.path, out, calibrate=store.path)
    with pytest.raises(UserError, match="--face-size: found 0"):
        export(tiny.path, out, face_size=0)
    assert not list(tmp_path.iterdir())


def test_two_precisions_and_two_checkpoints_have_fingerprints_of_their_own(
    exported: Path, tiny: Checkpoint, tmp_path: Path
) -> None:
    other = make_checkpoint(tmp_path / "toy", TOY)
    export_checkpoint(other, tmp_path / "toy.onnx", config=ExportConfig())
    mine, others = (OnnxModel(path, threads=1) for path in (exported, tmp_path / "toy.onnx"))
    assert len(mine.fingerprint) == 16
    assert mine.fingerprint not in (others.fingerprint, tiny.fingerprint)
