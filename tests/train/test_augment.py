"""Augmentation changes what it says, as often as it says, and nothing when it is off."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openmfr.errors import UserError
from openmfr.train.augment import AugmentConfig, _grid, augment

OFF: dict[str, Any] = {"flip": 0.0}


def faces(count: int = 400, size: int = 16) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 1.6 - 0.8


def change(images: Tensor, seed: int = 0, **settings: Any) -> Tensor:
    return augment(images, AugmentConfig(**settings), torch.Generator().manual_seed(seed))


def share_changed(before: Tensor, after: Tensor) -> float:
    return float((before != after).flatten(1).any(dim=1).float().mean())


def test_nothing_changes_when_everything_is_off() -> None:
    assert torch.equal(change(faces(), **OFF), faces())


def test_half_of_the_faces_are_mirrored_and_the_rest_untouched() -> None:
    images = faces()
    changed = change(images)
    is_mirrored = (changed == images.flip(3)).flatten(1).all(dim=1)
    is_same = (changed == images).flatten(1).all(dim=1)
    assert (is_mirrored | is_same).all()
    assert 0.4 < is_mirrored.float().mean() < 0.6


def test_grey_faces_have_no_colour_and_keep_their_brightness() -> None:
    changed = change(faces(), grey=1.0, **OFF)
    assert torch.allclose(changed[:, 0], changed[:, 2])
    assert torch.allclose(changed[:, 0], faces().mean(dim=1), atol=1e-6)


def test_a_pure_mirror_is_the_same_by_both_ways() -> None:
    """With a shift of 10⁻⁹ the faces go through the resampler; they must not move by a pixel."""
    images = faces()
    assert torch.allclose(change(images, flip=1.0, shift=1e-9), images.flip(3), atol=1e-3)


def test_the_grid_is_torchs_own() -> None:
    images = faces(5, size=8)
    affine = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(2))
    expected = F.affine_grid(affine, list(images.shape), align_corners=False)
    torch.testing.assert_close(_grid(affine, images), expected)


def test_values_stay_in_range() -> None:
    changed = change(faces(), brightness=2.0, contrast=1.0, saturation=2.0, **OFF)
    assert changed.min() >= -1
    assert changed.max() <= 1


def test_one_seed_gives_one_result() -> None:
    settings = {"rotation": 5.0, "shift": 0.02, "brightness": 0.1, "grey": 0.5}
    first, again = change(faces(), seed=3, **settings), change(faces(), seed=3, **settings)
    assert torch.equal(first, again)
    assert not torch.equal(first, change(faces(), seed=4, **settings))


@pytest.mark.parametrize("setting", [{"flip": 1.5}, {"shift": -0.1}, {"grey": float("nan")}])
def test_impossible_settings_are_refused_by_name(setting: dict[str, float]) -> None:
    with pytest.raises(UserError, match=f"augment.{next(iter(setting))}"):
        AugmentConfig(**setting)
