"""What one training reached, and the small file that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from openmfr.files import atomic_path
from openmfr.reproduce.experiment import FIGURES, Figure, both
from openmfr.reproduce.sets import Resampled

FloatArray = npt.NDArray[np.float64]

#: Ends of the names of a figure's two arrays in the file.
_VALUE, _DRAWN = ".value", ".drawn"
#: The figure that is no error rate: people have no part in it.
_TIME: Final[Figure] = "time"


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What one training reached.

    Attributes:
        value: FNMR by what it is measured on, 0–1; "time": CPU seconds of training, where a CPU
            trained and all of them were counted.
        drawn: The same on each draw of people, each of shape (replicates,), NaN where undefined;
            of "time", which people have no part in, one number throughout.
        seconds: CPU seconds of training and measuring.
    """

    value: dict[Figure, float]
    drawn: dict[Figure, FloatArray]
    seconds: float

    @classmethod
    def of(
        cls,
        results: Mapping[Figure, Resampled],
        *,
        training_seconds: float | None,
        seconds: float,
    ) -> Outcome:
        """Take from measurements what tables need.

        Args:
            results: From `Sets.measure`: masked and bare faces, and others that there are.
            training_seconds: CPU seconds of training alone; None if they are not known.
            seconds: CPU seconds of training and measuring.
        """
        value = {name: result.value for name, result in results.items()}
        drawn = {name: result.drawn.astype(np.float64) for name, result in results.items()}
        return cls._completed(value, drawn, training_seconds, seconds)

    @classmethod
    def _completed(
        cls,
        value: dict[Figure, float],
        drawn: dict[Figure, FloatArray],
        training_seconds: float | None,
        seconds: float,
    ) -> Outcome:
        """Add the figures that follow from others."""
        value["both"] = both(value["masked"], value["bare"])
        drawn["both"] = both(drawn["masked"], drawn["bare"])
        if training_seconds is not None:
            value[_TIME] = training_seconds
            drawn[_TIME] = np.full(drawn["bare"].shape, training_seconds)
        return cls(value=value, drawn=drawn, seconds=seconds)

    @classmethod
    def read(cls, path: Path, *, sets: str) -> Outcome | None:
        """Read what `write` wrote; None if there is nothing, or it was measured on other faces.

        Args:
            path: The file.
            sets: Fingerprint of the test faces.
        """
        if not path.exists():
            return None
        with np.load(path) as file:
            if str(file["sets"]) != sets:
                return None
            names: list[Figure] = [name for name in FIGURES if name + _DRAWN in file.files]
            return cls._completed(
                {name: float(file[name + _VALUE]) for name in names},
                {name: file[name + _DRAWN].astype(np.float64) for name in names},
                float(file[_TIME + _VALUE]) if _TIME + _VALUE in file.files else None,
                float(file["seconds"]),
            )

    def write(self, path: Path, *, sets: str, training: str) -> None:
        """Write it to a file of some 16 KB: what was measured, with draws in single precision.

        Args:
            path: The file, NAME.npz.
            sets: Fingerprint of the test faces.
            training: What was trained, for whoever looks into the file.
        """
        columns: dict[str, npt.ArrayLike] = {
            "sets": sets,
            "training": training,
            "seconds": self.seconds,
        }
        if _TIME in self.value:
            columns[_TIME + _VALUE] = self.value[_TIME]
        for name in self.value.keys() - {"both", _TIME}:
            columns[name + _VALUE] = self.value[name]
            columns[name + _DRAWN] = self.drawn[name].astype(np.float32)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **columns)  # type: ignore[arg-type]
