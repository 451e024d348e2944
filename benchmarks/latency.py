"""One face, one thread: the same network in PyTorch, ONNX Runtime and OpenVINO, float32 and int8.

The baseline is what a user has without us: the graph as PyTorch exports it, in ONNX Runtime, in
float32. Ours has its PReLUs spelled out, which is faster there; int8 is made from that one.

Random weights, as time does not depend on them; IResNet-50, and IResNet-100 without `--quick`. All
take a uint8 face and give an embedding, preprocessing included, and run in turn in one process. CPU
seconds of that process, as the machine may be busy: with one thread they are the time on an idle
one, but for what neighbours do to its caches. OpenVINO is measured where it is installed.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import tempfile
import time
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
from reporting import Row, arguments, paired, report
from torch import Tensor, nn

from openmfr.checkpoint.embedder import embed_batch
from openmfr.deploy.engine import open_engine
from openmfr.deploy.graph import replace_prelu, to_onnx
from openmfr.deploy.quantize import quantize
from openmfr.models import BackboneConfig, build_backbone, to_input

SIZE = 112
BASELINE = "ONNX Runtime float32"
#: How many times faster than ONNX Runtime in float32.
STATIC_GOAL, OPENVINO_GOAL = 2.5, 3.5
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
    replace_prelu(network)
    onnx.save(network, float32)
    onnx.save(quantize(network, [pictures]), static)
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
        "ONNX Runtime float32, PReLU spelled out": in_runtime(float32, "onnxruntime"),
        "ONNX Runtime dynamic int8": in_runtime(dynamic, "onnxruntime"),
        "ONNX Runtime static int8": in_runtime(static, "onnxruntime"),
    }
    if importlib.util.find_spec("openvino"):
        work["OpenVINO float32"] = in_runtime(float32, "openvino")
        work["OpenVINO static int8"] = in_runtime(static, "openvino")
    return work


def rate(work: Work, count: int) -> float:
    """Faces per CPU second of this process, all its threads."""
    start = time.process_time()
    for _ in range(count):
        work()
    return count / (time.process_time() - start)


def measure(name: str, folder: Path, *, repeats: int, count: int) -> list[Row]:
    """Run all forms of a network in turn; compare each with ONNX Runtime in float32."""
    forms = prepare(name, folder)
    for work in forms.values():
        rate(work, 2)
    runs = [{form: rate(work, count) for form, work in forms.items()} for _ in range(repeats)]
    goals = {"ONNX Runtime static int8": STATIC_GOAL, "OpenVINO static int8": OPENVINO_GOAL}
    return [
        paired(
            f"{name}, {form} against {BASELINE}",
            [(run[form], run[BASELINE]) for run in runs],
            unit="faces/CPU s",
            goal=goals.get(form),
        )
        for form in forms
        if form != BASELINE
    ]


def main() -> None:
    options = arguments(__doc__ or "")
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # of the quantizer, about every layer that it leaves
    repeats, count = (3, 3) if options.quick else (12, 10)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("iresnet50",) if options.quick else ("iresnet50", "iresnet100"):
            rows += measure(name, Path(folder), repeats=repeats, count=count)
    report("latency", rows, json_path=options.json)


if __name__ == "__main__":
    main()
