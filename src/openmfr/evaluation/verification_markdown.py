"""A verification's tables as Markdown, to paste into a paper, an issue or a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from openmfr.evaluation.breakdown_tables import breakdown_notes, group_tables, mask_tables
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.table_report import Table
from openmfr.evaluation.verification import VerificationResult
from openmfr.evaluation.wording import PLAIN, describe, fmr_text, pair_counts


def verification_markdown(
    title: str, results: Mapping[str, VerificationResult], differences: Sequence[Table] = ()
) -> str:
    """Write all tables.

    Args:
        title: Heading.
        results: By name; kinds of pairs and breakdowns follow each.
        differences: Other systems compared with the first.
    """
    subject = next(iter(results.values()))
    parts = [f"# {title}", pair_counts(subject), *(f"- {text}" for text in subject.notes)]
    parts.append(_overview("System", results, caption="Side by side").markdown())
    parts += [table.markdown() for table in differences]
    for name, result in results.items():
        parts.append(_rates(result, caption=f"{name}: error rates").markdown())
        if result.kinds:
            kinds = {"all": result, **result.kinds}
            parts.append(_overview("Kind", kinds, caption=f"{name}: by kind of pair").markdown())
        if result.breakdown is not None:
            tables = [*group_tables(result.breakdown), *mask_tables(result.breakdown)]
            parts += [f"## {name}, taken apart", *(table.markdown() for table in tables)]
            parts += [f"- {text}" for text in breakdown_notes(result.breakdown)]
    return "\n\n".join(parts) + "\n"


def _overview(what: str, results: Mapping[str, VerificationResult], *, caption: str) -> Table:
    fmrs = sorted({result.headline().fmr for result in results.values()})
    rows: dict[str, list[Measured | str]] = {}
    for name, result in results.items():
        by_fmr = {rate.fmr: rate.fnmr for rate in result.rates}
        rows[name] = [
            f"{result.genuine_pairs:,} / {result.impostor_pairs:,}",
            result.accuracy.mean,
            *(by_fmr.get(fmr, "–") for fmr in fmrs),
            result.eer,
            describe(result.auc, PLAIN),
        ]
    rates = [f"FNMR at FMR {fmr_text(fmr)}" for fmr in fmrs]
    header = (what, "Genuine / impostor", "Accuracy", *rates, "EER", "AUC")
    return Table(caption=caption, header=header, rows=rows)


def _rates(result: VerificationResult, *, caption: str) -> Table:
    rows: dict[str, list[Measured | str]] = {
        fmr_text(rate.fmr): [
            "–" if rate.threshold is None else f"{rate.threshold:.3f}",
            f"{rate.expected_false_matches:,.4g}",
            rate.fnmr,
        ]
        for rate in result.rates
    }
    header = ("FMR (= FAR)", "Threshold", "Expected false matches", "FNMR")
    return Table(caption=caption, header=header, rows=rows)
