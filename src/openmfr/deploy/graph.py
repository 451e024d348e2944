"""A backbone as an ONNX graph: bytes of an aligned face in, unit embedding out.

PyTorch's newer exporter (`dynamo=True`) writes the graph. The older one knows no antialiased
resize, which is a part of what a backbone was trained behind. The newer one folds batch norms into
the convolutions before them, too. What it leaves behind for people who debug it, with paths of this
machine in it, is taken out here.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from openmfr.deploy.model import EMBEDDING, LENGTH
from openmfr.errors import UserError
from openmfr.models import to_input
from openmfr.version import __version__

#: The first version of ONNX that resizes with antialiasing; more runtimes know it than later ones.
OPSET = 18
#: Name of the graph's input.
IMAGE = "image"


class Recogniser(nn.Module):
    """A backbone with all that stands before and behind it in a program.

    Args:
        backbone: Maps float images (B, 3, size, size) to embeddings (B, D).
        input_size: The size that it takes.
    """

    def __init__(self, backbone: nn.Module, input_size: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.input_size = input_size

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Map faces, uint8 (B, S, S, 3), to unit embeddings (B, D) and their lengths (B,)."""
        # Contiguous, as the exporter spells out strides of other memory formats in the graph.
        inputs = to_input(image, self.input_size).contiguous()
        embedding = self.backbone(inputs).float()
        length = torch.linalg.vector_norm(embedding, dim=1)
        return embedding / length.unsqueeze(1), length


def to_onnx(backbone: nn.Module, *, input_size: int, face_size: int, name: str) -> onnx.ModelProto:
    """Write a backbone as an ONNX graph, with preprocessing and normalisation inside.

    Args:
        backbone: On the CPU, in evaluation mode.
        input_size: Height and width that it takes, in pixels.
        face_size: Height and width of the aligned faces that the graph takes.
        name: What the user calls the network, for errors.

    Returns:
        A graph from `image`, uint8 (B, S, S, 3), to `embedding`, float32 (B, D), of unit length,
        and `length`, float32 (B,), the length that it had before; for any B.

    Raises:
        UserError: If PyTorch cannot follow the network's code.
    """
    recogniser = Recogniser(backbone, input_size).eval()
    # Two images: a size of 1 would be taken for a constant.
    images = torch.zeros(2, face_size, face_size, 3, dtype=torch.uint8)
    with quiet():
        try:
            program = torch.onnx.export(
                recogniser,
                (images,),
                dynamo=True,
                dynamic_shapes={IMAGE: {0: torch.export.Dim("batch", min=1)}},
                input_names=[IMAGE],
                output_names=[EMBEDDING, LENGTH],
                opset_version=OPSET,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise _untraceable(name, error) from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    remove_notes(model, name="recogniser")
    return model


def replace_prelu(model: onnx.ModelProto) -> None:
    """Spell out every PReLU as slope · x + (1 − slope) · ReLU(x), in place; the same function.

    ONNX Runtime's own PReLU is not vectorised and takes its input out of the layout of its
    convolutions: it is two thirds of a MobileFaceNet's time and a sixth of an IResNet-50's.
    Multiplications by a constant stay in that layout.

    Args:
        model: Changed in place; a PReLU whose slope is computed is left as it is.
    """
    slopes = {entry.name: entry for entry in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.op_type != "PRelu" or node.input[1] not in slopes:
            nodes.append(node)
            continue
        x, slope, out = node.input[0], node.input[1], node.output[0]
        rest = f"{slope}.rest"
        if rest not in slopes:
            values = numpy_helper.to_array(slopes[slope])
            slopes[rest] = numpy_helper.from_array(np.asarray(1 - values, values.dtype), rest)
            model.graph.initializer.append(slopes[rest])
        nodes += [
            helper.make_node("Relu", [x], [f"{out}.relu"], f"{node.name}.relu"),
            helper.make_node("Mul", [x, slope], [f"{out}.sloped"], f"{node.name}.sloped"),
            helper.make_node("Mul", [f"{out}.relu", rest], [f"{out}.rest"], f"{node.name}.rest"),
            helper.make_node("Add", [f"{out}.sloped", f"{out}.rest"], [out], f"{node.name}.add"),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def remove_notes(model: onnx.ModelProto, *, name: str) -> None:
    """Take out what helps to debug the exporter: source lines, paths, and names of its passes.

    Args:
        model: Changed in place.
        name: What to call the graph.
    """
    graph = model.graph
    for part in chain(
        [model, graph], graph.node, graph.initializer, graph.input, graph.output, graph.value_info
    ):
        del part.metadata_props[:]
        part.doc_string = ""
    graph.name = name
    model.producer_name, model.producer_version = "openmfr", __version__


@contextmanager
def quiet() -> Iterator[None]:
    """Keep exporter and quantizer from talking of their own affairs, to loggers and as warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _untraceable(name: str, error: Exception) -> UserError:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = str(cause).strip().splitlines()
    return UserError(
        where=f"network {name}",
        found=f"code that PyTorch cannot turn into a graph ({lines[0] if lines else cause!r})",
        allowed="a forward pass that does the same for every image and any number of them",
        next_step="take branches on values, and fixed numbers of images, out of its forward",
    )
