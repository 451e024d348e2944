"""What is written of templates: TAR at each FAR, models side by side, for a page and a console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openmfr.evaluation.difference_tables import ABOVE, difference_table
from openmfr.evaluation.protocols.many_pairs import ManyPairsResult, compare_many
from openmfr.evaluation.table_report import Table, write_table_report
from openmfr.evaluation.wording import describe, fmr_text, pair_counts

_METHOD = (
    "People are what genuine pairs link: the lists do not name them. Intervals resample people.",
)


def write_templates_report(
    out: Path,
    results: Mapping[str, ManyPairsResult],
    *,
    title: str,
    templates: int,
    configuration: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> Path:
    """Write `report.html`, `report.json` and `report.md`.

    Args:
        out: Folder for them; made if need be.
        results: Model → what it reached; the others are compared with the first.
        title: Heading of the page.
        templates: Number of templates.
        configuration: What produced the results.
        notes: What a reader must know.

    Returns:
        Path of the page.
    """
    subject = next(iter(results.values()))
    table = Table(
        caption="TAR at each FAR, with 95 % intervals",
        header=("System", *_columns(subject)),
        rows={model: [rate.tar for rate in result.rates] for model, result in results.items()},
    )
    return write_table_report(
        out,
        title=title,
        subtitle=_counted(subject, templates),
        tables=[table],
        results=results,
        differences=templates_differences(results),
        configuration=configuration,
        method=_METHOD,
        notes=notes,
    )


def templates_differences(results: Mapping[str, ManyPairsResult]) -> list[Table]:
    """Compare the other models' TAR with the first's.

    Args:
        results: Model → what it reached.
    """
    (base, subject), *others = results.items()
    if not others:
        return []
    return [
        difference_table(
            f"TAR minus that of {base}",
            ABOVE,
            header=("System", *_columns(subject)),
            rows={model: list(compare_many(subject, result).values()) for model, result in others},
        )
    ]


def templates_summary(model: str, result: ManyPairsResult, *, templates: int) -> str:
    """Write a result as a few lines for a console.

    Args:
        model: Whose it is.
        result: What it reached.
        templates: Number of templates.
    """
    lines = [f"{model}: {_counted(result, templates)}"]
    lines += [
        f"  TAR at FAR {fmr_text(rate.fmr):<10} {describe(rate.tar)}" for rate in result.rates
    ]
    return "\n".join(lines)


def _counted(result: ManyPairsResult, templates: int) -> str:
    return f"{templates:,} templates, {pair_counts(result)}"


def _columns(result: ManyPairsResult) -> list[str]:
    return [f"FAR {fmr_text(rate.fmr)}" for rate in result.rates]
