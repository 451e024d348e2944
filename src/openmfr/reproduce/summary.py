"""The table of tables: every claim in one place, with what was measured of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from openmfr.errors import UserError
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.table_report import Table
from openmfr.evaluation.wording import PERCENT
from openmfr.files import read_json, write_text
from openmfr.reproduce.catalogue import PAPER_TABLES, TABLES
from openmfr.reproduce.results import claim_cells
from openmfr.reproduce.verdicts import Verdict

SUMMARY: Final = "summary.md"


def write_summary(out: Path) -> Path:
    """Write `summary.md` from the results of all tables that a folder has.

    Args:
        out: Where `run_experiment` put them.

    Returns:
        Path of the page.

    Raises:
        UserError: If there are none.
    """
    found = {
        name: _read(out / f"{name}.json") for name in TABLES if (out / f"{name}.json").exists()
    }
    if not found:
        raise UserError(
            where=str(out),
            found="no results",
            allowed=f"{', '.join(TABLES)} with .json",
            next_step="openmfr reproduce T6 makes some",
        )
    path = out / SUMMARY
    write_text(path, _page(found))
    return path


def _read(path: Path) -> Mapping[str, Any]:
    return read_json(path, what="result", required=("title", "claims", "cpu_hours", "arms"))


def _page(found: Mapping[str, Mapping[str, Any]]) -> str:
    papers = [content["claims"] for name, content in found.items() if name in PAPER_TABLES]
    own = [content["claims"] for name, content in found.items() if name not in PAPER_TABLES]
    return (
        "\n\n".join(
            [
                "# Claims, and what was seen of them",
                f"Of the paper's tables, {_counted(papers)}. Of ours, {_counted(own)}.",
                _claims(found).markdown(),
                _costs(found).markdown(),
            ]
        )
        + "\n"
    )


def _counted(tables: Sequence[Sequence[Mapping[str, Any]]]) -> str:
    words = Counter(claim["word"] for claims in tables for claim in claims)
    counted = ", ".join(f"{count} {word}" for word, count in words.most_common())
    return f"{sum(words.values())} claims: {counted}" if words else "none yet"


def _claims(found: Mapping[str, Mapping[str, Any]]) -> Table:
    rows: dict[str, list[Measured | str]] = {}
    for name, content in found.items():
        for entry in content["claims"]:
            verdict = Verdict.from_json(entry)
            rows[f"{name}: {verdict.claim.says}"] = claim_cells(verdict)
    return Table(
        caption="Claims",
        header=("Claim", "fewer errors, or less time", "paper, by", "ours, by", "verdict"),
        rows=rows,
        unit=PERCENT,
    )


def _costs(found: Mapping[str, Mapping[str, Any]]) -> Table:
    rows: dict[str, list[Measured | str]] = {
        name: [
            content["title"],
            str(sum(len(arm["seeds"]) for arm in content["arms"].values())),
            f"{content['cpu_hours']:.1f}",
        ]
        for name, content in found.items()
    }
    return Table(
        caption="What it cost; trainings that tables share are counted in each",
        header=("Table", "about", "trainings", "CPU hours"),
        rows=rows,
    )
