"""The page of a search: what was found, how, and how sure its controller was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from openmfr.evaluation.writing import write_report
from openmfr.models.ridnet import Architecture
from openmfr.models.ridnet.architecture import Stage
from openmfr.report import page as html
from openmfr.report.architecture import BlockDrawing, StageDrawing, architecture_drawing
from openmfr.report.page import Cell, Html, Page, Tile
from openmfr.report.plots import training_curves
from openmfr.report.search_plots import Point, front_plot, progress_plot
from openmfr.search.finals import LONGER
from openmfr.search.results import Candidate, best_of, pareto_front
from openmfr.search.reward import Reward

_TITLE: Final = "A search for architectures"
_SHOWN, _DRAWN = 10, 3
_METHOD: Final = (
    "Every candidate was trained briefly on the same people and asked about others. Its accuracy "
    "is the area under the ROC curve of all pairs of images of those: the probability that two "
    "images of one person score higher than two of different people. It ranks candidates, and says "
    "little about what a full training reaches.",
    f"Finalists, the best by then, were trained anew for {LONGER} times the steps, and stand in "
    "that order before the others: the best of many noisy scores are a little lucky.",
    "The reward is accuracy · (cost ÷ target)^α; in “soft”, twice the cost must be worth 5 % of "
    "accuracy; in “hard”, cost counts only above the target, and there nearly alone.",
    "A candidate that was stopped early was among the worst quarter at that step. Its reward is "
    "what it had, and what others gained from there to the end. It is on no list of the best.",
    "The Pareto front is made of candidates that no other one beats in both accuracy and cost.",
)
_UNITS: Final = {"macs": ("million multiply-adds", 1e6), "latency_ms": ("milliseconds", 1.0)}


@dataclass(frozen=True, kw_only=True)
class SearchSummary:
    """What there is to say about a search.

    Attributes:
        candidates: All, in the order in which they were finished.
        reward: What they were rewarded with.
        cost: Of what: "macs" or "latency_ms".
    """

    candidates: tuple[Candidate, ...]
    reward: Reward
    cost: str

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        found = []
        kinds = {candidate.controller for candidate in self.candidates}
        if "random" not in kinds:
            found.append(
                "No random search to compare with: repeat the command with --controller random "
                "and more --trials, and its candidates are added to the same storage."
            )
        failed = [candidate for candidate in self.candidates if candidate.reason]
        if failed:
            found.append(
                f"{len(failed)} candidates could not be trained, such as that of trial "
                f"{failed[0].trial}: {failed[0].reason}. Their reward is 0."
            )
        return tuple(found)

    @property
    def best(self) -> list[Candidate]:
        """The best few, the best one first."""
        return best_of(self.candidates, _SHOWN)


def write_search_report(summary: SearchSummary, out: Path, *, settings: Mapping[str, Any]) -> Path:
    """Write `report.html`, `report.json` and `report.md`.

    Args:
        summary: What there is to say; at least one candidate was trained to the end.
        out: Folder for them.
        settings: What determined the result, nested, as JSON values.

    Returns:
        Path of the page.
    """
    best, tried = summary.best, len(summary.candidates)
    page = Page(_TITLE, subtitle=f"{tried:,} candidates; the best was trial {best[0].trial}")
    page.section("", html.tiles(_tiles(summary)), *map(html.note, summary.notes))
    page.section("Best", _table(summary), *(_drawing(found) for found in best[:_DRAWN]))
    plots = [*_plots(summary), *_entropy(summary.candidates)]
    page.section("How it went", html.figures(plots))
    return write_report(
        out,
        page,
        kind="search",
        title=_TITLE,
        content={
            "candidates": [_json(found) for found in summary.candidates],
            "best": [found.architecture.fingerprint for found in best],
            "front": [found.architecture.fingerprint for found in pareto_front(summary.candidates)],
            "notes": list(summary.notes),
        },
        markdown=_markdown(summary),
        configuration=settings,
        method=_METHOD,
    )


def _tiles(summary: SearchSummary) -> list[Tile]:
    best = summary.best[0]
    stopped = sum(found.is_stopped for found in summary.candidates)
    count = len(summary.candidates)
    return [
        Tile(label="Best reward", value=html.number(best.reward, f"{best.reward:.4f}")),
        Tile(
            label="Its accuracy",
            value=html.number(best.accuracy, f"{best.accuracy:.4f}"),
            note="of people set aside, after a brief training",
        ),
        Tile(label="Its cost", value=_cost(best, summary.cost), note=_UNITS[summary.cost][0]),
        Tile(
            label="Candidates",
            value=html.number(count, f"{count:,}"),
            note=f"{stopped:,} of them stopped early",
        ),
    ]


_HEADER: Final = (
    "Trial",
    "Reward",
    "Accuracy",
    "Final accuracy",
    "Cost",
    "Parameters",
    "Chosen by",
    "Fingerprint",
)


def _table(summary: SearchSummary) -> Html:
    rows: list[list[Cell]] = [
        [
            str(found.trial),
            html.number(found.reward, f"{found.reward:.4f}"),
            html.number(found.accuracy, f"{found.accuracy:.4f}"),
            _final(found),
            _cost(found, summary.cost),
            html.number(found.params, f"{found.params / 1e6:.2f} M"),
            found.controller,
            found.architecture.fingerprint,
        ]
        for found in summary.best
    ]
    return html.table(_HEADER, rows, caption=f"The best; cost in {_UNITS[summary.cost][0]}")


def _final(found: Candidate) -> Cell:
    accuracy = found.final_accuracy
    return "" if accuracy is None else html.number(accuracy, _final_text(found))


def _cost(found: Candidate, kind: str) -> Html:
    return html.number(found.cost, f"{found.cost / _UNITS[kind][1]:,.1f}")


def _markdown(summary: SearchSummary) -> str:
    rows = [
        f"| {found.trial} | {found.reward:.4f} | {found.accuracy:.4f} | {_final_text(found)} "
        f"| {found.cost / _UNITS[summary.cost][1]:,.1f} | {found.params / 1e6:.2f} M "
        f"| {found.controller} | {found.architecture.fingerprint} |"
        for found in summary.best
    ]
    lines = [f"| {' | '.join(_HEADER)} |", "|" + " --- |" * len(_HEADER), *rows]
    return "\n\n".join([f"# {_TITLE}", "\n".join(lines), *summary.notes]) + "\n"


def _final_text(found: Candidate) -> str:
    return "" if found.final_accuracy is None else f"{found.final_accuracy:.4f}"


def _plots(summary: SearchSummary) -> list[Html]:
    label, unit = _UNITS[summary.cost]
    front = {found.trial for found in pareto_front(summary.candidates)}
    points = [
        Point(cost=f.cost / unit, accuracy=f.accuracy, is_best=f.trial in front)
        for f in summary.candidates
        if not (f.is_stopped or f.reason)
    ]
    kinds = sorted({found.controller for found in summary.candidates})
    rewards = {
        kind: np.array([f.reward for f in summary.candidates if f.controller == kind])
        for kind in kinds
    }
    return [
        html.plot(
            front_plot(points, label=label, target=summary.reward.target / unit),
            caption="Accuracy against cost: no candidate is better and cheaper than one of the "
            "front. Those that were stopped early are left out.",
            alt=f"Pareto front of {len(front)} among {len(points)} candidates",
        ),
        html.plot(
            progress_plot(rewards),
            caption="Reward of each candidate, and the best so far, for each controller.",
            alt="Best reward so far over the number of candidates: "
            + "; ".join(f"{kind} {found.max():.4f}" for kind, found in rewards.items()),
        ),
    ]


def _entropy(candidates: Sequence[Candidate]) -> list[Html]:
    known = {f.updates: f.entropy for f in candidates if f.updates and f.entropy is not None}
    rows = [{"updates": float(n), "entropy": known[n]} for n in sorted(known)]
    drawn = training_curves(rows, {"entropy": "Mean entropy of a decision"}, x="updates")
    return [
        html.plot(
            svg,
            caption=f"{what}, in nats, over the policy's updates: even chances are high, and it "
            "falls as the policy settles.",
            alt=f"{what}: {rows[0]['entropy']:.2f} at first, {rows[-1]['entropy']:.2f} at last",
        )
        for what, svg in drawn.items()
    ]


def _drawing(found: Candidate) -> Html:
    shown = found.architecture
    return html.plot(
        architecture_drawing(stage_drawings(shown)),
        caption=html.join(
            f"Trial {found.trial}, reward ",
            html.number(found.reward, f"{found.reward:.4f}"),
            f". Orange paths are densely connected. {shown.fingerprint}",
        ),
        alt=f"Architecture of trial {found.trial}: "
        + "; ".join(
            f"{s.depth} blocks of {' and '.join(map(str, s.pattern))}" for s in shown.stages
        ),
    )


def stage_drawings(architecture: Architecture) -> list[StageDrawing]:
    """Say what a picture of a network shows, from its image to its embedding."""
    size = architecture.input_size
    drawings = [StageDrawing(name="image", shape=f"{size} × {size} × 3")]
    size //= architecture.stem_stride
    drawings.append(StageDrawing(name="stem", shape=f"{size} × {size} × {architecture.stem}"))
    for number, stage in enumerate(architecture.stages, start=1):
        size = -(-size // 2)
        drawings.append(
            StageDrawing(
                name=f"stage {number}",
                shape=f"{size} × {size} × {stage.channels} ({stage.width})",
                blocks=_blocks(stage),
            )
        )
    drawings.append(StageDrawing(name="neck", shape=f"{size} × {size} × {architecture.neck}"))
    return drawings


def _blocks(stage: Stage) -> tuple[BlockDrawing, ...]:
    """One drawing for each run of blocks that are alike."""
    if len(stage.pattern) == 1:
        runs = [(stage.pattern[0], stage.depth)]
    else:
        runs = [(block, 1) for block in stage.blocks()]
    return tuple(
        BlockDrawing(
            times=times,
            paths=tuple(f"{p.depth} × {p.kernel}" for p in block.paths),
            is_dense=tuple(path.is_dense for path in block.paths),
        )
        for block, times in runs
    )


def _json(found: Candidate) -> dict[str, Any]:
    return vars(found) | {"architecture": found.architecture.fingerprint}
