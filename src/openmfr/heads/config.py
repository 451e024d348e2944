"""Which loss trains the embeddings, and how its work is done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from openmfr.errors import UserError, nearest, raise_together
from openmfr.heads.margins import adaface, arcface, arcface_torch, combined, cosface

Path = Literal["fused", "dense"]
Backward = Literal["recompute", "keep_exp"]
Update = Literal["fused", "deferred"]
Unsampled = Literal["sparse", "dense_equivalent"]
Gemm = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """Which loss trains the embeddings, and how its work is done.

    The first four fields say what is learned; the others cost time or memory, and change the
    result by rounding only, apart from `sample_rate` and `unsampled`.

    Attributes:
        kind: A name of `MARGINS`: the softmax of scaled cosines with that margin on the target.
            "softmax": the plain linear classifier, the softmax of inner products without bias, as
            embeddings are compared without one; it has neither margin nor scale. The *normalised*
            softmax is "cosface" with margin 0.
        margin: 0 to 1 for "cosface" and "adaface", 0 to π / 2 (radians) for "arcface" and
            "arcface_torch". Small training sets learn faster with a smaller one.
        margins: m1, m2, m3 of "combined", cos(m1 θ + m2) − m3: 1 to 4, 0 to π / 2, 0 to 1.
        scale: Factor of the cosines before the softmax, above 0.
        path: "fused": prototypes are processed in blocks and moved in the backward pass, and the
            logits are never held. "dense": the logits are held and PyTorch differentiates them; a
            reference, and the head of arcface_torch.
        sample_rate: Share of the identities that take part in a step beside those in the batch,
            above 0 to 1 (Partial FC).
        unsampled: What happens to the others. "sparse": they stay as they are. "dense_equivalent":
            momentum and decay move them as a dense optimizer with zero gradient would.
        backward: "recompute" forms the logits again in the backward pass: four matrix products.
            "keep_exp" keeps their exponentials in bfloat16: three, 2 · G · C bytes more, gradients
            within 5e-4.
        update: "fused" moves each block as soon as its gradient is known. "deferred" holds the
            gradient until the backbone's is known to be finite: 4 · C · D bytes more.
        gemm: Type of the matrix products' inputs; the sums are float32.
        block: Prototypes processed at once.

    Raises:
        UserError: If a value is unknown or out of range; all faults together.

    Source:
        MFR paper, Table 9 (CosFace 0.4 best); the scale is arcface_torch's.
    """

    kind: str = "cosface"
    margin: float = 0.4
    margins: tuple[float, float, float] = (1.0, 0.0, 0.0)
    scale: float = 64.0
    path: Path = "fused"
    sample_rate: float = 1.0
    unsampled: Unsampled = "sparse"
    backward: Backward = "recompute"
    update: Update = "fused"
    gemm: Gemm = "float32"
    block: int = 1024

    def __post_init__(self) -> None:
        raise_together(list(self._faults()))

    @property
    def has_cosines(self) -> bool:
        """Whether embeddings and prototypes are compared by their directions alone."""
        return self.kind != "softmax"

    @property
    def logit_scale(self) -> float:
        """Factor of the products before the softmax."""
        return self.scale if self.has_cosines else 1.0

    def lower(self, cosines: Tensor, quality: Tensor | None) -> Tensor:
        """Apply the margin to the targets' cosines, (T,).

        Args:
            cosines: cos θ, or inner products with the plain softmax.
            quality: Of the images, for "adaface".
        """
        return MARGINS[self.kind].lower(cosines, self, quality) if self.has_cosines else cosines

    def _faults(self) -> Iterable[UserError]:
        kinds = ("softmax", *MARGINS)
        if self.kind not in kinds:
            yield UserError(
                where="head.kind",
                found=self.kind,
                allowed=", ".join(kinds),
                next_step=nearest(self.kind, kinds),
            )
        margin = MARGINS.get(self.kind, MARGINS["cosface"])
        m1, m2, m3 = self.margins
        checks = {
            "margin": (
                0 <= self.margin <= margin.largest,
                f"0 to {margin.largest:.3g}",
                f"use {margin.usual}",
            ),
            "margins": (
                1 <= m1 <= 4 and 0 <= m2 <= math.pi / 2 and 0 <= m3 <= 1,
                "1 to 4, 0 to 1.57, 0 to 1",
                "use (1, 0.3, 0.2)",
            ),
            "scale": (
                0 < self.scale < math.inf,
                "above 0",
                "use 64, or 30 for a few hundred identities",
            ),
            "sample_rate": (0 < self.sample_rate <= 1, "above 0 to 1", "use 0.1 to 0.3, or 1"),
            "block": (self.block >= 1, "from 1", "leave it out"),
        }
        choices = {
            "path": Path,
            "unsampled": Unsampled,
            "backward": Backward,
            "update": Update,
            "gemm": Gemm,
        }
        for name, values in choices.items():
            allowed = get_args(values)
            found = getattr(self, name)
            checks[name] = (found in allowed, ", ".join(allowed), nearest(str(found), allowed))
        if self.path == "dense":
            checks["sample_rate"] = (
                self.sample_rate == 1,
                'only 1 with path="dense"',
                'use path="fused"',
            )
        for name, (is_valid, allowed_values, next_step) in checks.items():
            if not is_valid:
                yield UserError(
                    where=f"head.{name}",
                    found=str(getattr(self, name)),
                    allowed=allowed_values,
                    next_step=next_step,
                )


@dataclass(frozen=True, kw_only=True)
class Margin:
    """A margin that a head can be configured with.

    Attributes:
        lower: Lowers the targets' cosines: (cosines, the head's configuration, image quality).
        largest: Largest `HeadConfig.margin` that makes sense.
        usual: A margin that works for large training sets.
    """

    lower: Callable[[Tensor, HeadConfig, Tensor | None], Tensor]
    largest: float = 1.0
    usual: float = 0.4


def _combined(cosines: Tensor, config: HeadConfig, _quality: Tensor | None) -> Tensor:
    factor, angle, cosine = config.margins
    return combined(cosines, factor=factor, angle=angle, cosine=cosine)


def _adaface(cosines: Tensor, config: HeadConfig, quality: Tensor | None) -> Tensor:
    if quality is None:
        raise ValueError("adaface needs the images' quality")
    return adaface(cosines, margin=config.margin, quality=quality)


#: Margins by the name that `HeadConfig.kind` takes.
MARGINS = {
    "cosface": Margin(lower=lambda c, config, _: cosface(c, margin=config.margin)),
    "arcface": Margin(
        lower=lambda c, config, _: arcface(c, margin=config.margin), largest=math.pi / 2, usual=0.5
    ),
    "arcface_torch": Margin(
        lower=lambda c, config, _: arcface_torch(c, margin=config.margin),
        largest=math.pi / 2,
        usual=0.5,
    ),
    "combined": Margin(lower=_combined),
    "adaface": Margin(lower=_adaface),
}
