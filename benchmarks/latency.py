"""One face, one thread: the same network in PyTorch, ONNX Runtime and OpenVINO, float32 and int8.

The baseline is what a user has without us: the graph as PyTorch exports it, in ONNX Runtime, in
float32. Ours has its PReLUs spelled out, which is faster there, also in int8; they are made as
`openmfr export` makes them.

Random weights, as time does not depend on them; IResNet-50 and RIDNet-XS with `--quick`, or else
IResNet-50, IResNet-100 and RIDNet-M. All take a uint8 face and give an embedding, preprocessing
included, and run in turn in one process. CPU seconds of that process, as the machine may be busy:
with one thread they are the time on an idle one, but for what neighbours do to its caches. OpenVINO
is measured where it is installed.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread, whatever the libraries would choose; before they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from reporting import Row, arguments, paired, rate, report
from torch import Tensor, nn

from openmfr.checkpoint.embedder import embed_batch
from openmfr.deploy.engine import open_engine
from openmfr.deploy.graph import replace_prelu, to_onnx
from openmfr.deploy.quantize import quantize
from openmfr.models import BackboneConfig, build_backbone, to_input

SIZE = 112
BASELINE = "ONNX Runtime float32"
SPELLED_OUT, STATIC = "ONNX Runtime float32, PReLU spelled out", "ONNX Runtime static int8"
#: Network and form: how many times faster than ONNX Runtime in float32.
GOALS = {
    ("iresnet50", STATIC): 2.5,
    ("iresnet50", "OpenVINO static int8"): 3.5,
    ("iresnet100", STATIC): 2.5,
    ("iresnet100", "OpenVINO static int8"): 3.5,
    ("ridnet_m", STATIC): 1 / 0.45,  # many small layers, and attention
}
#: Pictures for ranges and statistics.
CALIBRATION = 8

Work = Callable[[], object]


def settle(backbone: nn.Module, images: Tensor) -> None:
    """Give batch norms the statistics that training would: else deep activations overflow."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches, of which there is one
    with torch.no_grad():
        backbone.train()(to_input(images, SIZE))
    backbone.eval()


def soft_pictures(count: int) -> npt.NDArray[np.uint8]:
    """Random faces' stand-ins, uint8 (B, 112, 112, 3), soft as they are."""
    small = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return small.repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)


def prepare(name: str, folder: Path) -> dict[str, Work]:
    """Make all forms of a network; return one call of each."""
    torch.manual_seed(0)
    backbone = build_backbone(BackboneConfig(name=name))
    pictures = soft_pictures(CALIBRATION)
    settle(backbone, torch.from_numpy(pictures))
    plain, float32, static, dynamic = (
        folder / f"{name}.{kind}.onnx" for kind in ("plain", "float32", "static", "dynamic")
    )
    network = to_onnx(backbone, input_size=SIZE, face_size=SIZE, name=name)
    onnx.save(network, plain)
    int8 = quantize(network, [pictures])
    for made, path in ((network, float32), (int8, static)):
        replace_prelu(made)
        onnx.save(made, path)
    quantize_dynamic(float32, dynamic, weight_type=QuantType.QUInt8)
    face = pictures[:1]
    images = torch.from_numpy(face)

    def in_torch() -> object:
        return embed_batch(backbone, images, input_size=SIZE, precision="float32")

    def in_runtime(path: Path, runtime: Any) -> Work:
        engine = open_engine(path, runtime=runtime, threads=1, providers=None)
        return lambda: engine.run(face)

    work = {
        "PyTorch float32": in_torch,
        BASELINE: in_runtime(plain, "onnxruntime"),
        SPELLED_OUT: in_runtime(float32, "onnxruntime"),
        "ONNX Runtime dynamic int8": in_runtime(dynamic, "onnxruntime"),
        STATIC: in_runtime(static, "onnxruntime"),
    }
    if "ridnet" in name:
        del work[SPELLED_OUT]  # it has none
    if importlib.util.find_spec("openvino"):
        work["OpenVINO float32"] = in_runtime(float32, "openvino")
        work["OpenVINO static int8"] = in_runtime(static, "openvino")
    return work


def measure(name: str, folder: Path, *, repeats: int, count: int) -> list[Row]:
    """Run all forms of a network in turn; compare each with ONNX Runtime in float32."""
    forms = prepare(name, folder)
    for work in forms.values():
        rate(work, 2)
    runs = [{form: rate(work, count) for form, work in forms.items()} for _ in range(repeats)]
    return [
        paired(
            f"{name}, {form} against {BASELINE}",
            [(run[form], run[BASELINE]) for run in runs],
            unit="faces/CPU s",
            goal=GOALS.get((name, form)),
        )
        for form in forms
        if form != BASELINE
    ]


def main() -> None:
    options = arguments(__doc__ or "")
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # of the quantizer, about every layer that it leaves
    names = ("iresnet50", "ridnet_xs") if options.quick else ("iresnet50", "iresnet100", "ridnet_m")
    repeats, count = (3, 2) if options.quick else (5, 4)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            rows += measure(name, Path(folder), repeats=repeats, count=count)
    report("latency", rows, json_path=options.json)


if __name__ == "__main__":
    main()
