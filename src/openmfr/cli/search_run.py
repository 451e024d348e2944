"""`openmfr search run`: a store, labels and a space → architectures, the best ones, a report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from openmfr.search.search import Search


def main(
    store: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STORE")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT")],
    *,
    labels: Path | None = None,
    space: str = "pocket",
    controller: Literal["policy", "random", "tpe", "evolution"] = "evolution",
    trials: int = 200,
    finals: int = 4,
    target_macs: float | None = None,
    target_ms: float | None = None,
    alpha: Literal["soft", "hard"] = "soft",
    stopping: bool = True,
    start: tuple[str, ...] = (),
    storage: str | None = None,
    table: Path = Path("latency-table"),
    identities: int = 1_200,
    images: int = 20,
    set_aside: float = 0.25,
    steps: int = 1_000,
    batch_size: int = 64,
    precision: Literal["float32", "bfloat16", "float16"] = "float32",
    seed: int = 0,
    device: str | None = None,
) -> None:
    """Search for architectures: propose one, train it briefly, reward it by accuracy and cost.

    Example: openmfr search run faces found --target-macs 30e6 --trials 200

    OUT gets best.json (an architecture for openmfr train, search scale and inspect), a report with
    the Pareto front, and all trials (search.log). The same command goes on where it stopped. Give
    it several times at once, and as many workers share the search; what a killed one had begun is
    done by another.

    For workers on several machines: --storage postgresql://user@host/database

    A random search to compare with: the same command with --controller random and more --trials.

    Args:
        store: Folder of aligned faces, from openmfr ingest or openmfr synth.
        out: Folder for everything.
        labels: Label table; STORE/labels.parquet by default.
        space: pocket (a candidate takes two minutes on one thread), narrow (around ridnet_xs, for
            a GPU), or a JSON file with the fields of openmfr.search.space.Space.
        controller: Who proposes: regularised evolution, a policy that learns by reinforcement,
            chance, or Optuna's tree-structured Parzen estimator.
        trials: Candidates in the search, those of all workers and controllers together.
        finals: How many of each controller's best are then trained four times as long, to choose
            among them: the best of many brief trainings are partly lucky.
        target_macs: Multiply-adds of an image that a network should have, as 30e6.
        target_ms: Instead, milliseconds that an image should take in ONNX Runtime on one thread.
        alpha: soft lets accuracy and cost be traded on both sides of the target; hard ignores cost
            up to the target and punishes what is above. Then proposals of more than 1.1 times
            the multiply-adds are made anew.
        stopping: Stop candidates early that are among the worst quarter.
        start: Networks of the space to look at first, as JSON files: what you would have chosen.
        storage: Where trials are kept: a file, or the address of a database; OUT/search.log by
            default.
        table: Folder for measured layers; only --target-ms needs it.
        identities: People to train candidates on and to measure them by.
        images: Of each of them, at most.
        set_aside: Share of the people who are kept for measuring.
        steps: Of each training.
        batch_size: Images in a step.
        precision: Of a candidate's arithmetic in training.
        seed: Of the controller, and of the trainings.
        device: cpu, cuda or cuda:N; a GPU where there is one by default.
    """
    import optuna

    from openmfr.data.labels import Labels
    from openmfr.data.store import Store
    from openmfr.device import choose_device, keep_freed_pages
    from openmfr.models.ridnet import load_definition
    from openmfr.search.latency import LatencyTable
    from openmfr.search.proxy import Proxy, ProxyConfig
    from openmfr.search.search import Search, SearchConfig
    from openmfr.search.space import load_space

    config = SearchConfig(
        controller=controller,
        trials=trials,
        finals=finals,
        target_macs=target_macs,
        target_ms=target_ms,
        alpha=alpha,
        is_stopping=stopping,
        seed=seed,
    )
    brief = ProxyConfig(
        identities=identities,
        images=images,
        set_aside=set_aside,
        steps=steps,
        batch=batch_size,
        precision=precision,
        seed=seed,
    )
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # the progress bar says enough
    chosen_space = load_space(space)
    opened = Store(store)
    faces = Labels.read(labels or store / "labels.parquet")
    keep_freed_pages()
    search = Search(
        out,
        space=chosen_space,
        proxy=Proxy(opened, faces, brief, choose_device(device)),
        config=config,
        storage=storage,
        latencies=None if target_ms is None else LatencyTable(folder=table),
    )
    search.run(start=[load_definition(name).architecture for name in start])
    # The address of a database may hold a password, which nothing that is written may.
    words = [word.replace(storage, search.log) if storage else word for word in sys.argv[1:]]
    _tell(search, command=f"openmfr {shlex.join(words)}")


def _tell(search: Search, *, command: str) -> None:
    """Write the report and the best architecture, and say where they lie."""
    from openmfr.search.report import write_search_report
    from openmfr.search.workers import running

    summary = search.summary()
    if not summary.best:
        print("no candidate was trained to the end yet")
        return
    best = search.write_best(command=command)
    page = write_search_report(
        summary, search.out, settings={**search.settings, "command": command}
    )
    found = summary.best[0]
    final = found.final_accuracy
    longer = "" if final is None else f" ({final:.4f} after a longer training)"
    print(
        f"{len(summary.candidates):,} candidates; best: trial {found.trial}, reward "
        f"{found.reward:.4f}, accuracy {found.accuracy:.4f}{longer}, {found.macs / 1e6:,.1f} M "
        f"multiply-adds, {found.params / 1e6:.2f} M parameters"
    )
    if others := len(running(search.study)):
        print(f"note: other workers are at {others} more; the finals wait for them")
    for note in summary.notes:
        print(f"note: {note}")
    print(f"best: {best}")
    print(f"report: {page}")
