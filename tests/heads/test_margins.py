"""Margins over all angles: value, gradient and order, against arithmetic on the angles."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from heads.reference import lowered_cosine
from torch import Tensor

from openmfr.heads import HeadConfig, adaface, arcface, arcface_torch, combined, cosface
from openmfr.heads.margins import adaface_quality

Margin = Callable[[Tensor], Tensor]

MARGINS = [0.0, 0.2, 0.5, 1.0, math.pi / 2]
#: 0.5 to 179.5 degrees, so that every branch is reached; at the ends a slope has no bound.
INNER_ANGLES = torch.deg2rad(torch.arange(180, dtype=torch.float64) + 0.5)

#: m1, m2, m3: each alone, the ends of their ranges, and recipes that are used.
COMBINED = [
    (1.0, 0.0, 0.0),
    (1.35, 0.0, 0.0),
    (1.0, 0.5, 0.0),
    (1.0, 0.0, 0.4),
    (1.0, 0.3, 0.2),
    (1.0, math.pi / 2, 1.0),
    (2.0, 0.3, 0.1),
    (4.0, math.pi / 2, 1.0),
]

QUALITIES = [-1.0, -0.4, 0.0, 0.7, 1.0]


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
    # The sine is held at that of a cosine of 1 − 1e-6: cos m is reached within that much of it.
    assert ours[3].item() == pytest.approx(math.cos(0.5), abs=1e-3)


def test_the_sine_is_held_at_a_cosine_of_one_millionth_below_1() -> None:
    bound = torch.tensor([1 - 1e-6, -1 + 1e-6], dtype=torch.float64)
    outside = torch.tensor([1 - 1e-5, -1 + 1e-5], dtype=torch.float64)
    for name in ("arcface", "arcface_torch", "combined"):
        function = CONFIGURED[name]
        steep = slope(function, bound[:1] - 1e-9)
        assert slope(function, outside).abs().max() <= steep * (1 + 1e-9)
        # Nearer than the bound the sine is constant, and the slope that of the cosine term.
        nearer = slope(function, torch.ones(1, dtype=torch.float64))
        assert 0 < nearer.item() <= 1


@pytest.mark.parametrize("margins", COMBINED, ids=str)
def test_the_combined_margin_is_its_definition_and_its_slope_the_derivative(
    margins: tuple[float, float, float],
) -> None:
    config = HeadConfig(kind="combined", margins=margins)
    factor, angle, cosine = margins
    ours = partial(combined, factor=factor, angle=angle, cosine=cosine)
    check_against_definition(ours, config)


@pytest.mark.parametrize("quality", QUALITIES)
@pytest.mark.parametrize("margin", [0.0, 0.25, 0.4, 1.0])
def test_adaface_is_its_definition_and_its_slope_the_derivative(
    margin: float, quality: float
) -> None:
    config = HeadConfig(kind="adaface", margin=margin)

    def ours(cosines: Tensor) -> Tensor:
        return adaface(cosines, margin=margin, quality=torch.full_like(cosines, quality))

    check_against_definition(ours, config, quality)


def check_against_definition(ours: Margin, config: HeadConfig, quality: float = 0.0) -> None:
    """Compare values and slopes with those of the definition on the angle, one at a time."""

    def definition(cosines: Tensor) -> Tensor:
        return torch.stack([lowered_cosine(config, cosine, quality) for cosine in cosines])

    cosines = INNER_ANGLES.cos()
    # AdaFace's angle is kept 0.08° within 0 and π.
    torch.testing.assert_close(ours(cosines), definition(cosines), atol=2e-6, rtol=1e-9)
    torch.testing.assert_close(slope(ours, cosines), slope(definition, cosines))


@pytest.mark.parametrize("margins", COMBINED, ids=str)
def test_the_combined_margin_grows_with_the_cosine_without_a_jump(
    margins: tuple[float, float, float],
) -> None:
    factor, angle, cosine = margins
    cosines = torch.linspace(-1, 1, 100_001, dtype=torch.float64)
    lowered = combined(cosines, factor=factor, angle=angle, cosine=cosine)
    assert (lowered.diff() > -1e-12).all()
    # The steepest place is the bound on the sine, with a slope of at most m1² + m2 / sin 0.08°.
    assert (lowered.diff() < 2.001e-5 * (factor**2 + angle / 1.4e-3)).all()
    assert (lowered <= cosines + 1e-7).all()


def test_the_combined_margin_has_the_others_as_special_cases() -> None:
    cosines = INNER_ANGLES.cos()
    as_arcface = combined(cosines, factor=1.0, angle=0.5, cosine=0.0)
    as_cosface = combined(cosines, factor=1.0, angle=0.0, cosine=0.4)
    torch.testing.assert_close(as_arcface, arcface(cosines, margin=0.5))
    torch.testing.assert_close(as_cosface, cosface(cosines, margin=0.4))


def test_adaface_at_quality_0_is_cosface() -> None:
    cosines = INNER_ANGLES.cos()
    ours = adaface(cosines, margin=0.4, quality=torch.zeros_like(cosines))
    torch.testing.assert_close(ours, cosface(cosines, margin=0.4))


def test_adaface_asks_more_of_sharp_images_that_are_near_and_of_blurred_ones_that_are_far() -> None:
    quality = torch.tensor([-1.0, 1.0], dtype=torch.float64)

    def blurred_minus_sharp(cosine: float) -> float:
        cosines = torch.full_like(quality, cosine)
        blurred, sharp = adaface(cosines, margin=0.4, quality=quality).tolist()
        return float(blurred - sharp)

    assert blurred_minus_sharp(0.8) > 0
    assert blurred_minus_sharp(0.8) > blurred_minus_sharp(0.0)


def test_no_gradient_flows_through_quality() -> None:
    quality = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    cosines = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64, requires_grad=True)
    lowered = adaface(cosines, margin=0.4, quality=quality).sum()
    (gradient,) = torch.autograd.grad(lowered, [quality], allow_unused=True)
    assert not isinstance(gradient, Tensor)


def test_quality_is_a_third_of_the_deviation_from_the_mean_within_bounds() -> None:
    mean, std = torch.tensor(20.0), torch.tensor(9.999)
    norms = torch.tensor([1e-9, 0.001, 10.0, 20.0, 30.0, 99.0, 100.0, 1e9])
    expected = [-0.66597, -0.66597, -0.333, 0.0, 0.333, 1.0, 1.0, 1.0]
    assert adaface_quality(norms, mean=mean, std=std).tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("margin", MARGINS)
def test_arcface_torch_has_the_value_of_arcface_and_the_slope_of_none(margin: float) -> None:
    cosines = INNER_ANGLES.cos()
    function = partial(arcface_torch, margin=margin)
    torch.testing.assert_close(function(cosines), (INNER_ANGLES + margin).cos())
    assert slope(function, cosines).equal(torch.ones_like(cosines))


CONFIGURED: dict[str, Margin] = {
    "cosface": partial(cosface, margin=0.4),
    "arcface": partial(arcface, margin=0.5),
    "arcface_torch": partial(arcface_torch, margin=0.5),
    "combined": partial(combined, factor=1.35, angle=0.3, cosine=0.2),
    "adaface": lambda c: adaface(c, margin=0.4, quality=torch.linspace(-1, 1, len(c))),
}


@pytest.mark.parametrize("name", CONFIGURED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_margin_is_finite_at_both_ends_and_a_little_beyond(
    name: str, dtype: torch.dtype
) -> None:
    beyond = 1 + 4 * torch.finfo(dtype).eps
    cosines = torch.tensor([-beyond, -1.0, 1e-6 - 1, 0.0, 1 - 1e-6, 1.0, beyond], dtype=dtype)
    lowered = CONFIGURED[name](cosines)
    assert lowered.dtype == dtype
    assert lowered.isfinite().all()
    assert slope(CONFIGURED[name], cosines).isfinite().all()


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

    right = gradient_of_loss(exact, degrees=degrees)
    theirs = gradient_of_loss(partial(arcface_torch, margin=0.5), degrees=degrees)
    assert ((theirs - right).norm() / right.norm()).item() == pytest.approx(expected, abs=0.01)
