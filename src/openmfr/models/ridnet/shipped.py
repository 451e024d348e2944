"""The RIDNets that come with openmfr: the paper's three sizes, and two for laptops."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from openmfr.errors import UserError, nearest
from openmfr.models.ridnet.architecture import Definition, read_definition
from openmfr.models.ridnet.network import RIDNet

#: Names, the smallest first. S, M and L have the paper's multiply-adds and parameters within 2 %,
#: from the image to the embedding.
SHIPPED: Final = ("ridnet_tiny", "ridnet_xs", "ridnet_s", "ridnet_m", "ridnet_l")

_FOLDER: Final = Path(__file__).parent / "definitions"


def shipped_path(name: str) -> Path:
    """The JSON file of a shipped network."""
    return _FOLDER / f"{name}.json"


@lru_cache
def shipped_definition(name: str) -> Definition:
    """Read what a shipped network is made of, and what found it.

    Example:
        >>> shipped_definition("ridnet_s").architecture.input_size
        112
    """
    return read_definition(shipped_path(name))


def load_definition(name: str) -> Definition:
    """Read a shipped network by its name, or any other from its JSON file.

    Raises:
        UserError: If there is neither.
    """
    if name in SHIPPED:
        return shipped_definition(name)
    path = Path(name)
    if path.suffix != ".json" and not path.exists():
        raise UserError(
            where="architecture",
            found=name,
            allowed=f"{', '.join(SHIPPED)}, or a JSON file",
            next_step=nearest(name, SHIPPED),
        )
    return read_definition(path)


def build_shipped(
    name: str, *, input_size: int = 112, embedding_dim: int = 512, dropout: float = 0.0
) -> RIDNet:
    """Build a shipped network with fresh weights."""
    return RIDNet(
        shipped_definition(name).architecture,
        input_size=input_size,
        embedding_dim=embedding_dim,
        dropout=dropout,
    )
