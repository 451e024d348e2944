"""int8: what becomes bytes, with which ranges, on whose faces; and what it may cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from toy_checkpoint import make_checkpoint
from toys import make_store

from openmfr.cli.export import main as export
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.deploy import export as exporting
from openmfr.deploy.engine import OnnxRuntime
from openmfr.deploy.int8_cost import Change, Int8Config, Int8Cost, split
from openmfr.deploy.model import OnnxModel
from openmfr.deploy.quantize import quantize, with_pools
from openmfr.deploy.ranges import STEPS, Histogram
from openmfr.errors import CombinedUserError, UserError
from openmfr.evaluation.intervals import Measured
from openmfr.models import BackboneConfig

SMALL = BackboneConfig(name="toy_checkpoint:Small", input_size=32, embedding_dim=48)
FloatArray = npt.NDArray[np.floating]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Twenty people with six pictures each."""
    return make_store(tmp_path_factory.mktemp("store") / "faces", identities=20)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "checkpoint"
    make_checkpoint(path, SMALL)
    return path


@pytest.fixture(scope="module")
def exported(
    checkpoint: Path, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    paths = {"float32": folder / "float32.onnx", "int8": folder / "int8.onnx"}
    export(checkpoint, paths["float32"], face_size=32)
    export(checkpoint, paths["int8"], int8=True, calibrate=store.path, face_size=32, max_loss=0.05)
    return paths


def test_int8_embeds_nearly_as_float32_does_in_a_third_of_the_size(
    exported: dict[str, Path], store: Store
) -> None:
    faces = np.stack([store.decode(row) for row in range(len(store))])
    float32, int8 = (OnnxModel(exported[name], threads=1) for name in ("float32", "int8"))
    a, b = float32.embed(faces), int8.embed(faces)
    cosine = (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    assert np.median(cosine) >= 0.99
    assert exported["int8"].stat().st_size < exported["float32"].stat().st_size / 3


def test_embeddings_of_two_precisions_never_pass_for_each_others(
    exported: dict[str, Path],
) -> None:
    prints = {OnnxModel(path, threads=1).fingerprint for path in exported.values()}
    assert len(prints) == 2


def test_the_card_holds_what_int8_costs(exported: dict[str, Path]) -> None:
    cost = OnnxModel(exported["int8"], threads=1).card["int8"]
    assert cost["median_cosine"] >= 0.99
    assert cost["identities"] == 10  # the other half was calibrated on
    assert cost["calibration_images"] == 60
    assert cost["eer"]["change"]["high"] <= 0.05
    assert OnnxModel(exported["float32"], threads=1).card["int8"] is None
    assert "What int8 costs" in exported["int8"].with_suffix(".md").read_text()


def test_int8_that_is_another_network_is_refused_and_nothing_is_written(
    checkpoint: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "quantize", lambda model, _batches: _blinded(model))
    with pytest.raises(UserError, match=r"--int8: found a median cosine of 0\.\d+ .* float32"):
        export(checkpoint, tmp_path / "m.onnx", int8=True, calibrate=store.path, face_size=32)
    assert not list(tmp_path.iterdir())


def _blinded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let the first convolution see one colour alone."""
    blinded = onnx.ModelProto()
    blinded.CopyFrom(model)
    first = next(node for node in blinded.graph.node if node.op_type == "Conv")
    weight = next(w for w in blinded.graph.initializer if w.name == first.input[1])
    values = np.array(numpy_helper.to_array(weight))
    values[:, 1:] = 0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return blinded


def changed(
    low: float | None, value: float, high: float | None, *, median_cosine: float = 0.995
) -> Int8Cost:
    eer = Change(
        float32=Measured(value=0.1, low=0.08, high=0.12),
        int8=Measured(value=0.1 + value, low=0.08, high=0.13),
        change=Measured(value=value, low=low, high=high),
    )
    return Int8Cost(
        store="",
        labels="",
        is_held_out=True,
        calibration_images=256,
        images=400,
        identities=100,
        pairs=2000,
        median_cosine=median_cosine,
        least_cosine=0.9,
        eer=eer,
        accuracy=eer,
        tar=eer,
        max_loss=0.005,
    )


def test_a_loss_passes_when_its_whole_interval_is_within_the_limit() -> None:
    changed(-0.002, 0.001, 0.005).check()
    changed(-0.01, -0.005, -0.001).check()
    with pytest.raises(UserError, match="measure on a store with more people, or raise --max-loss"):
        changed(-0.002, 0.001, 0.006).check()
    with pytest.raises(UserError, match="nothing was written; export in float32, or raise"):
        changed(0.006, 0.008, 0.01).check()
    with pytest.raises(UserError, match="measure on a store with more people"):
        changed(None, 0.0, None).check()
    with pytest.raises(UserError, match=r"--int8: found a median cosine of 0\.8"):
        changed(-0.03, -0.02, -0.01, median_cosine=0.8).check()


def labels_of(store: Store, **columns: npt.NDArray[np.generic]) -> Labels:
    return replace(Labels.from_names(store), **columns)  # type: ignore[arg-type]


def test_nobody_is_both_calibrated_and_measured_on(store: Store) -> None:
    labels = labels_of(store)
    for seed in range(5):
        chosen = split(labels, Int8Config(seed=seed))
        calibrated = set(labels.identity[chosen.calibration].tolist())
        measured = set(labels.identity[chosen.measured].tolist())
        assert len(calibrated) == len(measured) == 10
        assert not calibrated & measured
        assert not chosen.is_held_out
    again = split(labels, Int8Config(seed=4))
    assert np.array_equal(again.calibration, chosen.calibration)
    assert np.array_equal(again.measured, chosen.measured)


def test_who_was_held_out_from_the_training_is_measured_on(store: Store) -> None:
    labels = labels_of(store).hold_out(5, seed=1)
    chosen = split(labels, Int8Config())
    assert chosen.is_held_out
    assert set(chosen.measured) == set(np.flatnonzero(labels.is_held_out))
    assert labels.keep[chosen.calibration].all()


def test_everyone_is_calibrated_on_once_before_anyone_is_twice(store: Store) -> None:
    labels = labels_of(store)
    chosen = split(labels, Int8Config(calibration_images=32))
    _, counts = np.unique(labels.identity[chosen.calibration], return_counts=True)
    assert len(chosen.calibration) == len(set(chosen.calibration.tolist())) == 32
    assert set(counts.tolist()) == {3, 4}  # 32 images of ten people


def test_half_of_the_calibration_images_show_masks_where_labels_know_them(store: Store) -> None:
    masked = np.arange(len(store)) % 6 < 2
    labels = labels_of(store, is_masked=masked)
    few = split(labels, Int8Config(calibration_images=32)).calibration
    assert labels.is_masked[few].sum() == 16
    all_there_are = split(labels, Int8Config(calibration_images=60)).calibration
    assert labels.is_masked[all_there_are].sum() == 20


def test_too_few_faces_or_people_are_refused_together(tmp_path: Path) -> None:
    small = make_store(tmp_path / "faces", identities=4, images=3)
    with pytest.raises(CombinedUserError) as raised:
        split(Labels.from_names(small), Int8Config())
    assert "6 images to calibrate on; allowed: at least 32" in str(raised.value)
    assert "2 people with two images" in str(raised.value)


def test_numbers_out_of_range_are_named_together() -> None:
    with pytest.raises(CombinedUserError, match=r"(?s)calibration_images.*max_loss: found 1\.5"):
        Int8Config(calibration_images=3, max_loss=1.5)


def network() -> onnx.ModelProto:
    """Convolution → depth-wise convolution → convolution → linear layer, with ReLUs between."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 1, 3, 3), "w3": (6, 8, 1, 1), "w4": (6 * 16, 5)}
    weights = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) / 3, name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["x"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "w1"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu1"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "depthwise", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Relu", ["c"], ["d"], "relu2"),
        helper.make_node("Conv", ["d", "w3"], ["e"], "pointwise"),
        helper.make_node("Relu", ["e"], ["f"], "relu3"),
        helper.make_node("Flatten", ["f"], ["g"], "flat"),
        helper.make_node("Gemm", ["g", "w4"], ["embedding"], "linear"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 4, 3])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "g", [image], [embedding], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_first_and_depthwise_layers_stay_float32_and_an_embedding_is_no_byte(
    tmp_path: Path,
) -> None:
    faces = np.random.default_rng(1).integers(0, 256, (32, 4, 4, 3), np.uint8)
    model = network()
    int8 = quantize(model, [faces[:16], faces[16:]])
    weights = {w.name: w.data_type for w in int8.graph.initializer}
    assert {weights[name] for name in ("w1", "w2")} == {TensorProto.FLOAT}
    assert {weights[f"{name}_quantized"] for name in ("w3", "w4")} == {TensorProto.INT8}
    scales = {w.name: w.dims for w in int8.graph.initializer}
    assert list(scales["w3_scale"]) == [6]  # one for each output channel
    last = next(node for node in int8.graph.node if "embedding" in node.output)
    assert last.op_type == "Gemm"
    a, b = (embeddings_of(graph, tmp_path / "m.onnx", faces) for graph in (model, int8))
    assert np.abs(a - b).max() < 0.03 * np.abs(a).max()


