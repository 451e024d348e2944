"""Draws the pictures of the documentation, from synthetic faces alone.

    python tools/draw_pictures.py

writes docs/images. It takes some minutes: one picture needs a network, which is trained.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

import openmfr
from openmfr.data.geometry import FOLDER
from openmfr.faces.geometry import face_model
from openmfr.masking.config import MaskConfig, StyleWeights
from openmfr.masking.preview import preview_sheet, sample_faces
from openmfr.masking.render import render_mask
from openmfr.recipes import tiny_synthetic
from openmfr.report.drawing import INK, SERIES, style

OUT = Path(__file__).parents[1] / "docs" / "images"
UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
STYLES = ("surgical", "kn95", "cloth", "scarf")


def figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Make an empty drawing, in inches, of some columns."""
    drawing = Figure(figsize=(width, height), layout="constrained")
    axes = [drawing.add_subplot(1, columns, place + 1) for place in range(columns)]
    for one in axes:
        one.set_axis_off()
    return drawing, axes


def bank(name: str, templates: int = 6) -> openmfr.MaskBank:
    """Draw some masks of a style."""
    styles = StyleWeights.only((name,))
    return MaskConfig(templates=templates, styles=styles, template_size=256).draw_bank()


def masks(store: openmfr.Store) -> None:
    """Faces bare and under every style, as `openmfr mask preview` shows them."""
    banks = [(name, bank(name)) for name in STYLES]
    sheet = preview_sheet(sample_faces(store.path, 4), banks, seed=3, cell=128)
    sheet.save(OUT / "masks.jpg", quality=88)


def rendering(store: openmfr.Store) -> None:
    """From a face to a masked one: the face, its geometry, the sheet, what comes out."""
    geometry = openmfr.Geometry.open(store.path / FOLDER, store)
    image, vertices = store.decode(20), geometry.vertices(20)
    assert vertices is not None
    template = bank("surgical").templates[0]
    shown = render_mask(image, vertices, template)
    drawing, (face, mesh, sheet, alpha, out) = figure(10, 2.4, 5)
    for axes, title, picture in (
        (face, "the photo", image),
        (mesh, "its geometry, fitted once", image),
        (sheet, "a mask, drawn on a flat sheet", template.rgba),
        (alpha, "where it is seen", shown.alpha),
        (out, "rendered, lit as the photo is", shown.image),
    ):
        axes.imshow(picture, cmap="gray", interpolation="bilinear")
        axes.set_title(title, fontsize=9)
    mesh.triplot(
        vertices[:, 0], vertices[:, 1], face_model().triangles, linewidth=0.35, color=SERIES[0]
    )
    mesh.set_xlim(0, image.shape[1])
    mesh.set_ylim(image.shape[0], 0)
    drawing.savefig(OUT / "mask-rendering.jpg", dpi=110, pil_kwargs={"quality": 88})


def cleaning(folder: Path) -> None:
    """One person's images with two strangers among them, and how alike each is to the centre."""
    store, _ = openmfr.synthesise(folder / "people", identities=120, images=12, seed=2)
    config = replace(tiny_synthetic(), holdout_identities=0)
    run = openmfr.Training(config=config, store=store.path).trainer(
        folder / "run", device=torch.device("cpu")
    )
    embedder = openmfr.CheckpointEmbedder(openmfr.Checkpoint.open(run.fit()))
    others, table = openmfr.synthesise(folder / "others", identities=8, images=12, seed=7)
    found = np.asarray(openmfr.embed_store(embedder, others, folder / "embeddings").array)
    shown = np.flatnonzero(table.identity == 1)[[0, 2, 3, 4, 5, 6, 7]].tolist()
    shown.insert(2, int(np.flatnonzero(table.identity == 4)[0]))
    shown.insert(6, int(np.flatnonzero(table.identity == 6)[3]))
    unit = found[shown] / np.linalg.norm(found[shown], axis=1, keepdims=True)
    # To the centre of the others: an image must not speak for itself.
    centers = unit.sum(axis=0) - unit
    scores = (unit * centers).sum(axis=1) / np.linalg.norm(centers, axis=1)
    strangers = (2, 6)
    line = (max(scores[list(strangers)]) + min(np.delete(scores, strangers))) / 2
    drawing, axes = figure(10, 1.6, len(shown))
    for one, index, score in zip(axes, shown, scores, strict=True):
        one.imshow(others.decode(index))
        is_kept = score >= line
        one.set_title(f"{score:.2f}{'' if is_kept else ', left out'}", fontsize=10,
                      color=INK if is_kept else SERIES[1])  # fmt: skip
    drawing.savefig(OUT / "cleaning.jpg", dpi=110, pil_kwargs={"quality": 88})


