"""RIDNets on one thread of ONNX Runtime, against others of their cost and the challenge's limits.

Two families. The shipped sizes at 112 × 112: S beside IResNet-50; M alone, with reading, detection
and alignment of a photo, which the challenge's second includes, and in int8. And the narrow ones of
`openmfr reproduce`, all of 64 million multiply-adds at 64 × 64, with the larger RIDNet of its
experiment `latency`.

Random weights, as time does not depend on them. All run in turn in one process; CPU seconds of that
process, as the machine may be busy: with one thread they are the time on an idle one, but for what
neighbours do to its caches. `--quick` leaves out M.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

# One thread, whatever the libraries would choose; before they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import torch
from latency import BASELINE, STATIC, Work, prepare
from photo import make_photo
from reporting import Row, arguments, paired, rate, report

from openmfr.deploy.engine import OnnxRuntime
from openmfr.deploy.model import InputSpec, OnnxModel
from openmfr.deploy.runtime import Recognizer
from openmfr.models import build_backbone
from openmfr.reproduce.catalogue import load_experiment
from openmfr.reproduce.tables import peers
from openmfr.search.latency import export_layers

#: The challenge's limit, network and all before it, and what the network alone may take of it.
WHOLE_MS, NETWORK_MS = 1_000.0, 750.0
#: What the times of S may be of IResNet-50's, and those of int8 of float32's.
SMALL_SHARE, INT8_SHARE = 0.85, 0.45
EQUAL = "RIDNet of equal time"
PHOTO = "ridnet_m, from a photo to the embedding"


class Network(OnnxModel):
    """A graph that takes uint8 faces, without the notes that `openmfr export` would add."""

    def __init__(self, path: Path) -> None:
        self.spec = InputSpec()
        self.engine = OnnxRuntime(path, threads=1)

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self.engine.run(images)[self.engine.outputs[0].name]


def shipped(folder: Path, *, is_quick: bool) -> dict[str, Work]:
    """One call of each shipped network and its forms."""
    work = {name: prepare(name, folder)[BASELINE] for name in ("iresnet50", "ridnet_s")}
    if is_quick:
        return work
    forms = prepare("ridnet_m", folder)
    recognizer, photo = Recognizer(Network(folder / "ridnet_m.plain.onnx")), make_photo()
    return work | {
        "ridnet_m": forms[BASELINE],
        "ridnet_m, static int8": forms[STATIC],
        PHOTO: lambda: recognizer.embed(photo),
    }


def narrow(folder: Path) -> dict[str, Work]:
    """One call of each narrow network."""
    work: dict[str, Work] = {}
    large = replace(load_experiment("latency").arm("RIDNet"), name=EQUAL)
    found = (arm for arm in load_experiment("found").arms if arm.name != "by hand")
    for arm in (*load_experiment("T7").arms, *found, large):
        config = arm.config.backbone
        path = folder / f"{len(work)}.onnx"
        image = torch.rand(1, 3, config.input_size, config.input_size)
        export_layers(build_backbone(config).eval(), image, path)
        engine, face = OnnxRuntime(path, threads=1), image.numpy()
        work[arm.name] = lambda engine=engine, face=face: engine.run(face)  # type: ignore[misc]
    return work


def milliseconds(work: Mapping[str, Work], *, rounds: int, count: int) -> dict[str, list[float]]:
    """Times of all in turn, a mean of some calls in each round."""
    for call in work.values():
        rate(call, 2)
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, call in work.items():
            found[name].append(1e3 / rate(call, count))
    return found


def below(what: str, ours: list[float], most: list[float], *, goal: float | None = 1.0) -> Row:
    """A row that holds while ours take at most what they may."""
    found = paired(what, [(m, o) for o, m in zip(ours, most, strict=True)], unit="ms", goal=goal)
    return replace(found, ours=found.baseline, baseline=found.ours)


def rows_of(large: dict[str, list[float]], small: dict[str, list[float]]) -> list[Row]:
    """All claims."""

    def share(of: str, part: float) -> list[float]:
        return [part * ms for ms in large[of]]

    rows = [
        below(
            f"RIDNet-S, {SMALL_SHARE:g} × IResNet-50's time ÷ its own",
            large["ridnet_s"],
            share("iresnet50", SMALL_SHARE),
        )
    ]
    if "ridnet_m" in large:
        rounds = len(large["ridnet_m"])
        rows += [
            below("RIDNet-M alone, limit ÷ time", large["ridnet_m"], [NETWORK_MS] * rounds),
            below("RIDNet-M from a photo, limit ÷ time", large[PHOTO], [WHOLE_MS] * rounds),
            below(
                f"RIDNet-M in int8, {INT8_SHARE:g} × float32's time ÷ its own",
                large["ridnet_m, static int8"],
                share("ridnet_m", INT8_SHARE),
            ),
        ]
    for name, times in small.items():
        if name not in ("IResNet-50", EQUAL):
            what = f"narrow {name}, IResNet-50's time ÷ its own"
            rows.append(below(what, times, small["IResNet-50"], goal=None))
    fastest = min((arm.name for arm in peers()), key=lambda name: float(np.median(small[name])))
    what = f"narrow {EQUAL}, the time of the fastest peer, {fastest}, ÷ its own"
    rows.append(below(what, small[EQUAL], small[fastest]))
    return rows


def main() -> None:
    options = arguments(__doc__ or "")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # of the quantizer, about every layer that it leaves
    with tempfile.TemporaryDirectory() as name:
        work = shipped(Path(name), is_quick=options.quick)
        large = milliseconds(work, rounds=3 if options.quick else 9, count=2)
        small = milliseconds(narrow(Path(name)), rounds=3 if options.quick else 15, count=20)
    for what, times in (large | {f"narrow {name}": ms for name, ms in small.items()}).items():
        print(f"  {what}: {np.median(times):.4g} ms ({min(times):.4g} to {max(times):.4g})")
    report("ridnet", rows_of(large, small), json_path=options.json)


if __name__ == "__main__":
    main()
