"""How large a training set is: given in numbers, or by the name of a public one."""

from __future__ import annotations

from dataclasses import dataclass

from openmfr.errors import UserError, nearest, raise_together


@dataclass(frozen=True, kw_only=True)
class DatasetSize:
    """How large a training set is.

    Attributes:
        images: N, kept images, at least one for each identity.
        identities: C, at least 2.

    Raises:
        UserError: If a number is too small.
    """

    images: int
    identities: int

    def __post_init__(self) -> None:
        checks = {
            "identities": (self.identities >= 2, "from 2", "give those that the labels have"),
            "images": (
                self.images >= self.identities,
                f"from {self.identities:,}, one for each identity",
                "give the number of kept images",
            ),
        }
        raise_together(
            [
                UserError(
                    where=name,
                    found=f"{getattr(self, name):,}",
                    allowed=allowed,
                    next_step=next_step,
                )
                for name, (is_valid, allowed, next_step) in checks.items()
                if not is_valid
            ]
        )


#: Known training sets by name, as their authors or arcface_torch's configurations count them;
#: imdb-face rounded, as the MFR paper's Table 3 has it.
DATASETS: dict[str, DatasetSize] = {
    "webface42m": DatasetSize(images=42_474_558, identities=2_059_906),
    "webface12m": DatasetSize(images=12_720_066, identities=617_970),
    "webface4m": DatasetSize(images=4_235_242, identities=205_990),
    "glint360k": DatasetSize(images=17_091_657, identities=360_232),
    "ms1mv3": DatasetSize(images=5_179_510, identities=93_431),
    "ms1mv2": DatasetSize(images=5_822_653, identities=85_742),
    "imdb-face": DatasetSize(images=1_700_000, identities=59_000),
}


def known_size(name: str) -> DatasetSize:
    """Size of a public training set.

    Args:
        name: A name of `DATASETS`, in any case.

    Raises:
        UserError: If it is unknown; the nearest name is suggested.

    Example:
        >>> known_size("WebFace42M").identities
        2059906
    """
    size = DATASETS.get(name.lower())
    if size is None:
        raise UserError(
            where="dataset",
            found=name,
            allowed=", ".join(DATASETS),
            next_step=nearest(name.lower(), DATASETS),
        )
    return size
