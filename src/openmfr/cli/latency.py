"""`openmfr latency`: time and memory of an ONNX network, and whether limits hold."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from openmfr.cli.recognizing import Declared, Runtime

if TYPE_CHECKING:
    from openmfr.deploy.latency import Latency, LatencyConfig

#: Exit code when a limit does not hold.
EXIT_LIMIT = 1

_LAYERS_SHOWN = 20


def main(
    model: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MODEL")],
    *,
    threads: int = 1,
    limit_ms: float | None = None,
    limit_mb: float | None = None,
    photo: Path | None = None,
    batch: int = 1,
    runs: int = 100,
    profile: bool = False,
    device: Literal["cpu", "cuda"] = "cpu",
    runtime: Runtime = "onnxruntime",
    declared: Declared = None,
    json: bool = False,
) -> None:
    """Measure an ONNX file in a process of its own: median and 99th percentile, and peak memory.

    Example: openmfr latency model.onnx --threads 1 --limit-ms 1000 --limit-mb 1024

    From photo to embedding: openmfr latency model.onnx --photo photo.jpg --limit-ms 1000

    Exit code 0 if every limit holds, 1 if one does not, 2 for a mistake. A checkpoint is no ONNX
    file: export it first.

    Args:
        model: ONNX file.
        threads: How many compute one call.
        limit_ms: Milliseconds within which 99 of 100 calls must end.
        limit_mb: MiB that the process may take at its peak: Python, runtime, weights, layers.
        photo: Measure reading, detection, alignment and embedding of this photo, not the network
            alone.
        batch: Images in each call.
        runs: Calls that count, after a few to warm up.
        profile: Also measure every layer, with ONNX Runtime's profiler.
        device: cpu, or cuda where ONNX Runtime has it.
        runtime: What runs the network; openvino must be installed, and computes on the CPU.
        declared: For --photo with a file that openmfr did not write: COLOR,MEAN,STD, such as
            RGB,127.5,127.5, or a JSON file.
        json: Print all of it as JSON.
    """
    from openmfr.deploy.input_spec import read_input
    from openmfr.deploy.latency import LatencyConfig, measure_latency

    config = LatencyConfig(
        threads=threads,
        batch=batch,
        runs=runs,
        device=device,
        runtime=runtime,
        photo=photo,
        spec=read_input(declared) if declared else None,
        is_profiled=profile,
    )
    found = measure_latency(model, config)
    limits = {"ms": (found.p99_ms, limit_ms), "MiB": (found.memory_mib, limit_mb)}
    broken = [unit for unit, (size, limit) in limits.items() if limit is not None and size > limit]
    if json:
        about = {"model": str(model), "limit_ms": limit_ms, "limit_mb": limit_mb}
        print(json_format.dumps(about | {"holds": not broken} | found.to_dict()))
    else:
        _print(model, found, config, limit_ms=limit_ms, limit_mb=limit_mb)
    if broken:
        raise SystemExit(EXIT_LIMIT)


def _print(
    model: Path,
    found: Latency,
    config: LatencyConfig,
    *,
    limit_ms: float | None,
    limit_mb: float | None,
) -> None:
    threads = "1 thread" if config.threads == 1 else f"{config.threads} threads"
    what = f"photo {config.photo}" if config.photo else f"batches of {config.batch}"
    print(f"{model}: {config.runtime} on {config.device}, {threads}, {what}, {config.runs} runs")
    time = f"median {found.median_ms:.1f} ms, 99 % within {found.p99_ms:.1f} ms"
    print(f"time               {time}{_verdict(found.p99_ms, limit_ms, 'ms')}")
    for step, median in found.parts_ms.items():
        print(f"  {step:<16} median {median:.1f} ms")
    print(f"CPU time           median {found.median_cpu_ms:.1f} ms")
    memory = f"{found.memory_mib:.0f} MiB at the peak of the whole process"
    print(f"memory             {memory}{_verdict(found.memory_mib, limit_mb, 'MiB')}")
    print(f"  of it            {found.model_mib:.0f} MiB since before the model was opened")
    print(f"file               {found.file_mib:.1f} MiB")
    for layer in found.layers[:_LAYERS_SHOWN]:
        print(f"{layer.latency_ms:9.3f} ms {layer.share:6.1%}  {layer.kind:<20} {layer.name}")
    if len(found.layers) > _LAYERS_SHOWN:
        rest = found.layers[_LAYERS_SHOWN:]
        total, share = sum(r.latency_ms for r in rest), sum(r.share for r in rest)
        print(f"{total:9.3f} ms {share:6.1%}  {len(rest)} others; --json lists them")


def _verdict(found: float, limit: float | None, unit: str) -> str:
    if limit is None:
        return ""
    return f"; limit {limit:g} {unit}: {'holds' if found <= limit else 'DOES NOT HOLD'}"
