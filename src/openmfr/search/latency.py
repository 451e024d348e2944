"""How long a network takes that nobody has built: its parts are measured once and added up.

A network of the space is a sum of parts, and the parts come back: for each feature map size and
width there are 42 paths, a frame for each number of paths, and few entries and heads. Each is run
alone in ONNX Runtime, with its profiler on: what counts is the time inside its layers, of each the
lower quartile over calls, as other work on the machine only ever adds. Reordering of the part's own
input and output is left out, as it does not take place inside a network.

A part is opened several times and the best time counts, for the same reason and for another: where
a layer's buffers happen to lie in memory decides, too. A 7 × 7 kernel with 16 output channels takes
2.6 or 7 ms, the same for all calls of one session and another one in the next. What no table can
predict is where they will lie in the network.

Between calls the caches are swept with other data, as all other layers of a network would.
"""

from __future__ import annotations

import json
import platform
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from openmfr.deploy.engine import OnnxRuntime
from openmfr.deploy.graph import OPSET, quiet
from openmfr.errors import UserError
from openmfr.files import fingerprint, read_json, write_json
from openmfr.models.ridnet import Architecture
from openmfr.search.parts import FramePart, Part, parts_of

#: How often a part is opened.
_SESSIONS: Final = 3
#: Of a layer's times over calls.
_QUANTILE: Final = 0.25
#: Bytes that are read between calls: more than most processors' caches of one core.
_SWEPT: Final = 8 * 2**20


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Measured parts, on the disk: one small file each, so that many processes may add to it.

    Attributes:
        folder: Where they lie; other processors and versions of ONNX Runtime have folders of their
            own inside it.
        threads: How many compute one call.
        runs: Calls of a part each time that it is opened.
    """

    folder: Path
    threads: int = 1
    runs: int = 8
    _known: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("threads", "runs"):
            if getattr(self, name) < 1:
                raise UserError(
                    where=name,
                    found=str(getattr(self, name)),
                    allowed="from 1",
                    next_step="leave it out",
                )

    def predict(self, architecture: Architecture) -> float:
        """Predict a network's latency in milliseconds, for one image of its own input size.

        Parts that are not in the table are measured, which takes about a second each.
        """
        total = 0.0
        for part, times in parts_of(architecture):
            total += times * self.part_ms(part)
        return total

    def missing(self, architecture: Architecture) -> list[Part]:
        """Parts of a network that would have to be measured, each once."""
        parts = {part.fingerprint: part for part, _ in parts_of(architecture)}
        return [part for key, part in parts.items() if not self._path(key).exists()]

    def part_ms(self, part: Part) -> float:
        """Look a part's latency up in milliseconds; measure it if it is not there."""
        key = part.fingerprint
        if key not in self._known:
            path = self._path(key)
            if not path.exists():
                write_json(path, {"part": repr(part), "latency_ms": self._measure(part)})
            content = read_json(path, what="measured part", required=("latency_ms",))
            self._known[key] = float(content["latency_ms"])
        return self._known[key]

    def _measure(self, part: Part) -> float:
        whole = measure_module(
            part.build(), part.input_shape(), threads=self.threads, runs=self.runs
        )
        if isinstance(part, FramePart):  # it was built around paths, which count for themselves
            return max(whole - part.paths * self.part_ms(part.filling), 0.0)
        return whole

    def _path(self, key: str) -> Path:
        return self.folder / _machine(self.threads) / f"{key}.json"


def measure_module(
    module: nn.Module, shape: tuple[int, int, int], *, threads: int, runs: int
) -> float:
    """Measure the time inside the layers of a module in ONNX Runtime, in milliseconds.

    Args:
        module: Maps a feature map (1, *shape) to a tensor.
        shape: Channels, height and width.
        threads: How many compute one call.
        runs: Calls each time that it is opened.
    """
    features = np.random.default_rng(0).random((1, *shape), dtype=np.float32)
    with TemporaryDirectory() as folder:
        model = Path(folder) / "part.onnx"
        export_layers(module.eval(), torch.from_numpy(features), model)
        return min(
            inner_ms(_trace(model, features, threads=threads, runs=runs)) for _ in range(_SESSIONS)
        )


def _trace(
    model: Path, features: npt.NDArray[np.float32], *, threads: int, runs: int
) -> list[dict[str, Any]]:
    """Open a graph, call it with caches swept before each call, and read the profiler's events."""
    sweep = np.zeros(_SWEPT // 8)
    engine = OnnxRuntime(model, threads=threads, profile=model.with_suffix(".profile"))
    for _ in range(runs):
        sweep.sum()
        engine.run(features)
    profile = engine.end_profile()
    events: list[dict[str, Any]] = json.loads(profile.read_text(encoding="utf-8"))
    profile.unlink()
    return events


def inner_ms(events: Sequence[Mapping[str, Any]]) -> float:
    """Add up the layers of ONNX Runtime's trace, without reordering at either end.

    Args:
        events: The trace: an event for each call of a layer's kernel, in order, and others.

    Returns:
        The sum of each layer's lower quartile, in milliseconds.

    Example:
        >>> def event(name, kind, dur):
        ...     return {"name": f"{name}_kernel_time", "dur": dur, "args": {"op_name": kind}}
        >>> inner_ms([event("a", "ReorderInput", 500), event("b", "Conv", 2000)])
        2.0
    """
    times: dict[str, list[float]] = defaultdict(list)
    kinds: dict[str, str] = {}
    for event in events:
        if event["name"].endswith("_kernel_time"):
            times[event["name"]].append(event["dur"] / 1e3)
            kinds[event["name"]] = event["args"]["op_name"]
    for end in (next(iter(times)), next(reversed(times))):
        if kinds[end].startswith("Reorder"):
            times.pop(end, None)
    return float(sum(np.quantile(found, _QUANTILE) for found in times.values()))


def export_layers(module: nn.Module, example: torch.Tensor, path: Path) -> None:
    """Write a part, or a network, as ONNX by PyTorch's older exporter, twenty times as quick.

    ONNX Runtime makes the same layers of it as of what `openmfr export` writes; only preprocessing
    and normalisation are missing.
    """
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), str(path), dynamo=False, opset_version=OPSET)


def _machine(threads: int) -> str:
    """Identify what times depend on: processor, runtime, threads, and how they are measured."""
    import onnxruntime

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        processor = next((x for x in lines if x.startswith("model name")), processor)
    return fingerprint(processor, onnxruntime.__version__, str(threads), str(_SWEPT))
