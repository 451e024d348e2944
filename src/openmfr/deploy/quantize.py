"""A float32 graph → one whose convolutions and matrix products compute in eight bits.

What stays in float32, as measured with ONNX Runtime on one thread:

- all that comes before the second layer: normalisation, and the first convolution, whose three
  channels are slower in int8 (IResNet-50: 3 ms of 55);
- depth-wise convolutions: in int8 they are slower and cost most of the accuracy (a MobileFaceNet's
  median cosine to float32 is 0.991 with them in int8 and 0.997 without);
- activations other than ReLU, products with constants, and batch norms that stand alone;
- the output of the embedding's linear layer, whose weights are int8: an embedding of bytes would be
  coarser than what led to it.

Attention (of a RIDNet, of squeeze and excitation) becomes bytes too: maps are averaged and weighed
as they are, and need not become floats for it and bytes again. A RIDNet-S takes 0.32 of its time in
float32 so, and 0.37 with its attention in float32, at the same cosine.

Weights have a scale for each output channel, activations one for the tensor (see `ranges`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from openmfr.deploy.graph import quiet
from openmfr.deploy.ranges import find_ranges
from openmfr.errors import UserError

UInt8Array = npt.NDArray[np.uint8]

#: Layers that hold nearly all of the arithmetic.
_LAYERS = ("Conv", "Gemm", "MatMul")
#: What computes in int8, so that what flows between these layers stays bytes.
_QUANTIZED = (*_LAYERS, "Add", "Mul", "Relu", "GlobalAveragePool")
#: Layers whose output stays float32.
_FLOAT_OUTPUT = ("Gemm", "MatMul")


def quantize(model: onnx.ModelProto, batches: Sequence[UInt8Array]) -> onnx.ModelProto:
    """Turn a graph's layers to int8, with ranges found on calibration images.

    Args:
        model: A float32 graph of `graph.to_onnx`; not changed.
        batches: Calibration images, uint8 (B, S, S, 3) each.

    Returns:
        A graph with the same input and outputs.

    Raises:
        UserError: If there is nothing in the graph to quantize.
    """
    model = with_pools(model)
    left_out = _float_nodes(model)
    chosen = [
        node
        for node in model.graph.node
        if node.op_type in _QUANTIZED and node.name not in left_out
    ]
    if not any(node.op_type in _LAYERS for node in chosen):
        raise UserError(
            where="--int8",
            found="a network without a second convolution or matrix product",
            allowed="networks whose layers int8 makes faster",
            next_step="export it in float32",
        )
    ranges = find_ranges(model, _tensors(model, chosen), batches)
    overrides = {
        name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
        for name, (low, high) in ranges.items()
    }
    with TemporaryDirectory() as folder, quiet():
        source, path = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        onnx.save(_marked(model), source)
        quantize_static(
            source,
            path,
            # Every range is given below; one image tells the tool which tensors there are.
            _Reader(model.graph.input[0].name, [batches[0][:1]]),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTIZED),
            nodes_to_exclude=sorted(left_out),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={
                "TensorQuantOverrides": overrides,
                "OpTypesToExcludeOutputQuantization": list(_FLOAT_OUTPUT),
                "MatMulConstBOnly": True,
                "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
            },
        )
        quantized: onnx.ModelProto = onnx.load(path)
    del quantized.metadata_props[:]
    quantized.producer_name, quantized.producer_version = (
        model.producer_name,
        model.producer_version,
    )
    return quantized


def with_pools(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a graph and call every mean over a map's height and width what it is: the same numbers.

    ONNX Runtime averages bytes in GlobalAveragePool, and not in ReduceMean.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    constants = {entry.name: entry for entry in model.graph.initializer}
    ranks = {entry.name: len(entry.type.tensor_type.shape.dim) for entry in model.graph.value_info}
    for node in changed.graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in constants:
            continue
        axes = sorted(axis % 4 for axis in numpy_helper.to_array(constants[node.input[1]]).tolist())
        keeps_rank = all(entry.i for entry in node.attribute if entry.name == "keepdims")
        if ranks.get(node.input[0]) == 4 and axes == [2, 3] and keeps_rank:
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]
    used = {name for node in changed.graph.node for name in node.input}
    for unused in [entry for entry in changed.graph.initializer if entry.name not in used]:
        changed.graph.initializer.remove(unused)  # ONNX Runtime would warn of it
    return changed


def _float_nodes(model: onnx.ModelProto) -> set[str]:
    """Names of the nodes that stay in float32.

    All up to the first layer, depth-wise ones, and products with constants.
    """
    shapes = {entry.name: tuple(entry.dims) for entry in model.graph.initializer}
    nodes = list(model.graph.node)
    first = next((i for i, node in enumerate(nodes) if node.op_type in _LAYERS), len(nodes))
    names = {node.name for node in nodes[: first + 1]}
    for node in nodes:
        if node.op_type == "Mul" and not shapes.keys().isdisjoint(node.input):
            names.add(node.name)
        if node.op_type == "Conv":
            weight = shapes.get(node.input[1], ())
            is_depthwise = len(weight) > 1 and weight[0] > 1 and weight[1] == 1
            if is_depthwise:
                names.add(node.name)
    return names


def _tensors(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> list[str]:
    """Names of the activations that go into and come out of nodes."""
    constants = {entry.name for entry in model.graph.initializer}
    found = chain.from_iterable(
        [*node.input[:2], *([] if node.op_type in _FLOAT_OUTPUT else node.output)] for node in nodes
    )
    return [name for name in dict.fromkeys(found) if name not in constants]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands batches to the quantizer."""

    def __init__(self, name: str, batches: Iterable[UInt8Array]) -> None:
        self._feeds = iter([{name: batch} for batch in batches])

    def get_next(self) -> dict[str, UInt8Array] | None:
        return next(self._feeds, None)


def _marked(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a graph and say in it that it is optimised, as the quantizer asks in a warning."""
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    marked.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    return marked
