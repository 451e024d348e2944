"""The outcome of an experiment on disk: JSON for programs, a Markdown page for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from openmfr.errors import UserError
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.protocols.tracks import TrackResult
from openmfr.evaluation.table_report import Table
from openmfr.evaluation.wording import PERCENT, Unit, describe
from openmfr.files import write_json, write_text
from openmfr.reproduce.experiment import FIGURES, Experiment, Figure
from openmfr.reproduce.outcome import Outcome
from openmfr.reproduce.runs import EMBEDDINGS, Runs
from openmfr.reproduce.sets import FMR, REAL_FMR, Sets
from openmfr.reproduce.tracks import beside_published, measure_track
from openmfr.reproduce.verdicts import Outcomes, Verdict, average, verdicts
from openmfr.version import __version__

FORMAT_VERSION = 1
SECONDS = Unit(1, 0, " CPU s")
_MEASURE: Final = f"FNMR at FMR {FMR:.1%} (really masked: {REAL_FMR:.0%})"


def run_experiment(
    experiment: Experiment,
    runs: Runs,
    out: Path,
    *,
    seeds: int,
    minutes: float | None = None,
    command: str = "",
) -> Outcomes:
    """Train and measure what is not done, and write the results anew after each training.

    Args:
        experiment: What to train.
        runs: On which images, and where trainings stand.
        out: Folder for the results.
        seeds: Trainings of each arm, from 1.
        minutes: When to stop; by default when all is done.
        command: What repeats it, for the page.

    Returns:
        What is done: arm → seed → outcome.

    Raises:
        UserError: If a number is out of range, or a training fails.
    """
    if seeds < 1:
        raise UserError(
            where="seeds", found=str(seeds), allowed="from 1", next_step="3 show the spread"
        )
    if minutes is not None and not minutes > 0:
        raise UserError(
            where="minutes", found=f"{minutes:g}", allowed="above 0", next_step="leave it out"
        )
    outcomes: dict[str, dict[int, Outcome]] = {}
    for arm, seed, outcome in runs.go(experiment, seeds=seeds, minutes=minutes):
        outcomes.setdefault(arm.name, {})[seed] = outcome
        write_results(experiment, outcomes, runs, out, command=command)
    return outcomes


def write_results(
    experiment: Experiment, outcomes: Outcomes, runs: Runs, out: Path, *, command: str
) -> Path:
    """Write `T6.json` and `T6.md`.

    Args:
        experiment: What was trained.
        outcomes: What came out so far.
        runs: On which images, and where trainings stand.
        out: Folder for both.
        command: What repeats it.

    Returns:
        Path of the page.
    """
    sets, tracks = runs.sets, _tracks(experiment, outcomes, runs)
    content = {
        "format_version": FORMAT_VERSION,
        "kind": "reproduction",
        "table": experiment.table,
        "title": experiment.title,
        "openmfr": __version__,
        "command": command,
        "trained_on": {"images": len(sets.training), "store": sets.training.fingerprint},
        "measured_on": sets.fingerprint,
        "cpu_hours": cpu_hours(outcomes),
        "arms": {arm.name: _arm(experiment, arm.name, outcomes) for arm in experiment.arms},
        "claims": [verdict.to_json() for verdict in verdicts(experiment, outcomes)],
        "track": {name: result.to_json() for name, result in tracks.items()},
        "notes": list(experiment.notes),
    }
    write_json(out / f"{experiment.table}.json", content)
    page = out / f"{experiment.table}.md"
    write_text(page, _page(experiment, outcomes, sets, tracks, command))
    return page


def cpu_hours(outcomes: Outcomes) -> float:
    """CPU hours of all trainings."""
    return sum(o.seconds for trainings in outcomes.values() for o in trainings.values()) / 3600


def tables(experiment: Experiment, outcomes: Outcomes) -> list[Table]:
    """The arms beside the paper's rows, and the claims with their verdicts."""
    shown: list[Figure] = [
        figure
        for figure in FIGURES
        if any(figure in o.value for trainings in outcomes.values() for o in trainings.values())
        and (figure != "time" or any(claim.figure == "time" for claim in experiment.claims))
    ]
    said = [name for name in FIGURES if any(name in a.with_both() for a in experiment.arms)]
    has_text = any(arm.paper_text for arm in experiment.arms)
    arms: dict[str, list[Measured | str]] = {}
    for arm in experiment.arms:
        trainings = list(outcomes.get(arm.name, {}).values())
        paper = [_printed(arm.with_both().get(name), name) for name in said]
        paper += [arm.paper_text] * has_text
        ours = [_written(average(trainings, figure, outcomes), figure) for figure in shown]
        arms[arm.name] = [*paper, *ours, str(len(trainings))]
    claims: dict[str, list[Measured | str]] = {
        verdict.claim.says: claim_cells(verdict) for verdict in verdicts(experiment, outcomes)
    }
    return [
        Table(
            caption=f"{experiment.table}. {experiment.title}: {_MEASURE}, less is better",
            header=(
                "Arm",
                *(f"paper, {figure}" for figure in said),
                *(["paper, elsewhere"] * has_text),
                *(f"ours, {figure}" for figure in shown),
                "trainings",
            ),
            rows=arms,
            unit=PERCENT,
        ),
        Table(
            caption="What is claimed, and what was seen",
            header=("Claim", "fewer errors", "paper, by", "ours, by", "verdict"),
            rows=claims,
            unit=PERCENT,
        ),
    ]


