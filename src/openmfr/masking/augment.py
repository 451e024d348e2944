"""Masks while training: which image of which epoch wears one, and which; decided by number alone.

Every draw depends on the seed, the epoch and the image's place in its store, so the masks are the
same whatever the number of worker processes or ranks, and in a run that was resumed.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from openmfr.data.geometry import Geometry
from openmfr.errors import UserError
from openmfr.faces.align import TEMPLATE_SIZE
from openmfr.faces.geometry import face_model
from openmfr.masking.bank import MaskBank
from openmfr.masking.baselines import erase_lower, overlay_flat
from openmfr.masking.config import MaskConfig
from openmfr.masking.render import Masked, render_mask
from openmfr.masking.template import MaskTemplate
from openmfr.masking.wear import Wear, draw_wear

UInt8Array = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]

#: Keeps these draws apart from others that take the same seed.
_WHICH = 0x3D1


class Masker:
    """Puts masks on images of one store.

    Args:
        config: How often, and which.
        seed: Of who wears what when; beside that of the templates.
        geometry: Where the faces are; None will do for "erase".
        bank: The templates; drawn as the configuration says if None.
        is_masked: Images of the store that wear a real mask and get no other, shape (N,), bool.
    """

    def __init__(
        self,
        config: MaskConfig,
        *,
        seed: int,
        geometry: Geometry | None = None,
        bank: MaskBank | None = None,
        is_masked: BoolArray | None = None,
    ) -> None:
        if config.needs_geometry and geometry is None:
            raise UserError(
                where="masks",
                found="no geometry of the faces",
                allowed="what openmfr mask fit STORE writes",
                next_step='run it, or take masks of the kind "erase", which need none',
            )
        self.config = config
        self.seed = seed
        self._geometry = geometry
        self._is_masked = is_masked
        self._bank = bank or (config.draw_bank() if config.needs_geometry else None)
        if self._bank is not None and config.kind == "rendered":
            _make_ready(self._bank)

    @property
    def settings(self) -> dict[str, str]:
        """What decides the masks beside the configuration, by name."""
        if self._bank is None or self._geometry is None:
            return {}
        return {"geometry": self._geometry.fingerprint, "templates": self._bank.fingerprint}

    def mask(self, image: UInt8Array, *, index: int, epoch: int = 0) -> tuple[Masked, str] | None:
        """Put a mask on an image, if it is its turn and its face is known.

        Args:
            image: RGB, uint8, shape (H, W, 3); left as it is.
            index: Its place in the store.
            epoch: From 0.

        Returns:
            The masked image and the mask's style, or None if it stays as it is.
        """
        if not self.is_due(index, epoch=epoch):
            return None
        worn = self.worn(index, epoch=epoch)
        if worn is None or self._geometry is None:
            rng = np.random.default_rng([self.seed, epoch, index, _WHICH])
            return erase_lower(image, rng), "erase"
        vertices = self._geometry.vertices(index)
        if vertices is None:
            return None
        template, wear = worn
        put_on = overlay_flat if self.config.kind == "flat" else render_mask
        return put_on(image, vertices, template, wear), template.style

    def worn(self, index: int, *, epoch: int = 0) -> tuple[MaskTemplate, Wear] | None:
        """Which mask an image wears when it is its turn, and how; None where halves are erased."""
        if self._bank is None or self._geometry is None:
            return None
        rng = np.random.default_rng([self.seed, epoch, index, _WHICH])
        return self._bank.pick(rng), draw_wear(rng)

    def is_due(self, index: int, *, epoch: int = 0) -> bool:
        """Whether it is an image's turn to wear a mask, whether or not its face is known."""
        if self._is_masked is not None and self._is_masked[index]:
            return False
        if self.config.probability >= 1:
            return True
        # A hash, as every image of every epoch is asked for: a generator takes longer to make.
        draw = blake2b(b"%d %d %d" % (self.seed, epoch, index), digest_size=8).digest()
        return int.from_bytes(draw) < self.config.probability * 2**64

    def __call__(self, image: UInt8Array, index: int, epoch: int) -> None:
        """Mask an image in place, as the loader asks for it."""
        masked = self.mask(image, index=index, epoch=epoch)
        if masked is not None:
            image[...] = masked[0].image


def _make_ready(bank: MaskBank) -> None:
    """Compile, and prepare each template, before the first step and before the workers fork.

    Otherwise every worker does it for itself, keeps it in memory of its own, and is slow at first.
    """
    image = np.full((TEMPLATE_SIZE, TEMPLATE_SIZE, 3), 127, np.uint8)
    middle = np.array([TEMPLATE_SIZE / 2, TEMPLATE_SIZE / 2, 0], np.float32)
    vertices = face_model().mean * np.float32(TEMPLATE_SIZE / 2) + middle
    for template in bank.templates:
        render_mask(image, vertices, template)
