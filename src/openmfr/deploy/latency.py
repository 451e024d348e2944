"""How long an ONNX network takes and what memory it needs, in a process of its own.

Everything is measured in a fresh process, so that nothing else of the caller's is counted. The
times are the wall clock's, one call after the other; CPU time stands beside them and tells, where
it is much smaller, that the machine was busy. Memory is the process's largest resident set: Python,
the runtime, the weights and what lies between the layers. On a GPU its own memory is not counted.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from openmfr.deploy.engine import (
    PROVIDERS,
    Engine,
    OnnxRuntime,
    Port,
    Runtime,
    choose_providers,
    open_engine,
)
from openmfr.deploy.input_spec import InputSpec, Pixels
from openmfr.deploy.model import OnnxModel
from openmfr.deploy.runtime import Recognizer
from openmfr.errors import UserError, raise_together
from openmfr.faces.photo import PhotoError, read_file

#: Calls before the first that counts: memory is asked for, and layers choose their kernels.
WARM_UP: Final = 5

_MIB: Final = 2**20


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    """What is measured.

    Attributes:
        threads: How many compute one call.
        batch: Images in each call.
        runs: Calls that count.
        device: "cpu" or "cuda".
        runtime: What runs the network.
        photo: Measure from this photo's bytes to the embedding of its largest central face, in
            place of the network alone.
        spec: What the network's input means; only a photo needs it, for files of others.
        is_profiled: Also measure every layer, in calls of their own.
    """

    threads: int = 1
    batch: int = 1
    runs: int = 100
    device: Literal["cpu", "cuda"] = "cpu"
    runtime: Runtime = "onnxruntime"
    photo: Path | None = None
    spec: Pixels | None = None
    is_profiled: bool = False

    def __post_init__(self) -> None:
        raise_together(
            [
                UserError(
                    where=name,
                    found=str(getattr(self, name)),
                    allowed="from 1",
                    next_step="leave it out",
                )
                for name in ("threads", "batch", "runs")
                if getattr(self, name) < 1
            ]
            + [
                UserError(
                    where=name,
                    found=str(getattr(self, name)),
                    allowed=" or ".join(allowed),
                    next_step="choose one of them",
                )
                for name, allowed in (("device", tuple(PROVIDERS)), ("runtime", get_args(Runtime)))
                if getattr(self, name) not in allowed
            ]
            + self._contradictions()
        )

    def _contradictions(self) -> list[UserError]:
        faults = []
        if self.photo is not None and self.batch != 1:
            faults.append(_contradiction("batch", "a batch with a photo", "one photo at a time"))
        if self.is_profiled and self.runtime != "onnxruntime":
            allowed = "profiles of ONNX Runtime"
            faults.append(_contradiction("profile", f"a profile of {self.runtime}", allowed))
        if self.runtime != "onnxruntime" and self.device != "cpu":
            found = f"{self.runtime} on {self.device}"
            faults.append(_contradiction("runtime", found, f"{self.runtime} on the CPU"))
        return faults


@dataclass(frozen=True, kw_only=True)
class LayerTime:
    """One layer of a network.

    Attributes:
        name: In the graph, as the runtime has rewritten it.
        kind: Its operator.
        latency_ms: Median.
        share: Of all layers' time, 0–1.
    """

    name: str
    kind: str
    latency_ms: float
    share: float


@dataclass(frozen=True, kw_only=True)
class Latency:
    """What was measured.

    Attributes:
        runs_ms: Wall time of each call.
        cpu_ms: CPU time of each call, of all threads.
        parts_ms: Median of each step from photo to embedding; empty without a photo.
        memory_mib: Largest resident set of the process.
        model_mib: How far it grew since before the network was opened; with a photo, since before
            the detector was loaded too.
        file_mib: The ONNX file.
        layers: The slowest first; empty without a profile.
    """

    runs_ms: tuple[float, ...]
    cpu_ms: tuple[float, ...]
    parts_ms: Mapping[str, float]
    memory_mib: float
    model_mib: float
    file_mib: float
    layers: tuple[LayerTime, ...]

    @property
    def median_ms(self) -> float:
        """Median wall time of a call."""
        return statistics.median(self.runs_ms)

    @property
    def p99_ms(self) -> float:
        """Wall time within which 99 of 100 calls end; the longest, of fewer than 100."""
        return float(np.percentile(self.runs_ms, 99, method="inverted_cdf"))

    @property
    def median_cpu_ms(self) -> float:
        """Median CPU time of a call."""
        return statistics.median(self.cpu_ms)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        medians = {name: getattr(self, name) for name in ("median_ms", "p99_ms", "median_cpu_ms")}
        plain: dict[str, Any] = json.loads(json.dumps(medians | asdict(self)))
        return plain


def measure_latency(model: Path, config: LatencyConfig) -> Latency:
    """Measure a network in a process of its own, which imports the caller's main module.

    A script therefore calls this below `if __name__ == "__main__":`.

    Args:
        model: ONNX file.
        config: What to measure.

    Raises:
        UserError: If the file, the device or the photo cannot be used.
    """
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            return pool.submit(_measure, model, config).result()
    except BrokenProcessPool as error:
        raise UserError(
            where=str(model),
            found="a process that died while it measured: killed, or out of memory",
            allowed="a network that runs here",
            next_step="try a smaller batch",
        ) from error


def _measure(model: Path, config: LatencyConfig) -> Latency:
    before = _memory_mib("VmRSS")
    work = _photo_work(model, config) if config.photo else _network_work(model, config)
    runs = [_timed(work) for _ in range(WARM_UP + config.runs)][WARM_UP:]
    peak = _memory_mib("VmHWM")
    steps = runs[0][2]
    return Latency(
        runs_ms=tuple(wall for wall, _, _ in runs),
        cpu_ms=tuple(cpu for _, cpu, _ in runs),
        parts_ms={step: statistics.median(parts[step] for _, _, parts in runs) for step in steps},
        memory_mib=peak,
        model_mib=peak - before,
        file_mib=model.stat().st_size / _MIB,
        layers=_profile(model, config) if config.is_profiled else (),
    )


def _timed(work: Callable[[], Mapping[str, float]]) -> tuple[float, float, Mapping[str, float]]:
    """Wall and CPU milliseconds of one call, and of its steps."""
    start, cpu_start = time.perf_counter(), time.process_time()
    parts = work()
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    return wall * 1e3, cpu * 1e3, parts


def _network_work(model: Path, config: LatencyConfig) -> Callable[[], Mapping[str, float]]:
    """Prepare calls of the network on noise."""
    engine = open_engine(
        model,
        runtime=config.runtime,
        threads=config.threads,
        providers=choose_providers(config.device),
    )
    batch = _noise(model, engine, config)

    def work() -> Mapping[str, float]:
        engine.run(batch)
        return {}

    return work


def _photo_work(model: Path, config: LatencyConfig) -> Callable[[], Mapping[str, float]]:
    """Prepare calls from a photo's bytes to an embedding; the steps are timed one by one."""
    assert config.photo is not None
    recognizer = Recognizer(
        OnnxModel(
            model,
            spec=config.spec,
            threads=config.threads,
            providers=choose_providers(config.device),
            runtime=config.runtime,
        )
    )
    try:
        encoded = read_file(config.photo)
        recognizer.embed(encoded)
    except PhotoError as error:
        raise UserError(
            where=str(config.photo),
            found=str(error),
            allowed="a photo with a face",
            next_step="choose another photo",
        ) from error

    def work() -> Mapping[str, float]:
        marks = [time.perf_counter()]
        pixels = recognizer.read(encoded)
        marks.append(time.perf_counter())
        face, _ = recognizer.detect_one(pixels)
        marks.append(time.perf_counter())
        aligned = recognizer.align(pixels, [face])
        marks.append(time.perf_counter())
        recognizer.embed_aligned(aligned, [face])
        marks.append(time.perf_counter())
        steps = ("read", "detect", "align", "embed")
        return {step: 1e3 * float(np.diff(marks)[i]) for i, step in enumerate(steps)}

    return work


