"""Margins: how much harder a head makes the true identity than it is.

Let θ be the angle between an embedding and the prototype of its identity. A margin replaces cos θ
by something smaller, so that the network must bring θ well below what would be enough. All other
logits stay as they are: a margin is a function of the target's cosine alone, which is why a head
that is sharded or sampled can apply it where the target lies.

Each function is elementwise, keeps the shape and the floating type of `cosines`, grows with the
cosine everywhere (a closer embedding is never punished), and has a finite gradient on [−1, 1] and
for cosines that rounding has put a little outside. Two break the second promise, as their
originals do: `arcface_torch` rises again past π − m, and `adaface` is flat where its angle would
leave 0 to π.

Where an angle is needed, its sine is held at or above that of a cosine of 1 − 1e-6 (θ = 0.08°):
nearer to a prototype than that, the slope sin(θ + m) / sin θ would have no bound.

Gradients are those of the function itself. arcface_torch applies its ArcFace margin outside of
autograd, which leaves out the derivative sin(θ + m) / sin θ; at m = 0.5 that changes the gradient
by an embedding by about 12 % at θ = 90°, 4 % at 80°, nothing at 76° and 12 % again at 60°.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Cosines nearer to ±1 than this take the sine of the bound.
CLOSEST = 1e-6

#: AdaFace: normalised quality is cut off at this many standard deviations, times this factor.
QUALITY_CONCENTRATION = 0.333


def cosface(cosines: Tensor, *, margin: float) -> Tensor:
    """Lower the target's cosine by a constant: cos θ − m.

    Args:
        cosines: cos θ of embeddings and their own prototypes, any shape, −1 to 1.
        margin: m, 0 or more; 0 is the normalised softmax.

    Returns:
        The lowered cosines, −1 − m to 1 − m.

    Source:
        CosFace, https://arxiv.org/abs/1801.09414, eq. 4.

    Example:
        >>> cosface(torch.tensor([1.0, 0.5]), margin=0.25)
        tensor([0.7500, 0.2500])
    """
    return cosines - margin


def arcface(cosines: Tensor, *, margin: float) -> Tensor:
    """Widen the target's angle by a constant: cos(θ + m).

    Past θ = π − m, where cos(θ + m) would rise again, the cosine is lowered by the constant
    1 − cos m instead, which continues the function without a jump and with slope 1. (insightface
    lowers it by m · sin m there, which leaves a jump of 0.12 at m = 0.5; arcface_torch lets the
    function rise.)

    Args:
        cosines: cos θ of embeddings and their own prototypes, any shape, −1 to 1.
        margin: m in radians, 0 to π / 2.

    Returns:
        The lowered cosines, −2 + cos m to cos m.

    Source:
        ArcFace, https://arxiv.org/abs/1801.07698, eq. 3.

    Example:
        >>> degrees = torch.tensor([30.0, 90.0, 180.0])
        >>> arcface(degrees.deg2rad().cos(), margin=math.pi / 6)
        tensor([ 0.5000, -0.5000, -1.1340])
    """
    return combined(cosines, factor=1.0, angle=margin, cosine=0.0)


def arcface_torch(cosines: Tensor, *, margin: float) -> Tensor:
    """ArcFace as arcface_torch computes it, to repeat its recipes: right value, rough gradient.

    The value is cos(θ + m) everywhere, also past θ = π − m, where it rises. The gradient is that of
    cos θ: the derivative sin(θ + m) / sin θ is left out.

    Args:
        cosines: cos θ of embeddings and their own prototypes, any shape, −1 to 1.
        margin: m in radians, 0 to π / 2.

    Source:
        insightface, recognition/arcface_torch/losses.py, `CombinedMarginLoss` with m1 = 1, m3 = 0.

    Example:
        >>> cosines = torch.tensor([0.5], requires_grad=True)
        >>> arcface_torch(cosines, margin=math.pi / 6).sum().backward()
        >>> cosines.grad
        tensor([1.])
    """
    widened = cosines * math.cos(margin) - _sines(cosines) * math.sin(margin)
    return cosines + (widened - cosines).detach()


def combined(cosines: Tensor, *, factor: float, angle: float, cosine: float) -> Tensor:
    """All three margins at once: cos(m1 θ + m2) − m3.

    Past m1 θ + m2 = π, where the cosine would rise again, the function goes on with slope 1 in
    cos θ and without a jump.

    Args:
        cosines: cos θ of embeddings and their own prototypes, any shape, −1 to 1.
        factor: m1, 1 or more (SphereFace).
        angle: m2 in radians, 0 to π / 2 (ArcFace).
        cosine: m3, 0 or more (CosFace).

    Source:
        ArcFace, https://arxiv.org/abs/1801.07698, eq. 4.

    Example:
        >>> cosines = torch.tensor([0.5, 0.0])
        >>> combined(cosines, factor=1.0, angle=math.pi / 6, cosine=0.2)
        tensor([-0.2000, -0.7000])
    """
    sines = _sines(cosines)
    if factor == 1.0:
        widened = cosines * math.cos(angle) - sines * math.sin(angle)
    else:
        widened = torch.cos(factor * torch.atan2(sines, cosines) + angle)
    turn = math.cos((math.pi - angle) / factor)  # the cosine where m1 θ + m2 = π
    beyond = cosines - (1 + turn)
    return torch.where(cosines > turn, widened, beyond) - cosine


def adaface(cosines: Tensor, *, margin: float, quality: Tensor) -> Tensor:
    """A margin that asks more of sharp images than of blurred ones: cos(θ − m q) − m (1 + q).

    An embedding's length says how good its image is. Where it is large (q = 1) the angle is
    narrowed and the cosine lowered by 2 m, where it is small (q = −1) the angle alone is widened,
    as in ArcFace; at q = 0 this is CosFace.

    Args:
        cosines: cos θ of embeddings and their own prototypes, any shape, −1 to 1.
        margin: m, 0 to 1.
        quality: q of each image, −1 to 1, of the shape of `cosines`; `adaface_quality` gives it. No
            gradient flows through it.

    Source:
        AdaFace, https://arxiv.org/abs/2204.00964, eq. 12 to 16; the angle is kept within 0 and π,
        as in its published code.

    Example:
        >>> cosines = torch.tensor([0.5, 0.5, 0.5])
        >>> adaface(cosines, margin=0.4, quality=torch.tensor([-1.0, 0.0, 1.0]))
        tensor([ 0.1233,  0.1000, -0.0022])
    """
    quality = quality.detach().to(cosines.dtype)
    theta = torch.atan2(_sines(cosines), cosines)
    closest = math.acos(1 - CLOSEST)
    widened = torch.cos((theta - margin * quality).clamp(closest, math.pi - closest))
    return widened - margin * (1 + quality)


def adaface_quality(norms: Tensor, *, mean: Tensor, std: Tensor) -> Tensor:
    """Turn the lengths of embeddings into AdaFace's image quality.

    Args:
        norms: ‖embedding‖, any shape; taken as at least 0.001 and at most 100.
        mean: Running mean of the norms, a scalar.
        std: Their running standard deviation, a scalar.

    Returns:
        −1 to 1, of the shape of `norms`: a third of a standard deviation's distance from the mean.

    Source:
        AdaFace, https://arxiv.org/abs/2204.00964, eq. 11 (h = 0.333).

    Example:
        >>> mean, std = torch.tensor(20.0), torch.tensor(10.0)
        >>> adaface_quality(torch.tensor([20.0, 50.0]), mean=mean, std=std)
        tensor([0.0000, 0.9989])
    """
    scaled = (norms.clamp(0.001, 100) - mean) / (std + 1e-3) * QUALITY_CONCENTRATION
    return scaled.clamp(-1, 1)


def _sines(cosines: Tensor) -> Tensor:
    # (1 − c)(1 + c) keeps its digits near ±1, where 1 − c² has lost them.
    smallest = 1 - (1 - CLOSEST) ** 2
    return ((1 - cosines) * (1 + cosines)).clamp_min(smallest).sqrt()
