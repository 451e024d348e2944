"""Drawing names by weight."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from openmfr.errors import UserError


def pick(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    """Draw a name with a probability in proportion to its weight; draws one number.

    Args:
        rng: Source of randomness.
        weights: At least 0 each, one of them above 0.

    Example:
        >>> pick(np.random.default_rng(0), {"a": 0, "b": 2})
        'b'
    """
    place = rng.random() * sum(weights.values())
    for name, weight in weights.items():
        place -= weight
        if place < 0:
            return name
    # Rounding alone leads here.
    return [name for name, weight in weights.items() if weight > 0][-1]


def check_weights(weights: Mapping[str, float], where: str) -> None:
    """Raise an error unless `pick` can draw from these weights.

    Args:
        weights: What a user gave.
        where: What they are, for the error.

    Raises:
        UserError: If a weight is negative or no number, or none is above 0.
    """
    values = np.array([float(weight) for weight in weights.values()])
    if not (len(values) and np.all(np.isfinite(values)) and values.min() >= 0 and values.sum() > 0):
        raise UserError(
            where=where,
            found=", ".join(f"{name} {weight}" for name, weight in weights.items()) or "nothing",
            allowed="weights of at least 0, one of them above 0",
            next_step="leave them out for the usual ones",
        )
