"""From a photo's bytes to an embedding: everything but the network, against 10 ms on one thread.

The photo is a JPEG of 640×480 with one synthetic face. What is timed is `Recognizer.embed` with a
network that answers at once: decoding, detection and alignment. CPU seconds of this process, all
its threads, as the machine may be busy; every step beside the whole, and the quality of the face,
which is measured only for those who ask.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import replace

# One thread, whatever the libraries would choose; before numpy is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
from PIL import Image
from reporting import Row, arguments, paired, rate, report

from openmfr.deploy.model import InputSpec, OnnxModel
from openmfr.deploy.runtime import Recognizer
from openmfr.faces.align import align_face
from openmfr.synthetic.identity import make_identity
from openmfr.synthetic.render import render_face

WIDTH, HEIGHT, FACE = 640, 480, 300
#: Photos per CPU second in 10 ms each.
GOAL_RATE = 100.0
DIM = 512


class NoNetwork(OnnxModel):
    """Answers at once, whatever the face."""

    def __init__(self) -> None:
        self.spec = InputSpec()

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return np.ones((len(images), DIM), np.float32)


def make_photo() -> bytes:
    """A portrait before a soft background, with noise: a JPEG as heavy as a camera's."""
    rng = np.random.default_rng(0)
    small = rng.integers(60, 190, (6, 8, 3), dtype=np.uint8)
    soft = Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    photo = np.asarray(soft) + rng.normal(0, 6, (HEIGHT, WIDTH, 3))
    top, left = (HEIGHT - FACE) // 2, (WIDTH - FACE) // 2
    face = render_face(make_identity(0, 3), rng=np.random.default_rng(5), size=FACE).image
    photo[top : top + FACE, left : left + FACE] = face
    buffer = io.BytesIO()
    Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def steps(recognizer: Recognizer, photo: bytes) -> dict[str, Callable[[], object]]:
    """The whole, and its parts one by one."""
    pixels = recognizer.read(photo)
    (face,) = recognizer.detect(pixels)
    embedded = recognizer.embed(photo)
    return {
        "everything but the network": lambda: recognizer.embed(photo),
        "decode": lambda: recognizer.read(photo),
        "detect": lambda: recognizer.detect(pixels),
        "align": lambda: align_face(pixels, face.landmarks),
        "quality": lambda: replace(embedded).quality,
    }


def main() -> None:
    options = arguments(__doc__ or "")
    repeats, count = (5, 40) if options.quick else (15, 200)
    photo = make_photo()
    work = steps(Recognizer(NoNetwork()), photo)
    for step in work.values():
        rate(step, 10)
    runs = [{name: rate(step, count) for name, step in work.items()} for _ in range(repeats)]
    rows: list[Row] = []
    for number, name in enumerate(work):
        title = f"{name}, {WIDTH}×{HEIGHT}, {len(photo) // 1024} KB, against 10 ms"
        pairs = [(run[name], GOAL_RATE) for run in runs]
        goal = None if number else 1.0
        rows.append(paired(title, pairs, unit="photos/CPU s", goal=goal))
    report("photo", rows, json_path=options.json)


if __name__ == "__main__":
    main()
