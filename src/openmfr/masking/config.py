"""Which masks are worn, and how often: what a recipe says of masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

from openmfr.errors import UserError, check_fields, raise_together
from openmfr.masking.bank import STYLE_WEIGHTS, MaskBank

#: "rendered": in 3D, lit as the photo is. "flat": a picture laid over the photo, as 2D tools do.
#: "erase": the lower half in one colour. The last two are there to be compared with.
MaskKind = Literal["rendered", "flat", "erase"]
MASK_KINDS: tuple[str, ...] = get_args(MaskKind)


@dataclass(frozen=True, kw_only=True)
class StyleWeights:
    """How often each style is worn, relative to the others; 0 leaves one out.

    Attributes:
        surgical: Pleated, with ear loops.
        kn95: A respirator with a fold or a beak.
        cloth: Sewn, in all patterns.
        scarf: Scarves and gaiters.
    """

    surgical: float = STYLE_WEIGHTS["surgical"]
    kn95: float = STYLE_WEIGHTS["kn95"]
    cloth: float = STYLE_WEIGHTS["cloth"]
    scarf: float = STYLE_WEIGHTS["scarf"]

    def __post_init__(self) -> None:
        weights = asdict(self)
        errors = [
            UserError(
                where=f"masks.styles.{name}",
                found=f"{weight:g}",
                allowed="from 0",
                next_step="use 0 to leave a style out",
            )
            for name, weight in weights.items()
            if not 0 <= weight < math.inf
        ]
        raise_together(errors)
        if not sum(weights.values()) > 0:
            raise UserError(
                where="masks.styles",
                found="all 0",
                allowed="at least one above 0",
                next_step="name a style",
            )

    @classmethod
    def only(cls, names: Sequence[str]) -> StyleWeights:
        """Weigh some styles as by default and leave the others out.

        Raises:
            UserError: If a name is unknown.

        Example:
            >>> StyleWeights.only(["cloth"])
            StyleWeights(surgical=0.0, kn95=0.0, cloth=0.3, scarf=0.0)
        """
        known = asdict(cls())
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise UserError(
                where="style",
                found=", ".join(unknown),
                allowed=", ".join(known),
                next_step="name some of them",
            )
        return cls(**{name: weight if name in names else 0.0 for name, weight in known.items()})


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """How many images wear a mask in each epoch, and which masks there are.

    Attributes:
        probability: Of each image in each epoch, 0–1; 0 switches masks off. The paper takes 0.15.
        kind: How a mask gets into the picture.
        styles: How often each style is worn; a user's own templates take no notice of it.
        templates: Masks drawn before training begins, from which every image takes one.
        template_size: Edge of their sheets in texels.
        seed: Of the templates; another seed draws other masks.
    """

    probability: float = 0.0
    kind: MaskKind = "rendered"
    styles: StyleWeights = field(default_factory=StyleWeights)
    templates: int = 200
    template_size: int = 192
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {
            "probability": (0 <= self.probability <= 1, "0 to 1"),
            "kind": (self.kind in MASK_KINDS, ", ".join(MASK_KINDS)),
            "templates": (self.templates >= 1, "from 1"),
            "template_size": (32 <= self.template_size <= 2048, "32 to 2048"),
            "seed": (self.seed >= 0, "from 0"),
        }
        check_fields(self, limits, next_step="correct the value", within="masks.")

    @property
    def needs_geometry(self) -> bool:
        """Whether these masks need to know where faces are."""
        return self.probability > 0 and self.kind != "erase"

    def draw_bank(self) -> MaskBank:
        """Draw the templates; a second or a few."""
        return MaskBank.drawn(
            self.templates,
            seed=self.seed,
            styles=asdict(self.styles),
            size=self.template_size,
        )