def _noise(model: Path, engine: Engine, config: LatencyConfig) -> npt.NDArray[Any]:
    """Make a batch of noise in the shape that the network takes; times do not depend on pixels."""
    port = engine.inputs[0]
    shape = _shape(model, port, config)
    rng = np.random.default_rng(0)
    if port.dtype == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.standard_normal(shape).astype(port.dtype)


def _shape(model: Path, port: Port, config: LatencyConfig) -> tuple[int, ...]:
    fixed, *edges = port.shape
    if fixed not in (None, config.batch):
        raise UserError(
            where="batch",
            found=str(config.batch),
            allowed=f"{fixed}, which {model} is made for",
            next_step=f"give --batch {fixed}",
        )
    if isinstance(config.spec, InputSpec):
        return (config.batch, *config.spec.shape)
    known = [size for size in edges if size is not None]
    if len(known) < len(edges):
        raise UserError(
            where=str(model),
            found=f"input {port}",
            allowed="a known height and width",
            next_step="declare them in a JSON file: --input input.json",
        )
    return (config.batch, *known)


def _profile(model: Path, config: LatencyConfig) -> tuple[LayerTime, ...]:
    """Run the network with ONNX Runtime's profiler; a photo's network runs on noise too."""
    with tempfile.TemporaryDirectory() as folder:
        engine = OnnxRuntime(
            model,
            threads=config.threads,
            providers=choose_providers(config.device),
            profile=Path(folder) / "profile",
        )
        batch = _noise(model, engine, config)
        for _ in range(WARM_UP + config.runs):
            engine.run(batch)
        events = json.loads(engine.end_profile().read_text(encoding="utf-8"))
    return layers_of(events)


