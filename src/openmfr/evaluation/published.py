"""The paper's result tables, and a user's own rows beside the published ones.

The published figures stand here as printed. Each row says what it was measured on, ours too: a
figure of another test set may stand beside the paper's, but never passes for the same thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from openmfr.errors import UserError
from openmfr.evaluation.intervals import Measured
from openmfr.evaluation.wording import PERCENT, PLAIN, describe
from openmfr.report.page import Html, table

#: What the paper's authors measured on; its test sets were never published.
TRACK_SETS: Final = "the track's own"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One system's line.

    Attributes:
        system: Its name.
        measured_on: The test sets.
        values: A number, or what stands in a number's place, for each column of the table.
    """

    system: str
    measured_on: str
    values: tuple[float | Measured | str, ...]


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """A table of the paper.

    Attributes:
        title: What it shows.
        columns: Names of its columns.
        is_percent: Whether figures are rates in 0–1 that are printed as percentages.
        rows: The published ones.
        remarks: What a reader must know.
    """

    title: str
    columns: tuple[str, ...]
    is_percent: bool
    rows: tuple[Row, ...]
    remarks: tuple[str, ...] = ()

    def beside(
        self, ours: Mapping[str, Mapping[str, Measured]], *, measured_on: str
    ) -> PublishedTable:
        """Add our own rows below the published ones.

        Args:
            ours: System → column → rate in 0–1; a column may be missing.
            measured_on: The test sets of all of them.

        Raises:
            UserError: If a column is unknown.

        Example:
            >>> mine = {"mine": {"MR-All": Measured(value=0.9)}}
            >>> wider = TABLES["1"].beside(mine, measured_on="LFW, rendered masks")
            >>> wider.rows[-1].values[-1].value, wider.rows[-1].values[0]
            (0.9, '')
        """
        rows = []
        for system, measured in ours.items():
            unknown = sorted(set(measured) - set(self.columns))
            if unknown:
                raise UserError(
                    where=f"row {system}",
                    found=", ".join(unknown),
                    allowed=", ".join(self.columns),
                    next_step="name columns of the table",
                )
            values = tuple(measured.get(column, "") for column in self.columns)
            rows.append(Row(system=system, measured_on=measured_on, values=values))
        return PublishedTable(
            title=self.title,
            columns=self.columns,
            is_percent=self.is_percent,
            rows=(*self.rows, *rows),
            remarks=self.remarks,
        )

    def cells(self) -> list[list[str]]:
        """Write each row: system, figures, measured on."""
        return [
            [row.system, *(self._text(value) for value in row.values), row.measured_on]
            for row in self.rows
        ]

    def markdown(self) -> str:
        """Write the table and its remarks as Markdown.

        Example:
            >>> TABLES["2"].markdown().splitlines()[4]
            "| SenseTime | 0.0757 | 0.0959 | 0.0449 | 0.0148 | 0.0247 | 0.0017 | the track's own |"
        """
        lines = [
            f"**{self.title}**",
            "",
            _line(["System", *self.columns, "Measured on"]),
            _line(["---"] * (len(self.columns) + 2)),
            *(_line(cells) for cells in self.cells()),
        ]
        return "\n".join([*lines, *(f"\n{remark}" for remark in self.remarks)]) + "\n"

    def html(self) -> Html:
        """Write the table for a page."""
        return table(["System", *self.columns, "Measured on"], self.cells(), caption=self.title)

    def _text(self, value: float | Measured | str) -> str:
        if isinstance(value, str):
            return value
        unit = PERCENT if self.is_percent else PLAIN
        if isinstance(value, Measured):
            return describe(value, unit)
        # As printed: the paper gives three decimals of a percentage in one table, two in another.
        return f"{100 * value:.5g}" if self.is_percent else f"{value:.4f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percents(system: str, *values: float | str, measured_on: str = TRACK_SETS) -> Row:
    rates = tuple(value if isinstance(value, str) else value / 100 for value in values)
    return Row(system=system, measured_on=measured_on, values=rates)


