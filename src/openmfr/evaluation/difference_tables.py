"""Tables of paired differences: the same for a page, for Markdown and for a console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openmfr.evaluation.difference import are_same_pairs, compare_verifications
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.table_report import Table
from openmfr.evaluation.verification import VerificationResult
from openmfr.evaluation.wording import Unit, fmr_text

#: Differences of rates.
POINTS = Unit(whole=100, decimals=2, suffix="")

#: What is better, of rates that should be low, and of those that should be high.
BELOW, ABOVE = "below 0 is better", "above 0 is better"

_EITHER = "above 0 is better for accuracy and AUC, below 0 for error rates"


def difference_table(
    what: str,
    better: str,
    *,
    header: Sequence[str],
    rows: Mapping[str, Sequence[Measured | str]],
) -> Table:
    """Make a table of differences.

    Args:
        what: What was subtracted from what.
        better: Which side of 0 is better.
        header: Names of the columns, that of the rows' names first.
        rows: Name of each row → differences, or texts where there is none.
    """
    return Table(
        caption=f"{what}, in percentage points, paired; {better}",
        header=tuple(header),
        rows=rows,
        unit=POINTS,
    )


def verification_differences(results: Mapping[str, VerificationResult]) -> list[Table]:
    """Compare each other system with the first, as a whole and by kind of pair.

    Args:
        results: By name; what was measured on other pairs than the first is left out.
    """
    (base, subject), *others = results.items()
    tables = []
    for name, result in others:
        parts = [("all", subject, result)]
        parts += [
            (kind, part, result.kinds[kind])
            for kind, part in subject.kinds.items()
            if kind in result.kinds
        ]
        is_paired = _draws(subject) == _draws(result) and subject.names == result.names
        changes = {
            part: compare_verifications(first, second)
            for part, first, second in parts
            if is_paired and are_same_pairs(first.comparisons, second.comparisons)
        }
        if changes:
            tables.append(_table(f"{name} minus {base}", subject, changes))
    return tables


def _draws(result: VerificationResult) -> tuple[int, int]:
    return result.seed, result.replicates


def _table(
    what: str, subject: VerificationResult, changes: Mapping[str, Mapping[str, Measured]]
) -> Table:
    """One row for each kind of pair; rates that are refused everywhere have no column."""
    columns = {"accuracy": "Accuracy", "eer": "EER", "auc": "AUC × 100"}
    columns |= {
        f"fnmr@{rate.fmr:g}": f"FNMR at FMR {fmr_text(rate.fmr)}"
        for rate in subject.rates
        if not all(change[f"fnmr@{rate.fmr:g}"].is_refused for change in changes.values())
    }
    return difference_table(
        what,
        _EITHER,
        header=("Pairs", *columns.values()),
        rows={
            part: ["–" if change[name].is_refused else change[name] for name in columns]
            for part, change in changes.items()
        },
    )
