"""What a backbone sees of a stored image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from openmfr.errors import UserError
from openmfr.models import to_input


def random_images(count: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)


def test_values_of_an_image_of_the_right_size_are_only_rescaled() -> None:
    images = random_images(2, 32, 32)
    inputs = to_input(images, 32)
    pixels = inputs.permute(0, 2, 3, 1) * 127.5 + 127.5
    torch.testing.assert_close(pixels, images.float(), rtol=0, atol=1e-4)


def test_a_smaller_image_is_what_pillow_makes_of_it() -> None:
    images = random_images(1, 112, 112)
    ours = (to_input(images, 64)[0].permute(1, 2, 0) * 127.5 + 127.5).numpy()
    reference = Image.fromarray(images[0].numpy()).resize((64, 64), Image.Resampling.BILINEAR)
    # Pillow rounds after each of its two passes.
    assert np.abs(ours - np.asarray(reference, dtype=np.float32)).max() <= 1.01


def test_a_fine_pattern_becomes_grey_and_not_another_pattern() -> None:
    stripes = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)
    stripes[:, :, ::2] = 255
    inner = to_input(stripes, 48)[..., 2:-2]
    assert inner.abs().max() < 0.1


def test_inputs_are_float32_in_channels_last_order() -> None:
    for size in (64, 112):
        inputs = to_input(random_images(2, 112, 112), size)
        assert inputs.dtype == torch.float32
        assert inputs.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 112, 112, dtype=torch.uint8),
        torch.zeros(112, 112, 3, dtype=torch.uint8),
        torch.zeros(2, 112, 112, 3),
    ],
)
def test_images_of_another_layout_or_type_are_refused(images: torch.Tensor) -> None:
    with pytest.raises(UserError, match=r"allowed: torch.uint8 \(B, H, W, 3\)"):
        to_input(images, 112)
