"""How soon each controller finds a candidate of a small space's best, all of which are known.

`--fill STORE` trains every candidate of the space once by the search's proxy and writes a line for
each; it takes an hour on one thread, goes on where it stopped, and its result is
committed beside this file. Without it that table alone is read: each controller searches it from 20
seeds, and what counts is how many candidates it looks at until it has seen one of the best 5 %;
and, as chance alone finds one of those soon, how good the best of the first 80 is.

The space is small enough to be known and its decisions matter: which kernels, dense or not, how
many blocks. The feature maps are narrow, so what there is to gain is in the blocks. What is
maximised is the accuracy alone: a brief training punishes too many blocks on its own, so the best
are neither the largest nor the smallest, and nothing can be won by looking at costs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

# One thread, whatever the libraries would choose; before they are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
import torch
from optuna.storages import InMemoryStorage
from reporting import Row, report

from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.device import keep_freed_pages
from openmfr.models.ridnet import Architecture
from openmfr.run import progress
from openmfr.search.controller import ask, controller, open_study
from openmfr.search.parts import cost_of
from openmfr.search.proxy import Proxy, ProxyConfig
from openmfr.search.space import Space, StageSpace

TABLE = Path(__file__).with_name("search_table.jsonl")
KINDS = ("policy", "random", "tpe", "evolution")
#: Share of the candidates that count as found.
BEST = 0.05
SEEDS = 20
#: Candidates after which the best one so far is compared.
LOOKS = 80
#: Draws of seeds behind each interval.
DRAWS = 10_000

SPACE = Space(
    input_size=48,
    stem=8,
    stem_stride=2,
    neck=32,
    stages=(
        StageSpace(channels=16, widths=(32,), depths=(1,)),
        StageSpace(channels=32, widths=(48,), depths=(1, 2, 3)),
    ),
    paths=(2,),
    kernels=("1", "3"),
    path_depths=(2,),
)
PROXY = ProxyConfig(identities=400, images=16, steps=250, looks=1)


def every_candidate(space: Space) -> Iterator[Architecture]:
    """Yield each architecture of a space once."""
    seen = set[Architecture]()
    asked = space.decisions()
    for answers in product(*asked.values()):
        made = dict(zip(asked, answers, strict=True))
        found = space.build(lambda name, _, made=made: made[name])  # type: ignore[misc]
        if found not in seen:
            seen.add(found)
            yield found


def read_table(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a table; a last one that a kill cut short is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def make_table(store_path: Path, out: Path, *, most: int | None) -> None:
    """Train the candidates that the table lacks, in an order that is drawn once."""
    torch.set_num_threads(1)
    keep_freed_pages()
    store = Store(store_path)
    labels = Labels.read(store_path / "labels.parquet")
    proxy = Proxy(store, labels, PROXY, torch.device("cpu"))
    rows = read_table(out)
    out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    known = {row["fingerprint"] for row in rows}
    candidates = list(every_candidate(SPACE))
    random.Random(0).shuffle(candidates)
    left = [found for found in candidates if found.fingerprint not in known][:most]
    done, total = len(known), len(known) + len(left)
    print(f"{len(candidates)} candidates, {done} known, {len(left)} to train", flush=True)
    with (
        progress("table", total=total, unit="candidates", done=done) as advance,
        out.open("a", encoding="utf-8") as file,
    ):
        for candidate in left:
            start = time.process_time()
            score, cost = proxy.score(candidate), cost_of(candidate)
            row = {
                "fingerprint": candidate.fingerprint,
                "decisions": SPACE.decisions_of(candidate),
                "accuracy": score.accuracy,
                "macs": cost.macs,
                "params": cost.params,
                "seconds": round(time.process_time() - start, 2),
            }
            file.write(json.dumps(row) + "\n")
            file.flush()
            advance(1, f"accuracy {score.accuracy:.4f}")


@dataclass(frozen=True)
class Game:
    """A table to be searched."""

    accuracy: dict[str, float]
    good: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> Game:
        """Make one; the best share of the candidates are to be found."""
        accuracy = {row["fingerprint"]: float(row["accuracy"]) for row in rows}
        ranked = sorted(accuracy, key=lambda key: -accuracy[key])
        return cls(accuracy, frozenset(ranked[: round(BEST * len(ranked))]))

    def looks(self, kind: str, seed: int) -> int:
        """Count the different candidates that a controller looks at until one is good.

        A candidate that is proposed again costs nothing, as its score is kept; the controller
        hears it again all the same.
        """
        return len(set(self._play(kind, seed, until=self.good.__contains__)))

    def best(self, kind: str, seed: int) -> float:
        """Find the best accuracy that a controller sees in its first different candidates."""
        return max(map(self.accuracy.__getitem__, self._play(kind, seed, most=LOOKS)))

    def _play(
        self,
        kind: str,
        seed: int,
        *,
        until: Callable[[str], bool] = lambda _: False,
        most: int | None = None,
    ) -> list[str]:
        """Let a controller search; return what it looked at, in order."""
        study = open_study(InMemoryStorage(), SPACE, controller(kind, SPACE, seed=seed))
        looked: list[str] = []

        def objective(trial: optuna.Trial) -> float:
            looked.append(ask(SPACE, trial).fingerprint)
            if until(looked[-1]) or len(set(looked)) == most:
                study.stop()
            return self.accuracy[looked[-1]]

        study.optimize(objective, n_trials=20 * len(self.accuracy))
        return looked


def interval_of_mean(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a mean over seeds, by resampling these."""
    drawn = np.random.default_rng(0).choice(np.asarray(values), (DRAWS, len(values))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def compare(path: Path, *, seeds: int, json_path: str | None) -> None:
    """Let all controllers search the table, and print what each needed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    game = Game.of(read_table(path))
    missing = sum(1 for found in every_candidate(SPACE) if found.fingerprint not in game.accuracy)
    if missing:
        print(f"{path.name}: {missing} candidates are missing; --fill STORE trains them")
        return
    needed = {kind: [game.looks(kind, seed) for seed in range(seeds)] for kind in KINDS}
    print(f"{len(game.accuracy)} candidates, {len(game.good)} good ones, {seeds} seeds")
    for kind, counts in needed.items():
        low, high = interval_of_mean(counts)
        print(
            f"  {kind:<10} mean {statistics.mean(counts):.1f} ({low:.1f} to {high:.1f}), "
            f"median {statistics.median(counts):g}, most {max(counts)}"
        )
    best_of = {kind: [game.best(kind, seed) for seed in range(seeds)] for kind in KINDS}
    for kind, found in best_of.items():
        gained = [a - b for a, b in zip(found, best_of["random"], strict=True)]
        low, high = interval_of_mean(gained)
        print(
            f"  {kind:<10} best of {LOOKS}: {statistics.mean(found):.4f}, "
            f"above random's by {statistics.mean(gained):.4f} ({low:.4f} to {high:.4f})"
        )
    rows = [_row(kind, needed[kind], needed["random"]) for kind in KINDS if kind != "random"]
    others = {kind: statistics.mean(needed[kind]) for kind in KINDS if kind != "policy"}
    best = min(others, key=lambda kind: others[kind])
    rows.append(_row("policy", needed["policy"], needed[best], than=best, goal=1.0))
    report("search_controllers", rows, json_path=json_path)


def _row(
    kind: str,
    ours: Sequence[int],
    theirs: Sequence[int],
    *,
    than: str = "random",
    goal: float | None = None,
) -> Row:
    """How many more candidates the other looks at, as a ratio of means, paired by seed."""
    low, high = interval_of_mean([b - a for a, b in zip(ours, theirs, strict=True)])
    mean, other = statistics.mean(ours), statistics.mean(theirs)
    return Row(
        what=f"{kind}: evaluations until the top 5 %, {than}'s ÷ its own (interval of the paired "
        f"difference: {low:+.1f} to {high:+.1f} saved)",
        ours=mean,
        baseline=other,
        unit="evaluations",
        ratio=other / mean,
        goal=goal,
        low=(mean + low) / mean,
        high=(mean + high) / mean,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="of each controller")
    parser.add_argument("--quick", action="store_true", help="3 seeds")
    parser.add_argument("--json", metavar="PATH", help="write the rows there; - prints them last")
    parser.add_argument("--table", type=Path, default=TABLE, help="JSON lines, one a candidate")
    parser.add_argument("--fill", type=Path, metavar="STORE", help="train what the table lacks")
    parser.add_argument("--most", type=int, help="with --fill: no more than so many now")
    options = parser.parse_args()
    if options.fill is not None:
        make_table(options.fill, options.table, most=options.most)
        return
    compare(options.table, seeds=3 if options.quick else options.seeds, json_path=options.json)


if __name__ == "__main__":
    main()
