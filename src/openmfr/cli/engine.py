"""The flags of the commands that can work on several machines."""

from __future__ import annotations

from typing import Literal

from openmfr.errors import UserError

#: The flag --engine.
Engine = Literal["processes", "ray"]


def cluster_of(engine: Engine, address: str | None) -> str | None:
    """Return the address of the Ray cluster that the flags ask for; None for processes.

    Raises:
        UserError: If an address is given for processes.

    Example:
        >>> cluster_of("ray", None), cluster_of("processes", None)
        ('auto', None)
    """
    if engine == "ray":
        return address or "auto"
    if address is not None:
        raise UserError(
            where="--address",
            found=f"{address} for processes of this machine",
            allowed="an address with --engine ray",
            next_step="add --engine ray, or leave the address out",
        )
    return None