def layers_of(events: Sequence[Mapping[str, Any]]) -> tuple[LayerTime, ...]:
    """Read the times of layers from ONNX Runtime's trace.

    Args:
        events: The trace: one event for each call of a layer's kernel, and others.

    Returns:
        The layers, the slowest first.

    Example:
        >>> events = [
        ...     {"name": f"{name}_kernel_time", "dur": dur, "args": {"op_name": "Conv"}}
        ...     for name, dur in (("a", 1000), ("b", 3000), ("a", 1000))
        ... ]
        >>> [(layer.name, layer.latency_ms, layer.share) for layer in layers_of(events)]
        [('b', 3.0, 0.75), ('a', 1.0, 0.25)]
    """
    suffix = "_kernel_time"
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event["name"].endswith(suffix):
            key = event["name"].removesuffix(suffix), event["args"]["op_name"]
            found[key].append(event["dur"] / 1e3)
    medians = {key: statistics.median(times) for key, times in found.items()}
    total = sum(medians.values()) or 1.0
    layers = [
        LayerTime(name=name, kind=kind, latency_ms=median, share=median / total)
        for (name, kind), median in medians.items()
    ]
    return tuple(sorted(layers, key=lambda layer: layer.latency_ms, reverse=True))


def _memory_mib(line: str) -> float:
    """This process's memory in MiB: "VmRSS", now, or "VmHWM", at most so far.

    Not getrusage's maximum where Linux offers better: a process inherits its parent's.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / (_MIB if sys.platform == "darwin" else 2**10)
    (size,) = (row.split()[1] for row in status.splitlines() if row.startswith(f"{line}:"))
    return int(size) / 2**10


def _contradiction(where: str, found: str, allowed: str) -> UserError:
    return UserError(where=where, found=found, allowed=allowed, next_step="leave one of them out")
