"""How well single layers, measured once, predict networks that nobody has built.

Candidates are drawn from the space that is searched, another draw than the one that filled the
table; parts that are new in them are measured too, as in a search. Each is then built, run in ONNX
Runtime on one thread, and compared. The baseline is what one does without a table: a time for each
multiply-add, fitted to the very candidates that it is judged on.

CPU seconds, the lower quartile of calls, as the machine may be busy; other work still disturbs.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from pathlib import Path

# One thread, whatever the libraries would choose; before they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import torch
from reporting import Row, arguments, report

from openmfr.deploy.engine import OnnxRuntime
from openmfr.models.ridnet import Architecture, RIDNet
from openmfr.search.latency import LatencyTable, export_layers
from openmfr.search.parts import cost_of
from openmfr.search.space import NARROW

#: Largest median error that a search can live with.
ERROR_GOAL = 0.10
#: Calls in each of the times that a network is opened, and how often it is.
RUNS, SESSIONS = 12, 2


def measured_ms(architecture: Architecture) -> float:
    """Build a network and measure it on one thread."""
    size = architecture.input_size
    image = np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_layers(RIDNet(architecture).eval(), torch.from_numpy(image), path)
        return min(_session_ms(path, image) for _ in range(SESSIONS))


def _session_ms(path: Path, image: npt.NDArray[np.float32]) -> float:
    engine = OnnxRuntime(path, threads=1)
    engine.run(image)
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        engine.run(image)
        times.append(time.process_time() - start)
    return float(1e3 * np.quantile(times, 0.25))


def errors_of(predicted: list[float], found: list[float]) -> list[float]:
    """Absolute errors as shares of what was found."""
    return [abs(p - f) / f for p, f in zip(predicted, found, strict=True)]


def rank_correlation(a: list[float], b: list[float]) -> float:
    """Spearman's."""
    first, second = (np.argsort(np.argsort(values)).astype(np.float64) for values in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def error_row(what: str, ours: list[float], allowed: float, *, unit: str, goal: float) -> Row:
    """A row that holds while the median error is at most what is allowed."""
    median = statistics.median(ours)
    low, high = allowed / float(np.quantile(ours, 0.75)), allowed / float(np.quantile(ours, 0.25))
    return Row(
        what=what,
        ours=median,
        baseline=allowed,
        unit=unit,
        ratio=allowed / median,
        goal=goal,
        low=low,
        high=high,
    )


def main() -> None:
    options = arguments(__doc__ or "")
    torch.set_num_threads(1)
    seen, unseen = (0, 5) if options.quick else (100, 50)
    with tempfile.TemporaryDirectory() as folder:
        table = LatencyTable(folder=Path(folder), runs=4 if options.quick else 8)
        rng = random.Random(0)
        for _ in range(seen):
            table.predict(NARROW.sample(rng))
        rng = random.Random(1)
        candidates = [NARROW.sample(rng) for _ in range(unseen)]
        new = {part.fingerprint for c in candidates for part in table.missing(c)}
        predicted, found = [], []
        for candidate in candidates:
            predicted.append(table.predict(candidate))
            found.append(measured_ms(candidate))
    macs = [float(cost_of(candidate).macs) for candidate in candidates]
    rate = statistics.median(f / m for f, m in zip(found, macs, strict=True))
    ours, theirs = errors_of(predicted, found), errors_of([rate * m for m in macs], found)
    order, order_by_macs = rank_correlation(predicted, found), rank_correlation(macs, found)
    gain = order / order_by_macs
    print(
        f"{unseen} candidates of {min(found):.1f} to {max(found):.1f} ms; {len(new)} parts of them "
        f"were not in the table; largest error {max(ours):.1%}"
    )
    by_macs = statistics.median(theirs)
    rows = [
        error_row("median error, against 10 %", ours, ERROR_GOAL, unit="share", goal=1.0),
        error_row("median error, against multiply-adds'", ours, by_macs, unit="share", goal=1.0),
        Row(
            what="rank correlation with what was measured, against multiply-adds'",
            ours=order,
            baseline=order_by_macs,
            unit="Spearman",
            ratio=gain,
            goal=1.0,
            low=gain,
            high=gain,
        ),
    ]
    report("search_latency", rows, json_path=options.json)


if __name__ == "__main__":
    main()
