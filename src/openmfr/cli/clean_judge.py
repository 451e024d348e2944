"""`openmfr clean judge`: a cleaned table and the truth → what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    cleaned: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CLEANED")],
    planted: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PLANTED")],
    *,
    out: Path | None = None,
) -> None:
    """Count how much of a planted noise a cleaning found, and what it broke.

    Example: openmfr clean judge cleaned/labels.parquet planted

    Args:
        cleaned: What a cleaning made of PLANTED/noisy.parquet.
        planted: Folder that openmfr clean plant wrote.
        out: JSON to write the counts and shares to; null where there is nothing to count.
    """
    from openmfr.cleaning.judge import judge
    from openmfr.data.labels import Labels
    from openmfr.data.noise import PlantedNoise
    from openmfr.files import write_json

    found = judge(PlantedNoise.read(planted), Labels.read(cleaned))
    for name, share in found.rates.items():
        print(f"{name:<26} {share:.1%}" if share == share else f"{name:<26} none to count")
    if out is not None:
        known = {name: None if share != share else share for name, share in found.rates.items()}
        write_json(out, {"counts": found.as_dict(), "rates": known})
        print(f"counts: {out}")
