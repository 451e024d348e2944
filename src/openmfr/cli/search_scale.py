"""`openmfr search scale`: an architecture and a target → the same, larger or smaller."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from openmfr.models.ridnet import Architecture


def main(
    architecture: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="ARCHITECTURE")],
    out: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="OUT")] = None,
    *,
    macs: float | None = None,
    params: float | None = None,
    limit_ms: float | None = None,
    threads: int = 1,
    size: int | None = None,
    resolution: bool = False,
    table: Path = Path("latency-table"),
    seed: int | None = None,
    log: str | None = None,
) -> None:
    """Scale a RIDNet to a number of multiply-adds, with or without parameters, or to a latency.

    Example: openmfr search scale ridnet_xs small.json --macs 0.5e9

    The paper's middle size: openmfr search scale ridnet_xs m.json --macs 30.85e9 --params 161e6

    By latency: openmfr search scale ridnet_xs fast.json --limit-ms 20 --threads 1

    Found on small images, for larger ones: openmfr search scale found/best.json out.json --macs 1e9
    --size 112

    Its blocks stay what they are; their number, their widths, and with --resolution the input's
    size change. Multiply-adds and parameters are met within 2 %, from the image to the embedding. A
    latency is predicted from single layers, which are measured here and kept in --table: measure
    the result with openmfr latency.

    Args:
        architecture: JSON file, or the name of a network that comes with openmfr: ridnet_tiny,
            ridnet_xs, ridnet_s, ridnet_m, ridnet_l.
        out: JSON file to write; left out, the result is only shown.
        macs: Multiply-adds of one image, as 5.34e9.
        params: Parameters, beside --macs.
        limit_ms: Longest time of one image in ONNX Runtime, in milliseconds.
        threads: How many compute it.
        size: Height and width in pixels of the images that the result is for; by default those that
            ARCHITECTURE is for.
        resolution: Let the images grow or shrink with the rest.
        table: Folder for measured layers; only --limit-ms needs it.
        seed: Of the search that found the architecture, for the file.
        log: File that says how that search went, for the file.
    """
    from openmfr.models.ridnet import Definition, Origin, load_definition, write_definition
    from openmfr.search.latency import LatencyTable
    from openmfr.search.parts import cost_of
    from openmfr.search.scale import Target, scale

    base = load_definition(architecture)
    start = base.architecture
    target = Target(macs=macs, params=params, latency_ms=limit_ms)
    latencies = LatencyTable(folder=table, threads=threads)
    found = scale(
        start if size is None else replace(start, input_size=size),
        target,
        predict_ms=latencies.predict,
        is_resolution_scaled=resolution,
    )
    print(_drawing(found))
    print(cost_of(found))
    if limit_ms is not None:
        print(f"predicted {latencies.predict(found):.1f} ms")
    if out is not None:
        origin = Origin(
            command=f"openmfr {shlex.join(sys.argv[1:])}",
            seed=base.origin.seed if seed is None else seed,
            log=base.origin.log if log is None else log,
        )
        write_definition(out, Definition(architecture=found, origin=origin))
        print(f"written to {out}")


def _drawing(architecture: Architecture) -> str:
    """Lines of text, one for each part of a network and its feature map."""
    size = architecture.input_size // architecture.stem_stride
    lines = [f"{size:>4} × {size:<4} stem     {architecture.stem} channels"]
    for number, stage in enumerate(architecture.stages, start=1):
        size = -(-size // 2)
        count = "1 block" if stage.depth == 1 else f"{stage.depth} blocks"
        shape = f"{count} of {stage.channels} channels, {stage.width} within"
        lines.append(f"{size:>4} × {size:<4} stage {number}  {shape}")
        lines += [f"{'':22}{block}" for block in stage.pattern]
    lines.append(f"{size:>4} × {size:<4} neck     {architecture.neck} channels")
    return "\n".join(lines)
