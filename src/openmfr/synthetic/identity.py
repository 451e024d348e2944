"""Who a synthetic person is: the shape and colours that all of the person's images share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openmfr.synthetic.hair import Hair, grow_hair
from openmfr.synthetic.head import head_model, weighted_sum
from openmfr.synthetic.texture import draw_hair_colour, paint_head

Float32Array = npt.NDArray[np.float32]

#: Streams of randomness below one seed; see `make_identity` and `image_rng`.
_IDENTITY_STREAM, _IMAGE_STREAM = 0, 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Identity:
    """One synthetic person.

    Attributes:
        name: For example `identity-00012`.
        shape: The head's vertices at rest, in decimetres, shape (V, 3), float32.
        texture: Linear RGB and opacity of the head, shape (*TEXTURE_SHAPE, 4), float32.
        hair: None for a bald person.
    """

    name: str
    shape: Float32Array
    texture: Float32Array
    hair: Hair | None


def make_identity(seed: int, number: int) -> Identity:
    """Make one person; the same arguments always make the same one.

    Args:
        seed: Seed of the population, from 0.
        number: Which person of it, from 0.

    Returns:
        The person.

    Example:
        >>> make_identity(0, 12).name
        'identity-00012'
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_IDENTITY_STREAM, number)))
    model = head_model()
    amounts = np.clip(rng.standard_normal(len(model.shape_modes), dtype=np.float32), -2.2, 2.2)
    shape = model.mean + weighted_sum(amounts, model.shape_modes)
    shape *= np.float32(1) + rng.normal(0, [0.03, 0.03, 0.03]).astype(np.float32)
    hair_colour = draw_hair_colour(rng)
    return Identity(
        name=f"identity-{number:05d}",
        shape=shape,
        texture=paint_head(rng, hair_colour),
        hair=grow_hair(rng, shape, hair_colour),
    )


def image_rng(seed: int, number: int, image: int) -> np.random.Generator:
    """Source of randomness of one image: depends on its three numbers alone."""
    key = (_IMAGE_STREAM, number, image)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
