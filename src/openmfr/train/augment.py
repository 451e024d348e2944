"""Augmentation of whole batches on the training device: mirrored, moved, relit.

Faces arrive aligned, so every change is small: a detector's error, another camera, another light.
All draws come from one generator that the trainer seeds for each step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from openmfr.errors import UserError, raise_together


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How far images are changed; 0 switches a change off.

    Attributes:
        flip: Probability of mirroring.
        rotation: Standard deviation of the rotation in degrees.
        scale: Standard deviation of the logarithm of the scale.
        shift: Standard deviation of the shift, as a fraction of the image's size.
        brightness: Standard deviation of what is added to all values (range −1 to 1).
        contrast: Standard deviation of the logarithm of the factor on all values.
        saturation: Standard deviation of the logarithm of the factor on colour.
        grey: Probability of losing all colour.
    """

    flip: float = 0.5
    rotation: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    grey: float = 0.0

    def __post_init__(self) -> None:
        errors = []
        for field in fields(self):
            value = getattr(self, field.name)
            top = 1.0 if field.name in ("flip", "grey") else math.inf
            if not 0 <= value <= top:
                errors.append(
                    UserError(
                        where=f"augment.{field.name}",
                        found=f"{value:g}",
                        allowed="0 to 1" if top == 1.0 else "from 0",
                        next_step="use 0 to switch it off",
                    )
                )
        raise_together(errors)


def augment(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Change a batch of faces at random.

    Args:
        images: Float (B, 3, H, W), values in −1 to 1.
        config: How far.
        generator: Source of all draws, on the images' device.

    Returns:
        A new batch of the same shape, range and memory format.
    """
    images = _move(images, config, generator)
    return _relight(images, config, generator)


def _move(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    count = images.shape[0]
    flipped = _uniform(images, count, generator=generator) < config.flip
    if not (config.rotation or config.scale or config.shift):
        return torch.where(flipped[:, None, None, None], images.flip(3), images)
    angle = _normal(images, count, generator=generator) * math.radians(config.rotation)
    scale = torch.exp(_normal(images, count, generator=generator) * config.scale)
    shift = _normal(images, count, 2, generator=generator) * (2 * config.shift)
    mirror = torch.where(flipped, -1.0, 1.0)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack([mirror * cos, -sin, shift[:, 0], mirror * sin, cos, shift[:, 1]], dim=1)
    return F.grid_sample(images, _grid(rows.view(count, 2, 3), images), align_corners=False)


def _grid(affine: Tensor, images: Tensor) -> Tensor:
    """Where each pixel is sampled: as `F.affine_grid`, which takes as long as the sampling itself.

    Args:
        affine: From output to input coordinates, both −1 to 1, (B, 2, 3).
        images: (B, 3, H, W).

    Returns:
        (B, H, W, 2), x before y, contiguous: the sampler is twice as slow on a strided grid.
    """
    height, width = images.shape[2:]
    ys, xs = (
        (torch.arange(size, device=images.device) * 2 + 1) / size - 1 for size in (height, width)
    )
    along_x = affine[:, :, 0, None] * xs
    along_y = affine[:, :, 1, None] * ys + affine[:, :, 2, None]
    return along_x.transpose(1, 2)[:, None] + along_y.transpose(1, 2)[:, :, None]


# From here on in place: the images are ours by now, and on a CPU another copy costs ten times what
# the arithmetic does.


def _relight(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    shape = (images.shape[0], 1, 1, 1)
    if config.saturation or config.grey:
        colour = torch.exp(_normal(images, *shape, generator=generator) * config.saturation)
        is_grey = _uniform(images, *shape, generator=generator) < config.grey
        grey = images.mean(dim=1, keepdim=True)
        images.sub_(grey).mul_(colour.masked_fill(is_grey, 0.0)).add_(grey)
    if config.brightness or config.contrast:
        factor = torch.exp(_normal(images, *shape, generator=generator) * config.contrast)
        offset = _normal(images, *shape, generator=generator) * config.brightness
        images.mul_(factor).add_(offset)
    return images.clamp_(-1.0, 1.0)


def _normal(like: Tensor, *shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, device=like.device)


def _uniform(like: Tensor, *shape: int, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=like.device)
