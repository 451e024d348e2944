"""Margins: how much harder a head makes the true identity than it is.

Let θ be the angle between an embedding and the prototype of its identity. A margin replaces cos θ
by something smaller, so that the network must bring θ well below what would be enough. All other
logits stay as they are: a margin is a function of the target's cosine alone, which is why a head
that is sharded or sampled can apply it where the target lies.

Each function is elementwise, keeps the shape and the floating type of `cosines`, grows with the
cosine everywhere (a closer embedding is never punished), and has a finite gradient on [−1, 1] and
for cosines that rounding has put a little outside.

Gradients are those of the function itself. arcface_torch applies its ArcFace margin outside of
autograd, which leaves out the derivative sin(θ + m) / sin θ; at m = 0.5 that changes the gradient
by an embedding by about 12 % at θ = 90°, 4 % at 80°, nothing at 76° and 12 % again at 60°.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


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
        The lowered cosines, −2 + cos m to cos m. At θ = 0, where the slope sin(θ + m) / sin θ has
        no bound, the gradient is cos m.

    Source:
        ArcFace, https://arxiv.org/abs/1801.07698, eq. 3.

    Example:
        >>> degrees = torch.tensor([0.0, 30.0, 90.0, 180.0])
        >>> arcface(degrees.deg2rad().cos(), margin=math.pi / 6)
        tensor([ 0.8660,  0.5000, -0.5000, -1.1340])
    """
    # (1 − c)(1 + c) keeps its digits near ±1, where 1 − c² has lost them. At ±1 the clamp stops
    # the square root's infinite gradient, which torch.where would turn into NaN even at −1.
    smallest = torch.finfo(cosines.dtype).eps ** 2
    sines = ((1 - cosines) * (1 + cosines)).clamp_min(smallest).sqrt()
    widened = cosines * math.cos(margin) - sines * math.sin(margin)
    lowered = cosines - (1 - math.cos(margin))
    return torch.where(cosines > -math.cos(margin), widened, lowered)


@dataclass(frozen=True, kw_only=True)
class Margin:
    """A margin that a head can be configured with.

    Attributes:
        apply: Lowers the targets' cosines, called with `margin`.
        largest: Largest margin that makes sense.
        usual: A margin that works for large training sets.
    """

    apply: Callable[..., Tensor]
    largest: float
    usual: float


#: Margins by the name that `HeadConfig.kind` takes.
MARGINS = {
    "cosface": Margin(apply=cosface, largest=1.0, usual=0.4),
    "arcface": Margin(apply=arcface, largest=math.pi / 2, usual=0.5),
}
