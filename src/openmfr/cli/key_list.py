"""`openmfr key list`: whom API keys were made for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    keys: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="KEYS")],
) -> None:
    """List the API keys of a file: name, number, and when each was made.

    A key reads omfr_NUMBER_SECRET, so one that was found lying about can be told by its number.

    Example: openmfr key list keys.json

    Args:
        keys: File of API keys.
    """
    from openmfr.deploy.service.keys import read_keys

    found = read_keys(keys)
    width = max((len(key.name) for key in found), default=0)
    for key in found:
        print(f"{key.name:<{width}}  {key.number}  {key.made_at}")
