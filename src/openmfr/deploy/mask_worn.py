"""Whether a face wears a mask, from its aligned crop, without torch.

A network of 0.3 MB, which openmfr brings along: it was trained on synthetic faces alone, each once
bare and once masked (`openmfr mask learn`), and measured on real ones. Beards, hands and dark
glasses are no masks, nor is a mask below the mouth.

    classifier = MaskClassifier()
    probability = classifier.worn(aligned)  # uint8 (N, 112, 112, 3) → float32 (N,)
"""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from openmfr.deploy.engine import Engine, open_engine
from openmfr.errors import UserError
from openmfr.faces.align import TEMPLATE_SIZE

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]

FORMAT_VERSION: Final = "1"
#: Key of the metadata of files that `openmfr mask learn` wrote.
VERSION_KEY: Final = "openmfr.mask_worn.format_version"
#: Names of the graph's input and output.
IMAGE, WORN = "image", "worn"
#: From this probability on a mask counts as worn.
THRESHOLD: Final = 0.5

_BATCH: Final = 64


class MaskClassifier:
    """Says how probably a mask is worn; safe to share between threads.

    Args:
        path: What `openmfr mask learn` wrote; by default the network that openmfr brings along.
        threads: How many compute one call; one by default, as one is enough.

    Raises:
        UserError: If the file is unreadable, or no such network.

    Example: `MaskClassifier().worn(face.aligned[None])[0]`
    """

    def __init__(self, path: Path | str | None = None, *, threads: int = 1) -> None:
        if path is not None:
            self._engine = _open(Path(path), threads)
            return
        with as_file(files("openmfr.deploy") / "mask_worn.onnx") as own:
            self._engine = _open(own, threads)

    def worn(self, faces: UInt8Array) -> Float32Array:
        """Say how probably each face wears a mask.

        A mask below the mouth counts as none.

        Args:
            faces: Aligned, RGB, uint8, shape (N, S, S, 3); scaled to 112 pixels if S is another.

        Returns:
            Probabilities, float32, shape (N,).

        Raises:
            UserError: If the faces have another shape or type.
        """
        if faces.dtype != np.uint8 or faces.ndim != 4 or faces.shape[3] != 3:
            raise UserError(
                where="faces",
                found=f"{faces.dtype} {faces.shape}",
                allowed=f"uint8 (N, {TEMPLATE_SIZE}, {TEMPLATE_SIZE}, 3)",
                next_step="align them: openmfr.faces.align.align_face",
            )
        if not len(faces):
            return np.zeros(0, np.float32)
        scaled = _scale(faces)
        parts = [
            self._engine.run(scaled[first : first + _BATCH])[WORN]
            for first in range(0, len(scaled), _BATCH)
        ]
        return np.concatenate(parts).astype(np.float32, copy=False)


def said_of_masks(*, masked: bool, bare: bool) -> bool | None:
    """Read a command's two flags: True, False, or None if neither was given.

    Raises:
        UserError: If both were.

    Example:
        >>> said_of_masks(masked=False, bare=True), said_of_masks(masked=False, bare=False)
        (False, None)
    """
    if masked and bare:
        raise UserError(
            where="--masked, --bare",
            found="both",
            allowed="one of them",
            next_step="leave both out, and each face is looked at",
        )
    return masked if masked or bare else None


def is_worn(probability: float | None, *, said: bool | None) -> bool:
    """Decide whether a mask is worn: what the user said, or else what was seen.

    Args:
        probability: From `MaskClassifier.worn`; None if nobody looked, which counts as bare.
        said: What the user said, or None.

    Example:
        >>> is_worn(0.9, said=None), is_worn(0.9, said=False), is_worn(None, said=None)
        (True, False, False)
    """
    if said is not None:
        return said
    return probability is not None and probability >= THRESHOLD


def _open(path: Path, threads: int) -> Engine:
    engine = open_engine(path, runtime="onnxruntime", threads=threads, providers=None)
    version = engine.metadata.get(VERSION_KEY)
    if version != FORMAT_VERSION:
        raise UserError(
            where=str(path),
            found=f"format {version}" if version else "another ONNX network",
            allowed=f"a mask classifier of format {FORMAT_VERSION}",
            next_step="openmfr mask learn makes one; leave it out for openmfr's own",
        )
    return engine


def _scale(faces: UInt8Array) -> UInt8Array:
    if faces.shape[1:3] == (TEMPLATE_SIZE, TEMPLATE_SIZE):
        return np.ascontiguousarray(faces)
    size = (TEMPLATE_SIZE, TEMPLATE_SIZE)
    # Pillow's bilinear averages where it shrinks.
    scaled = [
        np.asarray(Image.fromarray(face).resize(size, Image.Resampling.BILINEAR)) for face in faces
    ]
    return np.stack(scaled)