def box(axes: Axes, x: float, y: float, width: float, text: str, colour: str) -> None:
    """Draw a box with a text."""
    axes.add_patch(
        FancyBboxPatch(
            (x, y), width, 0.62, boxstyle="round,pad=0.02,rounding_size=0.08",
            facecolor=colour + "1c", edgecolor=colour, linewidth=1.2,
        )
    )  # fmt: skip
    axes.text(x + width / 2, y + 0.31, text, ha="center", va="center", fontsize=9)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 1})


def pipeline() -> None:
    """Which command makes what of what."""
    drawing, (axes,) = figure(10, 2.3)
    top = (
        ("photos", ""),
        ("store, labels", "ingest"),
        ("geometry", "mask fit"),
        ("run, checkpoint", "train"),
        ("embeddings", "embed"),
        ("report", "evaluate"),
    )
    for place, (what, command) in enumerate(top):
        box(axes, 1.7 * place, 1.2, 1.25, what, SERIES[0])
        if place:
            arrow(axes, (1.7 * place - 0.42, 1.51), (1.7 * place - 0.03, 1.51))
            x = 1.7 * place - 0.22
            axes.text(x, 1.93, command, ha="center", fontsize=8, style="italic")
    below = ((2, "gallery, service"), (3, "model.onnx"), (4, "cleaned labels"))
    for place, what in below:
        box(axes, 1.7 * place, 0, 1.25, what, SERIES[2])
    for x, command, side in ((5.72, "export", "right"), (7.42, "clean", "left")):
        arrow(axes, (x, 1.16), (x, 0.66))
        shift = 0.1 if side == "left" else -0.1
        axes.text(x + shift, 0.9, command, ha=side, va="center", fontsize=8, style="italic")
    arrow(axes, (5.06, 0.31), (4.69, 0.31))
    axes.text(4.87, 0.42, "serve", ha="center", fontsize=8, style="italic")
    arrow(axes, (6.85, 0.64), (6.3, 1.16))
    axes.text(6.5, 0.74, "again", ha="right", fontsize=8, style="italic")
    axes.set_xlim(-0.1, 9.9)
    axes.set_ylim(-0.1, 2.1)
    drawing.savefig(OUT / "pipeline.svg", metadata={"Date": None})


def sharded() -> None:
    """Prototypes split over ranks: what each holds, and the little that they tell each other."""
    drawing, (axes,) = figure(10, 3.0)
    for rank in range(4):
        x = 2.5 * rank
        box(axes, x, 2.2, 2.1, f"rank {rank}: its 64 images", SERIES[0])
        box(axes, x, 0.55, 2.1, f"prototypes {rank}·C/4 to {rank + 1}·C/4", SERIES[2])
        for other in range(4):
            arrow(axes, (2.5 * other + 1.05, 2.16), (x + 1.05, 1.22))
    axes.text(4.8, 1.69, "embeddings, gathered", ha="center", fontsize=9,
              bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})  # fmt: skip
    axes.annotate("", (-0.1, 0.2), (9.7, 0.2), arrowprops={"arrowstyle": "<->", "color": SERIES[1]})
    axes.text(4.8, -0.12, "one maximum and one sum for each image; no logit ever leaves its rank",
              ha="center", fontsize=9)  # fmt: skip
    axes.set_xlim(-0.2, 9.8)
    axes.set_ylim(-0.3, 2.95)
    drawing.savefig(OUT / "sharded-softmax.svg", metadata={"Date": None})


def main() -> None:
    """Draw them all."""
    OUT.mkdir(exist_ok=True)
    with style("docs"), tempfile.TemporaryDirectory() as name:
        pipeline()
        sharded()
        store, _ = openmfr.synthesise(
            Path(name) / "faces", identities=8, images=8, seed=0, geometry=True
        )
        masks(store)
        rendering(store)
        cleaning(Path(name))


if __name__ == "__main__":
    main()
