"""All experiments by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from openmfr.errors import UserError, nearest
from openmfr.reproduce.experiment import Experiment
from openmfr.reproduce.ours import found, latency, masks, parts, synthetic
from openmfr.reproduce.tables import (
    table_1,
    table_2,
    table_3,
    table_4,
    table_5,
    table_6,
    table_7,
    table_8,
    table_9,
    table_10,
)

#: Of the paper, as it numbers them.
PAPER_TABLES: Final[dict[str, Callable[[], Experiment]]] = {
    "T1": table_1,
    "T2": table_2,
    "T3": table_3,
    "T4": table_4,
    "T5": table_5,
    "T6": table_6,
    "T7": table_7,
    "T8": table_8,
    "T9": table_9,
    "T10": table_10,
}
TABLES: Final[dict[str, Callable[[], Experiment]]] = PAPER_TABLES | {
    "found": found,
    "latency": latency,
    "masks": masks,
    "parts": parts,
    "synthetic": synthetic,
}


def load_experiment(name: str) -> Experiment:
    """Make an experiment by the name of its table.

    Raises:
        UserError: If there is none of this name.
    """
    if name not in TABLES:
        raise UserError(
            where="table", found=name, allowed=", ".join(TABLES), next_step=nearest(name, TABLES)
        )
    return TABLES[name]()