def attention() -> onnx.ModelProto:
    """`network` with its pointwise output weighed: by its own mean, and by a constant."""
    model = network()
    axes = numpy_helper.from_array(np.array([-1, -2]), "axes")
    slope = numpy_helper.from_array(
        np.linspace(0.5, 2, 6, dtype=np.float32)[:, None, None], "slope"
    )
    gate = numpy_helper.from_array(np.eye(6, dtype=np.float32)[:, :, None, None], "gate")
    model.graph.initializer.extend([axes, slope, gate])
    nodes = list(model.graph.node)
    at = [node.name for node in nodes].index("relu3")
    nodes[at].output[0] = "map"
    nodes[at + 1 : at + 1] = [
        helper.make_node("ReduceMean", ["map", "axes"], ["mean"], "mean", keepdims=1),
        helper.make_node("Conv", ["mean", "gate"], ["weight"], "gate"),
        helper.make_node("Mul", ["weight", "map"], ["weighed"], "weigh"),
        helper.make_node("Mul", ["weighed", "slope"], ["f"], "sloped"),
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return onnx.shape_inference.infer_shapes(model)


def test_attention_computes_in_bytes_and_a_product_with_a_constant_does_not(tmp_path: Path) -> None:
    faces = np.random.default_rng(1).integers(0, 256, (32, 4, 4, 3), np.uint8)
    model = attention()
    before = model.SerializeToString()
    int8 = quantize(model, [faces])
    assert model.SerializeToString() == before
    made_by = {name: node.op_type for node in int8.graph.node for name in node.output}
    inputs = {node.op_type + node.name: list(node.input) for node in int8.graph.node}
    assert [made_by[name] for name in inputs["Mulweigh"]] == ["DequantizeLinear"] * 2
    assert [made_by[name] for name in inputs["GlobalAveragePoolmean"]] == ["DequantizeLinear"]
    assert "slope" in inputs["Mulsloped"]
    assert "axes" not in {entry.name for entry in int8.graph.initializer}
    a, b = (embeddings_of(graph, tmp_path / "m.onnx", faces) for graph in (model, int8))
    assert np.abs(a - b).max() < 0.03 * np.abs(a).max()


@pytest.mark.parametrize(("axes", "keepdims"), [([1, 2], 1), ([2], 1), ([2, 3], 0)])
def test_a_mean_over_anything_but_a_map_stays_what_it_is(axes: list[int], keepdims: int) -> None:
    model = attention()
    (mean,) = (node for node in model.graph.node if node.name == "mean")
    (entry,) = (entry for entry in model.graph.initializer if entry.name == "axes")
    entry.CopyFrom(numpy_helper.from_array(np.array(axes), "axes"))
    mean.attribute[0].i = keepdims
    assert mean in with_pools(model).graph.node


def embeddings_of(model: onnx.ModelProto, path: Path, faces: npt.NDArray[np.uint8]) -> FloatArray:
    onnx.save(model, path)
    return OnnxRuntime(path, threads=1).run(faces)["embedding"]


def test_a_network_without_a_second_layer_has_nothing_to_quantize() -> None:
    model = network()
    del model.graph.node[4:]
    model.graph.output[0].name = "b"
    with pytest.raises(UserError, match="without a second convolution or matrix product"):
        quantize(model, [np.zeros((1, 4, 4, 3), np.uint8)])


def squared_error(values: FloatArray, low: float, high: float) -> float:
    step = (high - low) / STEPS
    zero = np.round(-low / step)
    kept = (np.clip(np.round(values / step) + zero, 0, STEPS) - zero) * step
    return float(((kept - values) ** 2).sum())


@given(
    seed=st.integers(0, 10_000),
    spread=st.floats(1e-3, 1e3),
    shift=st.floats(-2, 2),
    tail=st.floats(0, 50),
)
def test_a_range_is_at_least_as_good_as_the_whole_one(
    seed: int, spread: float, shift: float, tail: float
) -> None:
    rng = np.random.default_rng(seed)
    values = spread * (rng.normal(size=2_000) + shift + tail * (rng.random(2_000) < 1e-3))
    histogram = Histogram()
    for part in np.split(values, 8):
        histogram.add(part)
    low, high = histogram.best_range()
    assert low <= 0 <= high
    assert low >= min(0, values.min())
    assert high <= max(0, values.max())
    whole = squared_error(values, min(0, values.min()), max(0, values.max()))
    assert squared_error(values, low, high) <= 1.05 * whole


def test_a_range_does_not_depend_on_the_order_in_which_values_come() -> None:
    values = np.random.default_rng(0).standard_cauchy(5_000)
    upwards, downwards = Histogram(), Histogram()
    for part in np.split(np.sort(values), 50):
        upwards.add(part)
    for part in reversed(np.split(np.sort(values), 50)):
        downwards.add(part)
    assert upwards.best_range() == pytest.approx(downwards.best_range(), rel=0.05)


def test_a_tensor_that_is_always_zero_has_a_range_of_nothing() -> None:
    histogram = Histogram()
    histogram.add(np.zeros((2, 3)))
    assert histogram.best_range() == (0, 0)
