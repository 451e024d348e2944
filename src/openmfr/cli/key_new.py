"""`openmfr key new`: a name → an API key."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro


def main(
    keys: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="KEYS")],
    *,
    name: str,
) -> None:
    """Make an API key for openmfr serve and print it; the file keeps only a hash.

    A running service accepts it at once. Nobody can read it out of the file: whoever loses it needs
    another one.

    Example: openmfr key new keys.json --name door

    Args:
        keys: File of API keys, which is made if it is not there.
        name: What the key is for: one for each program, so that each can be removed alone.
    """
    from openmfr.deploy.service.keys import make_key

    print(make_key(keys, name))
    print(f"{keys}: key {name} added; it is shown only this once", file=sys.stderr)
