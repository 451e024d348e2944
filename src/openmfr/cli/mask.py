"""`openmfr mask WHAT`: everything that puts masks on faces; each part is a module of its own."""

from __future__ import annotations

#: WHAT → what goes in and what comes out; `openmfr.cli.mask_WHAT` has its `main`.
PARTS: dict[str, str] = {
    "fit": "a store → the geometry of its faces, which the others need",
    "render": "a store or photos → the same with masks",
    "preview": "photos → a contact sheet of them under all styles",
    "guide": "nothing → a picture of a mask's layout, to draw your own upon",
    "lift": "a photo of a masked face → its mask as a template",
    "learn": "a store → a network that sees whether a mask is worn",
}

#: The help ends with it.
EXAMPLE = "openmfr mask fit faces"
