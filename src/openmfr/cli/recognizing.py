"""What the commands that recognise faces share: the ONNX file that they are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from openmfr.deploy.model import OnnxModel

#: The flag --runtime.
Runtime = Literal["onnxruntime", "openvino"]
#: The flag --input.
Declared = Annotated[str | None, tyro.conf.arg(name="input", metavar="SPEC")]


def open_model(
    path: Path,
    *,
    declared: str | None,
    runtime: Runtime,
    providers: Sequence[str] | None = None,
) -> OnnxModel:
    """Open an ONNX file as the flags say.

    Args:
        path: The file.
        declared: What --input says of a file that openmfr did not write.
        runtime: What runs it.
        providers: Devices of ONNX Runtime; the CPU by default.
    """
    from openmfr.deploy.model import OnnxModel, read_input

    spec = read_input(declared) if declared else None
    return OnnxModel(path, spec=spec, runtime=runtime, providers=providers)
