"""Small ONNX recognisers for tests: what they compute can be written down in a line of numpy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

DIM = 16
#: Edge of the squares that are averaged before the linear layer.
POOL = 16


def weights(pooled: int, *, seed: int = 0, dim: int = DIM) -> npt.NDArray[np.float32]:
    """The linear layer, shape (3 · pooled, D)."""
    return np.random.default_rng(seed).normal(0, 1, (3 * pooled, dim)).astype(np.float32)


def expected(pixels: npt.NDArray[np.floating], *, seed: int = 0) -> npt.NDArray[np.float64]:
    """What the networks make of (B, 3, H, W) values: means of squares, weighted."""
    count, channels, height, width = pixels.shape
    squares = pixels.reshape(count, channels, height // POOL, POOL, width // POOL, POOL)
    means = squares.mean(axis=(3, 5), dtype=np.float64).reshape(
        count, channels * height * width // POOL**2
    )
    vectors: npt.NDArray[np.float64] = means @ weights(means.shape[1] // 3, seed=seed)
    return vectors


def write_foreign(
    path: Path,
    *,
    batch: int | str = "N",
    shape: Sequence[int | str] = (3, 112, 112),
    known: tuple[int, int] = (112, 112),
    seed: int = 0,
    outputs: Sequence[str] = ("vector",),
    dim: int = DIM,
) -> Path:
    """Write a file as others export them: float32 N×3×H×W in, one vector out, no metadata."""
    pooled = (known[0] // POOL) * (known[1] // POOL)
    matrix = weights(pooled, seed=seed, dim=dim)
    nodes = [
        helper.make_node(
            "AveragePool", ["data"], ["pooled"], kernel_shape=[POOL, POOL], strides=[POOL, POOL]
        ),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        *(helper.make_node("MatMul", ["flat", "weights"], [name]) for name in outputs),
    ]
    return _write(
        path,
        nodes,
        {"weights": matrix},
        helper.make_tensor_value_info("data", TensorProto.FLOAT, [batch, *shape]),
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [batch, dim]) for n in outputs],
    )


def write_own(
    path: Path, *, seed: int = 0, metadata: Mapping[str, str] | None = None, dim: int = DIM
) -> Path:
    """Write a file as openmfr exports them: uint8 faces in, unit embeddings and their lengths out.

    Args:
        path: Where to write.
        seed: Of the weights.
        metadata: Replaces or adds entries.
        dim: D.
    """
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "mean"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["planes"], ["pooled"], kernel_shape=[POOL, POOL], strides=[POOL, POOL]
        ),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["raw"]),
        helper.make_node("ReduceL2", ["raw", "axes"], ["norm"], keepdims=1),
        helper.make_node("Div", ["raw", "norm"], ["embedding"]),
        helper.make_node("Squeeze", ["norm", "axes"], ["length"]),
    ]
    constants: dict[str, npt.NDArray[np.generic]] = {
        "mean": np.array(127.5, np.float32),
        "weights": weights((112 // POOL) ** 2, seed=seed, dim=dim),
        "axes": np.array([1], np.int64),
    }
    spec = {"height": 112, "width": 112, "layout": "NHWC", "dtype": "uint8", "color": "RGB"}
    own = {
        "openmfr.format_version": "1",
        "openmfr.input": json.dumps(spec | {"mean": 0.0, "std": 1.0}),
        "openmfr.fingerprint": f"{seed:016x}",
        "openmfr.card": json.dumps({"name": "toy"}),
    }
    return _write(
        path,
        nodes,
        constants,
        helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", 112, 112, 3]),
        [
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", dim]),
            helper.make_tensor_value_info("length", TensorProto.FLOAT, ["B"]),
        ],
        own | dict(metadata or {}),
    )


def _write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, npt.NDArray[np.generic]],
    image: onnx.ValueInfoProto,
    outputs: Sequence[onnx.ValueInfoProto],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "toy", [image], list(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if metadata:
        helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path
