"""`openmfr key remove`: an API key that is refused from now on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    keys: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="KEYS")],
    *,
    name: str,
) -> None:
    """Remove an API key; a running service refuses it at once.

    Example: openmfr key remove keys.json --name door

    Args:
        keys: File of API keys.
        name: What the key was made for.
    """
    from openmfr.deploy.service.keys import remove_key

    remove_key(keys, name)
    print(f"{keys}: key {name} removed")