def claim_cells(verdict: Verdict) -> list[Measured | str]:
    """Cells of a claim's row: which arm is said to be better, by how much, ours, the verdict."""
    claim = verdict.claim
    return [
        f"{claim.better} < {claim.than}, {claim.figure}",
        _printed(verdict.paper, claim.figure),
        _written(verdict.ours, claim.figure),
        verdict.word,
    ]


def _printed(value: float | None, figure: Figure) -> str:
    """Write a figure of the paper, or a difference of two; nothing for none."""
    if value is None:
        return ""
    return f"{value:g} days" if figure == "time" else f"{100 * value:.2f} %"


def _written(measured: Measured, figure: Figure) -> Measured | str:
    """Make one of ours a cell of a table whose numbers are rates."""
    return describe(measured, SECONDS) if figure == "time" else measured


def _arm(experiment: Experiment, name: str, outcomes: Outcomes) -> Mapping[str, Any]:
    trainings = outcomes.get(name, {})
    figures = {figure for outcome in trainings.values() for figure in outcome.value}
    return {
        "paper": dict(experiment.arm(name).with_both()),
        "paper_text": experiment.arm(name).paper_text,
        "seeds": {str(seed): outcome.value for seed, outcome in trainings.items()},
        "mean": {
            figure: vars(average(list(trainings.values()), figure, outcomes))
            for figure in sorted(figures)
        },
    }


def _tracks(experiment: Experiment, outcomes: Outcomes, runs: Runs) -> Mapping[str, TrackResult]:
    """Each training in the form of the challenge's track, where the table is one's.

    Those of which only the outcome is here, as another machine made them, are missing.
    """
    if experiment.track is None:
        return {}
    found = {
        f"{arm.name}, seed {seed}": runs.folder(experiment, arm, seed) / EMBEDDINGS
        for arm in experiment.arms
        for seed in outcomes.get(arm.name, {})
    }
    return {
        name: measure_track(experiment.track, runs.sets, embeddings)
        for name, embeddings in found.items()
        if embeddings.exists()
    }


def _page(
    experiment: Experiment,
    outcomes: Outcomes,
    sets: Sets,
    tracks: Mapping[str, TrackResult],
    command: str,
) -> str:
    published = (
        []
        if experiment.track is None
        else [beside_published(experiment.track, tracks, images=len(sets.training)).markdown()]
    )
    parts = [
        f"# {experiment.table}: {experiment.title}",
        *published,
        *(table.markdown() for table in tables(experiment, outcomes)),
        f"Trained on {len(sets.training):,} images, less those of the people whom a recipe holds "
        f"out; {cpu_hours(outcomes):.1f} CPU hours. Again:",
        f"<!-- not run: trains -->\n```bash\n{command}\n```",
        *experiment.notes,
    ]
    return "\n\n".join(parts) + "\n"