def _rates(system: str, *values: float | str) -> Row:
    return Row(system=system, measured_on=TRACK_SETS, values=values)


_TRACK_COLUMNS: Final = (
    "Mask",
    "Children",
    "African",
    "Caucasian",
    "South Asian",
    "East Asian",
    "MR-All",
)
_SEARCHED: Final = "IJB-B, IJB-C; the track's groups; trained on MS1M"

#: The paper's result tables by their number.
TABLES: Final[Mapping[str, PublishedTable]] = {
    "1": PublishedTable(
        title="Table 1: InsightFace track, TPR in % (Mask and Children at FAR 1e-4, others 1e-6)",
        columns=_TRACK_COLUMNS,
        is_percent=True,
        rows=(
            _percents(
                "RIDNet-M (SenseTime)", 94.731, 93.123, 98.366, 99.092, 98.679, 92.322, 98.487
            ),
            _percents("Alibaba DAMO & NUS", 94.163, 94.412, 98.373, 99.010, 99.014, 91.638, 98.322),
            _percents("Toppan", 93.775, 94.292, 98.460, 99.070, 99.029, 91.762, 98.342),
        ),
    ),
    "2": PublishedTable(
        title="Table 2: WebFace260M track, FNMR at FMR 1e-5",
        columns=(
            "MFR-All",
            "MFR-Wild",
            "MFR-Controlled",
            "SFR-All",
            "SFR-Wild",
            "SFR-Controlled",
        ),
        is_percent=False,
        rows=(
            _rates("SenseTime", 0.0757, 0.0959, 0.0449, 0.0148, 0.0247, 0.0017),
            _rates(
                "Face Group (David), ATLab, Kakao Enterprise",
                "lost",
                0.0990,
                0.0419,
                0.0241,
                0.0387,
                0.0021,
            ),
            _rates(
                "Alibaba DAMO & NUS & NTU & AMS & CASIA",
                "lost",
                0.1036,
                0.0539,
                0.0145,
                0.0240,
                0.0016,
            ),
        ),
        remarks=(
            "The scan has lost two figures and the names of the columns; the names are ours.",
        ),
    ),
    "7": PublishedTable(
        title="Table 7: networks of about 5 G multiply-adds, TAR in % at FAR 1e-4 (IJB) and TPR",
        columns=("IJB-B", "IJB-C", "African", "Caucasian", "East Asian", "South Asian"),
        is_percent=True,
        rows=(
            _percents("RIDNet-S", 95.43, 96.72, 81.98, 88.38, 87.59, 61.02, measured_on=_SEARCHED),
            _percents("ResNet-50", 93.76, 95.21, 72.08, 82.48, 80.6, 53.27, measured_on=_SEARCHED),
            _percents(
                "SE-ResNet-50", 94.3, 95.64, 74.51, 85.49, 81.74, 56.02, measured_on=_SEARCHED
            ),
            _percents("ResNeXt-50", 93.99, 95.53, 73.26, 83.63, 77.42, 56.1, measured_on=_SEARCHED),
            _percents("R50", 94.35, 95.67, 74.22, 84.35, 82.18, 56.43, measured_on=_SEARCHED),
        ),
        remarks=(
            "As printed. East Asian and South Asian look swapped: elsewhere in the paper East "
            "Asian is the lowest.",
        ),
    ),
    "8": PublishedTable(
        title="Table 8: MFR-ongoing, TPR in % (Mask and Children at FAR 1e-4, others 1e-6)",
        columns=_TRACK_COLUMNS,
        is_percent=True,
        rows=(
            _percents("RIDNet-L", 95.972, 94.042, 98.630, 99.233, 99.196, 93.339, 98.691),
            _percents("pnan, 2022-04-01", 94.464, 94.237, 98.494, 99.105, 98.979, 92.512, 98.467),
        ),
    ),
}
