"""What an ONNX network's input means: shape, type, order of colours, and normalisation.

An ONNX file says what shape its input has, and not what its numbers are. Files that openmfr wrote
say that too, in their metadata; for any other file it is declared, never guessed: an embedding made
with swapped colours looks like any other and is a little worse.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from openmfr.config import from_dict
from openmfr.errors import UserError, raise_together
from openmfr.files import read_json

UInt8Array = npt.NDArray[np.uint8]

Color = Literal["RGB", "BGR"]
Layout = Literal["NHWC", "NCHW"]
PixelType = Literal["uint8", "float32"]

#: What InsightFace's recognisers take.
INSIGHTFACE: Final = "RGB,127.5,127.5"


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """What the graph of an ONNX file cannot say of its input.

    Attributes:
        color: Order of the three channels.
        mean: Taken from each value of 0–255 …
        std: … which is then divided by this.
    """

    color: Color = "RGB"
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        raise_together(self._faults())

    def _faults(self) -> list[UserError]:
        faults = []
        if self.color not in get_args(Color):
            faults.append(_fault("color", self.color, "RGB or BGR", "say which"))
        if not np.isfinite(self.mean):
            faults.append(_fault("mean", self.mean, "a number", "many networks take 127.5"))
        if not 0 < self.std < float("inf"):
            faults.append(_fault("std", self.std, "above 0", "many networks take 127.5"))
        return faults


@dataclass(frozen=True, kw_only=True)
class InputSpec(Pixels):
    """What an ONNX network takes: aligned faces as it wants them.

    Attributes:
        height: Of the image that it sees, in pixels.
        width: Of the image that it sees, in pixels.
        layout: Order of the axes.
        dtype: Type of the values.
        aligned_size: Edge in pixels of the aligned face that the image is cut from; None: the
            larger of height and width. The image is its middle: one of 112 × 96 has columns 8 to
            103.

    Example:
        >>> InputSpec(height=112, width=96).aligned_size
        112
    """

    height: int = 112
    width: int = 112
    layout: Layout = "NHWC"
    dtype: PixelType = "uint8"
    aligned_size: int | None = None

    def __post_init__(self) -> None:
        if self.aligned_size is None:
            object.__setattr__(self, "aligned_size", max(self.height, self.width))
        super().__post_init__()

    def _faults(self) -> list[UserError]:
        faults = super()._faults()
        for name, choices in (("layout", get_args(Layout)), ("dtype", get_args(PixelType))):
            if getattr(self, name) not in choices:
                faults.append(_fault(name, getattr(self, name), " or ".join(choices), "say which"))
        if not 1 <= min(self.height, self.width) <= max(self.height, self.width) <= self.face_size:
            size = f"{self.height} × {self.width} of {self.face_size} pixels"
            allowed = "from 1 to the edge of the aligned face"
            faults.append(_fault("height, width", size, allowed, "correct them"))
        if self.dtype == "uint8" and (self.mean, self.std) != (0.0, 1.0):
            found = f"{self.mean:g} and {self.std:g} for an input of uint8"
            faults.append(
                _fault("mean, std", found, "0 and 1", "the graph normalises bytes itself")
            )
        return faults

    @property
    def face_size(self) -> int:
        """Edge in pixels of the aligned face that is given."""
        assert self.aligned_size is not None
        return self.aligned_size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image as the network sees it."""
        if self.layout == "NCHW":
            return 3, self.height, self.width
        return self.height, self.width, 3

    def to_json(self) -> str:
        """Write it as one JSON object."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, *, where: str) -> InputSpec:
        """Read what `to_json` wrote.

        Args:
            text: A JSON object; what it leaves out has its default.
            where: Name of the file, for errors.

        Raises:
            UserError: If it is no JSON object, or has a field that is unknown or out of range.
        """
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise _not_json(where, str(error)) from error
        if not isinstance(content, dict):
            raise _not_json(where, type(content).__name__)
        return from_dict(cls, content, where=where)

    def prepare(self, images: UInt8Array) -> npt.NDArray[Any]:
        """Turn aligned faces into the network's input.

        Args:
            images: RGB, uint8, shape (B, S, S, 3) with S the aligned size.

        Returns:
            Shape (B, height, width, 3) or (B, 3, height, width), uint8 or float32.

        Example:
            >>> spec = InputSpec(layout="NCHW", dtype="float32", mean=127.5, std=127.5)
            >>> white = spec.prepare(np.full((1, 112, 112, 3), 255, np.uint8))
            >>> white.shape, float(white.max())
            ((1, 3, 112, 112), 1.0)
        """
        top, left = (self.face_size - self.height) // 2, (self.face_size - self.width) // 2
        pixels = images[:, top : top + self.height, left : left + self.width]
        if self.color == "BGR":
            pixels = pixels[..., ::-1]
        if self.layout == "NCHW":
            pixels = pixels.transpose(0, 3, 1, 2)
        prepared = np.array(pixels, dtype=self.dtype, order="C")
        if self.dtype == "float32":
            prepared -= np.float32(self.mean)
            prepared /= np.float32(self.std)
        return prepared


def read_input(text: str) -> Pixels:
    """Understand how a user declares a network's input on the command line.

    Args:
        text: "COLOR,MEAN,STD", for example "RGB,127.5,127.5"; or the path of a JSON file with the
            fields of `InputSpec`.

    Returns:
        What was declared: an `InputSpec` if it was a file.

    Raises:
        UserError: If it is neither.

    Example:
        >>> read_input("RGB,127.5,128")
        Pixels(color='RGB', mean=127.5, std=128.0)
    """
    if text.endswith(".json"):
        return from_dict(InputSpec, read_json(Path(text), what="input declaration"), where=text)
    color, *numbers = (word.strip() for word in text.split(","))
    try:
        mean, std = map(float, numbers)
    except ValueError as error:
        raise UserError(
            where="--input",
            found=text,
            allowed="COLOR,MEAN,STD or a JSON file",
            next_step=f"InsightFace's recognisers take {INSIGHTFACE}",
        ) from error
    return from_dict(
        Pixels, {"color": color.upper(), "mean": mean, "std": std}, where=f"--input {text}"
    )


def _fault(name: str, found: object, allowed: str, next_step: str) -> UserError:
    return UserError(where=f"input.{name}", found=str(found), allowed=allowed, next_step=next_step)


def _not_json(where: str, found: str) -> UserError:
    return UserError(
        where=where,
        found=f"no JSON object ({found})",
        allowed="the description of a network's input",
        next_step="export the model again",
    )
