"""Images per second of `openmfr synth` with two workers, start-up of the workers included.

There is nothing that a user would otherwise call, so the baseline is the goal itself: 150 images/s
on two cores. CPU seconds are printed beside it, for a machine that has other work.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from pathlib import Path

from reporting import arguments, paired, report

from openmfr.synthetic.dataset import synthesise

GOAL = 150.0
WORKERS = 2
IMAGES = 20


def measure(identities: int, seed: int) -> tuple[float, float]:
    """Make one data set; return images per second and CPU milliseconds per image."""
    before, start = _cpu_seconds(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        synthesise(
            Path(folder) / "store",
            identities=identities,
            images=IMAGES,
            seed=seed,
            workers=WORKERS,
        )
        seconds = time.perf_counter() - start
    count = identities * IMAGES
    return count / seconds, (_cpu_seconds() - before) / count * 1e3


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    options = arguments(__doc__ or "")
    identities, repeats = (120, 1) if options.quick else (300, 3)
    measure(4, seed=0)  # compiles the kernels, where the cache on disk is still empty
    runs = [measure(identities, seed) for seed in range(1, repeats + 1)]
    cpu_ms = statistics.median(cpu for _, cpu in runs)
    print(f"{cpu_ms:.1f} CPU ms per image")
    what = f"synthesise, {identities} identities × {IMAGES}, {WORKERS} workers"
    rows = [paired(what, [(rate, GOAL) for rate, _ in runs], unit="images/s", goal=1.0)]
    report("synth_speed", rows, json_path=options.json)


if __name__ == "__main__":
    main()
