"""From stored pixels to what a backbone sees; the same for training, embedding and export."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from openmfr.errors import UserError


def to_input(images: Tensor, size: int) -> Tensor:
    """Resize images and bring their values to −1 to 1.

    Args:
        images: RGB images (B, H, W, 3), uint8, on any device.
        size: Height and width that the backbone expects, in pixels.

    Returns:
        Images (B, 3, size, size), float32, (value − 127.5) / 127.5, in channels-last memory format.
        Images of another size are resized bilinearly with antialiasing.

    Raises:
        UserError: If the images have another shape or type.

    Example:
        >>> black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
        >>> images = to_input(black_and_white.expand(2, 112, 112, 3), 64)
        >>> images.shape, round(images.min().item(), 4), round(images.max().item(), 4)
        (torch.Size([2, 3, 64, 64]), -1.0, 1.0)
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise UserError(
            where="images",
            found=f"{images.dtype} {tuple(images.shape)}",
            allowed="torch.uint8 (B, H, W, 3)",
            next_step="decode photos to RGB and stack them",
        )
    pixels = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
    if pixels.shape[2:] != (size, size):
        pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True)
    return pixels.sub_(127.5).div_(127.5)  # in place: another copy costs more than the arithmetic
