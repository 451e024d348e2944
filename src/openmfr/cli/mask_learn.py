"""`openmfr mask learn`: bare faces → a network that sees whether a mask is worn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro


def main(
    store: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="STORE")],
    out: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="OUT.onnx")],
    *,
    faces: int = 4_000,
    epochs: int = 4,
    seed: int = 0,
    labels: Path | None = None,
    geometry: Path | None = None,
    templates: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Train the small network that says whether a face wears a mask.

    openmfr brings one along, trained on synthetic faces. Train another if yours are taken otherwise
    (infrared, from the side) or wear other masks: masks are rendered onto bare faces of a store,
    and the faces of a tenth of the people are set aside to measure on. A few minutes.

    Example: openmfr mask learn faces mask_worn.onnx, after openmfr mask fit faces

    Then, in Python: Recognizer("model.onnx", masks=MaskClassifier("mask_worn.onnx")).

    Args:
        store: The store's folder.
        out: File to write.
        faces: At most so many of its faces, chosen at random.
        epochs: How often each example is seen.
        seed: Of everything that is drawn.
        labels: Label table of the store; STORE/labels.parquet by default. Faces that wear real
            masks are left alone.
        geometry: What openmfr mask fit wrote; STORE/geometry by default.
        templates: Folder of your own mask templates (openmfr mask guide), instead of drawn ones.
        overwrite: Replace a file that exists.
    """
    from openmfr.data.geometry import Geometry
    from openmfr.data.labels import Labels
    from openmfr.data.store import Store
    from openmfr.masking.bank import MaskBank
    from openmfr.train.mask_learning import LearnConfig, check_out, learn, save

    check_out(out, overwrite=overwrite)
    opened = Store(store)
    learnt = learn(
        opened,
        Labels.read(labels or store / "labels.parquet"),
        Geometry.open(geometry or store / "geometry", opened),
        LearnConfig(faces=faces, epochs=epochs, seed=seed),
        bank=MaskBank.read(templates) if templates else None,
    )
    size = save(learnt, out)
    print(f"{out}: {size / 1e3:.0f} KB, trained on {learnt.trained_on:,} examples")
    print(
        f"  of {learnt.held_out:,} of other people: {learnt.misses:.1%} of masks missed, "
        f"{learnt.false_alarms:.1%} of bare faces taken for masked"
    )
