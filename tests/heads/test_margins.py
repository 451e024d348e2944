"""Margins over all angles: value, gradient and order, against arithmetic on the angles."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openmfr.heads import arcface, cosface

Margin = Callable[[Tensor], Tensor]

MARGINS = [0.0, 0.2, 0.5, 1.0, math.pi / 2]
#: 0.5 to 179.5 degrees, so that every branch is reached; at the ends a slope has no bound.
INNER_ANGLES = torch.deg2rad(torch.arange(180, dtype=torch.float64) + 0.5)


def arcface_of_angle(angle: Tensor, margin: float) -> Tensor:
    """The definition, one angle at a time."""
    values = [
        math.cos(theta + margin)
        if theta + margin < math.pi
        else math.cos(theta) - (1 - math.cos(margin))
        for theta in angle.tolist()
    ]
    return torch.tensor(values, dtype=torch.float64)


def slope(function: Margin, cosines: Tensor) -> Tensor:
    cosines = cosines.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(function(cosines).sum(), cosines)
    return gradient


@pytest.mark.parametrize("margin", MARGINS)
def test_arcface_adds_the_margin_to_the_angle(margin: float) -> None:
    ours = arcface(INNER_ANGLES.cos(), margin=margin)
    torch.testing.assert_close(ours, arcface_of_angle(INNER_ANGLES, margin))


@pytest.mark.parametrize("margin", MARGINS)
def test_arcface_slope_has_the_derivative_of_the_angle_in_it(margin: float) -> None:
    expected = torch.where(
        INNER_ANGLES + margin < math.pi,
        (INNER_ANGLES + margin).sin() / INNER_ANGLES.sin(),
        torch.ones_like(INNER_ANGLES),
    )
    ours = slope(partial(arcface, margin=margin), INNER_ANGLES.cos())
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("function", [arcface, cosface])
def test_gradients_are_those_of_finite_differences(
    function: Callable[..., Tensor], margin: float
) -> None:
    cosines = INNER_ANGLES.cos()
    is_smooth = (cosines + math.cos(margin)).abs() > 1e-5
    assert torch.autograd.gradcheck(
        partial(function, margin=margin), cosines[is_smooth].requires_grad_()
    )


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("function", [arcface, cosface])
def test_a_closer_embedding_never_scores_less(
    function: Callable[..., Tensor], margin: float
) -> None:
    cosines = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    assert (function(cosines, margin=margin).diff() > -1e-12).all()


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("function", [arcface, cosface])
def test_a_margin_never_raises_a_cosine(function: Callable[..., Tensor], margin: float) -> None:
    cosines = torch.linspace(-1, 1, 10_001, dtype=torch.float64)
    assert (function(cosines, margin=margin) <= cosines + 1e-7).all()


@pytest.mark.parametrize("margin", [0.2, 0.5, 1.0])
def test_arcface_has_no_jump_where_the_angle_runs_out(margin: float) -> None:
    edge = -math.cos(margin)
    around = torch.tensor([edge - 1e-12, edge + 1e-12], dtype=torch.float64)
    before, after = arcface(around, margin=margin).tolist()
    assert before == pytest.approx(after, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_arcface_is_finite_at_both_ends_and_a_little_beyond(dtype: torch.dtype) -> None:
    beyond = 1 + 4 * torch.finfo(dtype).eps
    cosines = torch.tensor([-beyond, -1.0, 0.0, 1.0, beyond], dtype=dtype)
    ours = arcface(cosines, margin=0.5)
    assert torch.isfinite(ours).all()
    assert torch.isfinite(slope(partial(arcface, margin=0.5), cosines)).all()
    assert ours[3].item() == pytest.approx(math.cos(0.5), rel=1e-6)


def gradient_of_loss(
    margin: Margin, *, degrees: float, identities: int = 500, dim: int = 256
) -> Tensor:
    """Gradient by embeddings that lie at one angle to their prototypes, float64, scale 64."""
    generator = torch.Generator().manual_seed(0)

    def directions(rows: int) -> Tensor:
        return F.normalize(torch.randn(rows, dim, generator=generator, dtype=torch.float64))

    prototypes = directions(identities)
    own = prototypes[:64]
    across = directions(64)
    across = F.normalize(across - (across * own).sum(1, keepdim=True) * own)
    angle = math.radians(degrees)
    embeddings = (math.cos(angle) * own + math.sin(angle) * across).requires_grad_()
    cosines = F.normalize(embeddings) @ prototypes.T
    identity = torch.arange(64)
    target = margin(cosines.gather(1, identity[:, None]))
    loss = F.cross_entropy(64 * cosines.scatter(1, identity[:, None], target), identity)
    (gradient,) = torch.autograd.grad(loss, embeddings)
    return gradient


@pytest.mark.parametrize(("degrees", "expected"), [(90, 0.12), (80, 0.037), (76, 0.0), (60, 0.12)])
def test_leaving_out_the_angles_derivative_as_arcface_torch_does_bends_the_gradient(
    degrees: float, expected: float
) -> None:
    def exact(cosines: Tensor) -> Tensor:
        return arcface(cosines, margin=0.5)

    def as_in_arcface_torch(cosines: Tensor) -> Tensor:
        return cosines + (exact(cosines) - cosines).detach()

    right = gradient_of_loss(exact, degrees=degrees)
    theirs = gradient_of_loss(as_in_arcface_torch, degrees=degrees)
    assert ((theirs - right).norm() / right.norm()).item() == pytest.approx(expected, abs=0.01)
