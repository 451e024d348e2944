"""How `src/openmfr/deploy/mask_worn.onnx` was made: from synthetic faces alone.

    python tools/mask_worn.py OUT.onnx FACES

FACES is a folder to make them in, 2,000 of 1,000 people. Some ten minutes on one CPU; everything
follows from the seeds. `openmfr mask learn` does the same with faces of your own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from openmfr.data.geometry import Geometry
from openmfr.synthetic.dataset import synthesise
from openmfr.train.mask_learning import LearnConfig, learn, save

PEOPLE, IMAGES, SEED = 1_000, 2, 72


def main() -> None:
    """Make the file."""
    out, faces = map(Path, sys.argv[1:])
    torch.set_num_threads(1)  # sums are rounded otherwise by several
    store, labels = synthesise(faces, identities=PEOPLE, images=IMAGES, seed=SEED, geometry=True)
    learnt = learn(store, labels, Geometry.open(faces / "geometry", store), LearnConfig())
    print(f"{out}: {save(learnt, out):,} bytes, trained on {learnt.trained_on:,} examples")
    print(f"misses {learnt.misses:.3f}, false alarms {learnt.false_alarms:.3f}")


if __name__ == "__main__":
    main()
