"""Draw synthetic people, each under many conditions: the picture at the head of the documentation.

    python examples/synthetic_people.py --out people.png
    python examples/synthetic_people.py --out one.png --people 1 --images 40

What changes within a row (pose, expression, light, camera, background) says nothing about who it
is. What stays (shape, skin, hair, brows, eyes) is the identity.
"""

from __future__ import annotations

from pathlib import Path

import tyro

from openmfr.report.sheet import contact_sheet
from openmfr.synthetic.identity import image_rng, make_identity
from openmfr.synthetic.render import render_face


def main(
    *, out: Path = Path("people.png"), people: int = 4, images: int = 8, seed: int = 0
) -> None:
    """Draw one row of faces for each person.

    Args:
        out: PNG or JPEG to write.
        people: How many people.
        images: Images of each.
        seed: Another seed makes other people.
    """
    faces = []
    for number in range(people):
        person = make_identity(seed, number)
        shots = (image_rng(seed, number, image) for image in range(images))
        faces += [render_face(person, rng=rng).image for rng in shots]
    sheet = contact_sheet(faces, columns=min(images, 10), cell=80)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out)


if __name__ == "__main__":
    tyro.cli(main)
