"""How a photo looks when its face wears a mask: surface, light, bands, blending."""

from openmfr.masking.render.mask import Masked, Worn, check, render_mask, unchanged

__all__ = ["Masked", "Worn", "check", "render_mask", "unchanged"]
