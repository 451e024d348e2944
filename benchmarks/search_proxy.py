"""Does a search's brief training rank networks as a whole training does?

`--search FOLDER --data FACES` takes networks of a search that were trained to the end, evenly over
their ranks by accuracy, trains each by `probe_real` at 64 × 64 pixels as `openmfr reproduce` does,
and writes a line for each to a table beside this file; it goes on where it stopped. Without it that
table alone is read.

What is compared is the order: that of the proxy's accuracy with that of the whole training's errors
(FNMR at FMR 0.1 % over all pairs of LFW, bare, and with masks that training never saw). Spearman's
rank correlation is printed, its sign turned, so that 1 is the same order; the rows have the share
of the pairs of networks that come in the right order, where chance has a half. The baseline is the
order by multiply-adds, which costs nothing: larger networks are mostly better, and a proxy that
knew only this would be of no use. Intervals resample networks.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

# One thread, whatever the libraries would choose; before they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import torch
from reporting import Row, report
from scipy.stats import kendalltau, spearmanr

from openmfr.config import from_dict
from openmfr.device import keep_freed_pages
from openmfr.files import read_json, write_text
from openmfr.models.backbone import DESCRIBED
from openmfr.reproduce.experiment import Arm, Experiment
from openmfr.reproduce.runs import Runs
from openmfr.reproduce.sets import real_sets
from openmfr.reproduce.tables import base
from openmfr.search.controller import controller, open_study
from openmfr.search.results import Candidate, best_of, candidates_of
from openmfr.search.search import LOG_FILE, SEARCH_FILE
from openmfr.search.space import Space

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

TABLE = Path(__file__).with_name("search_proxy.jsonl")
#: Networks, and what they may cost in the search: larger ones train for long.
COUNT, MOST_MACS = 12, 80e6
#: Draws of networks behind the interval.
DRAWS = 10_000
FIGURES: Final = ("bare", "masked")


def chosen(folder: Path) -> list[Candidate]:
    """Networks of a search, evenly over their ranks by accuracy."""
    space = from_dict(
        Space, read_json(folder / SEARCH_FILE, what="search")["space"], where=SEARCH_FILE
    )
    study = open_study(str(folder / LOG_FILE), space, controller("random", space, seed=0))
    found = candidates_of(study, space, cost="macs")
    whole = [one for one in best_of(found, len(found)) if one.macs <= MOST_MACS]
    whole.sort(key=lambda one: one.accuracy)
    return [whole[i] for i in np.linspace(0, len(whole) - 1, COUNT).round().astype(int)]


def experiment_of(candidates: Sequence[Candidate]) -> Experiment:
    """Train each as Table 7 trains its networks."""
    start = base()

    def arm(candidate: Candidate) -> Arm:
        size = start.backbone.input_size
        network = replace(candidate.architecture, input_size=size)
        backbone = replace(start.backbone, name=DESCRIBED, architecture=network)
        return Arm(
            name=candidate.architecture.fingerprint, config=replace(start, backbone=backbone)
        )

    return Experiment(
        table="proxy",
        title="Networks of a search",
        arms=tuple(map(arm, candidates)),
        claims=(),
    )


def fill(search: Path, data: Path, out: Path) -> None:
    """Train the chosen networks, and write what each came to."""
    torch.set_num_threads(1)
    keep_freed_pages()
    candidates = {one.architecture.fingerprint: one for one in chosen(search)}
    runs = Runs(real_sets(data, out / "stores", workers=1), out)
    rows: dict[str, dict[str, Any]] = {}
    for arm, _, outcome in runs.go(experiment_of(list(candidates.values())), seeds=1):
        found = candidates[arm.name]
        rows[arm.name] = {
            "fingerprint": arm.name,
            "trial": found.trial,
            "accuracy": found.accuracy,
            "macs": found.macs,
            **{figure: outcome.value[figure] for figure in FIGURES},
        }
        write_text(TABLE, "".join(json.dumps(row) + "\n" for row in rows.values()))
        print(f"{len(rows)} of {len(candidates)}: {rows[arm.name]}", flush=True)


def correlation(a: FloatArray, b: FloatArray) -> float:
    """Spearman's rank correlation."""
    return float(spearmanr(a, b).statistic)


def in_order(a: FloatArray, b: FloatArray) -> float:
    """Share of the pairs that both put in the same order."""
    return (1 + float(kendalltau(a, b).statistic)) / 2


def interval(figure: Callable[[IntArray], float], count: int) -> tuple[float, float]:
    """95 % of what a figure is when the networks are drawn again, with replacement."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(count, size=count) for _ in range(DRAWS))
    drawn = [figure(rows) for rows in draws if len(set(rows)) > 2]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def compare(json_path: str | None) -> None:
    """Print how well the proxy orders the table's networks."""
    lines = TABLE.read_text(encoding="utf-8").splitlines() if TABLE.exists() else []
    table = [json.loads(line) for line in lines]
    if len(table) < COUNT:
        print(f"{len(table)} networks of {COUNT}; --search FOLDER --data FACES trains the others")
        return
    column = {name: np.array([row[name] for row in table]) for name in ("accuracy", "macs")}
    rows = []
    for figure in FIGURES:
        quality = np.array([-row[figure] for row in table])
        for name, values in column.items():
            low, high = interval(lambda r, v=values, q=quality: correlation(v[r], q[r]), len(table))  # type: ignore[misc]
            found = correlation(values, quality)
            print(f"  {figure}, by {name}: Spearman {found:.3f} ({low:.3f} to {high:.3f})")

        def ratio(chosen: IntArray, quality: FloatArray = quality) -> float:
            ours, theirs = (in_order(v[chosen], quality[chosen]) for v in column.values())
            return ours / theirs if theirs else np.nan

        ours, theirs = (in_order(values, quality) for values in column.values())
        low, high = interval(ratio, len(table))
        what = f"{len(table)} networks in the order of {figure} faces, against multiply-adds'"
        rows.append(
            Row(
                what=what,
                ours=ours,
                baseline=theirs,
                unit="of pairs",
                ratio=ours / theirs,
                low=low,
                high=high,
            )
        )
    report("search_proxy", rows, json_path=json_path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="as without: the table is read")
    parser.add_argument("--json", metavar="PATH", help="write the rows there; - prints them last")
    parser.add_argument("--search", type=Path, help="folder of a finished search")
    parser.add_argument("--data", type=Path, help="folder of photos, as for openmfr reproduce")
    parser.add_argument("--out", type=Path, default=Path("reproduced"), help="for trainings")
    options = parser.parse_args()
    if (options.search is None) != (options.data is None):
        parser.error("--search and --data go together")
    if options.search is not None:
        fill(options.search, options.data, options.out)
    compare(options.json)


if __name__ == "__main__":
    main()
