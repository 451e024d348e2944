"""What is written of identification: the share found by rank, for a page and a console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openmfr.evaluation.difference_tables import ABOVE, difference_table
from openmfr.evaluation.protocols.megaface import IdentificationResult, compare_identification
from openmfr.evaluation.table_report import Table, write_table_report
from openmfr.evaluation.wording import describe

_METHOD = (
    "A distractor that scores as high as the mate counts as found before it. Intervals resample "
    "people.",
)


def write_identification_report(
    out: Path,
    results: Mapping[str, IdentificationResult],
    *,
    configuration: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> Path:
    """Write `report.html`, `report.json` and `report.md`.

    Args:
        out: Folder for them; made if need be.
        results: Model → what it reached; the others are compared with the first.
        configuration: What produced the results.
        notes: What a reader must know.

    Returns:
        Path of the page.
    """
    rates = zip(*(result.rates for result in results.values()), strict=True)
    table = Table(
        caption="Share of the searches whose mate is among the first ranks",
        header=("Rank", *results),
        rows={f"{rank}": list(found) for rank, found in enumerate(rates, start=1)},
    )
    return write_table_report(
        out,
        title="Identification among strangers",
        subtitle=_counted(next(iter(results.values()))),
        tables=[table],
        results=results,
        differences=identification_differences(results),
        configuration=configuration,
        method=_METHOD,
        notes=notes,
    )


def identification_differences(results: Mapping[str, IdentificationResult]) -> list[Table]:
    """Compare how often the other models find a mate with the first.

    Args:
        results: Model → what it reached.
    """
    (base, subject), *others = results.items()
    if not others:
        return []
    changes = zip(*(compare_identification(subject, result) for _, result in others), strict=True)
    return [
        difference_table(
            f"Share found minus that of {base}",
            ABOVE,
            header=("Rank", *(model for model, _ in others)),
            rows={f"{rank}": list(found) for rank, found in enumerate(changes, start=1)},
        )
    ]


def identification_summary(model: str, result: IdentificationResult) -> str:
    """Write a result as a few lines for a console.

    Args:
        model: Whose it is.
        result: What it reached.
    """
    return f"{model}: {_counted(result)}\n  rank 1             {describe(result.rank_1)}"


def _counted(result: IdentificationResult) -> str:
    return (
        f"{result.searches:,} searches by {result.probes:,} photos of {result.identities:,} people "
        f"among {result.distractors:,} distractors"
    )
