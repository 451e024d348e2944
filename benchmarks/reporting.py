"""What every benchmark prints: rows against a baseline, the machine, and the commit."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: One thread, whatever the libraries would choose.
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One claim.

    Attributes:
        what: What was measured.
        ours: Median of our side.
        baseline: Median of what it is compared with.
        unit: Unit of both.
        ratio: ours ÷ baseline, or the median of the paired ratios.
        goal: Smallest ratio that holds; None where there is no goal.
        low: Smallest ratio of all runs.
        high: Largest ratio of all runs.
    """

    what: str
    ours: float
    baseline: float
    unit: str
    ratio: float
    goal: float | None = None
    low: float
    high: float

    @property
    def holds(self) -> bool:
        return self.goal is None or self.ratio >= self.goal


def paired(
    what: str, pairs: Sequence[tuple[float, float]], *, unit: str, goal: float | None = None
) -> Row:
    """Make a row of runs in turn, (ours, baseline) of each; its ratio is their median."""
    ratios = [ours / baseline for ours, baseline in pairs]
    return Row(
        what=what,
        ours=statistics.median(ours for ours, _ in pairs),
        baseline=statistics.median(baseline for _, baseline in pairs),
        unit=unit,
        ratio=statistics.median(ratios),
        goal=goal,
        low=min(ratios),
        high=max(ratios),
    )


def arguments(description: str) -> argparse.Namespace:
    """Parse `--quick` and `--json PATH`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, within 50 s")
    parser.add_argument("--json", metavar="PATH", help="write the rows there; - prints them last")
    return parser.parse_args()


def rate(work: Callable[[], object], count: int) -> float:
    """Calls per CPU second of this process, all its threads."""
    start = time.process_time()
    for _ in range(count):
        work()
    return count / (time.process_time() - start)


def run_side(
    script: str, side: str, *, environment: Mapping[str, str] | None = None, **options: object
) -> dict[str, Any]:
    """Run one side of a benchmark in a process of its own, on one thread.

    Args:
        script: The benchmark, which with `--side SIDE` prints what it measured as JSON, last.
        side: Which side.
        environment: Further variables.
        options: Flags and their values.

    Raises:
        SystemExit: If it fails.
    """
    command = [sys.executable, script, "--side", side]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    variables = {**os.environ, **ONE_THREAD, **(environment or {})}
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{side} ended with {done.returncode} (out of memory if −9)")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def report(benchmark: str, rows: Sequence[Row], *, json_path: str | None) -> None:
    """Print rows for a person and, if asked, as JSON."""
    print(f"{benchmark}: {_machine()}, commit {_commit()}")
    for row in rows:
        verdict = "" if row.goal is None else f", goal {row.goal:g}: {_verdict(row)}"
        print(
            f"  {row.what}: {row.ours:,.4g} against {row.baseline:,.4g} {row.unit}, "
            f"ratio {row.ratio:.3f} ({row.low:.3f} to {row.high:.3f}){verdict}"
        )
    if json_path is not None:
        content = {"benchmark": benchmark, "rows": [asdict(r) | {"holds": r.holds} for r in rows]}
        text = json.dumps(content)
        if json_path == "-":
            print(text)
        else:
            Path(json_path).write_text(text + "\n", encoding="utf-8")


def _verdict(row: Row) -> str:
    return "holds" if row.holds else "MISSED"


def _machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    here = Path(__file__).parent
    found = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"
