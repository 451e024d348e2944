"""The pairs that a recogniser got most wrong, as pictures for a page and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from openmfr.evaluation.comparisons import Comparisons
from openmfr.report import page as html
from openmfr.report.page import Html
from openmfr.report.sheet import pair_strip

UInt8Array = npt.NDArray[np.uint8]

#: Pairs of each side that are shown.
MOST = 8

#: Stands above all pictures of a page.
WARNING = "These pictures show people. Do not publish them."

_TITLES = {
    "false_matches": "Worst false matches: two people, highest scores",
    "false_non_matches": "Worst false non-matches: one person, lowest scores",
}


@dataclass(frozen=True, kw_only=True)
class WorstPairs:
    """Pairs of both sides, the worst first.

    Attributes:
        false_matches: Different people that look most alike.
        false_non_matches: One person who looks least alike.
    """

    false_matches: tuple[dict[str, Any], ...]
    false_non_matches: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Return scores, rows and sources of the pairs as JSON values."""
        return {side: list(getattr(self, side)) for side in _TITLES}

    def pictures(self, image: Callable[[int], UInt8Array]) -> list[Html]:
        """Draw the pairs, below a heading for each side.

        Args:
            image: Returns image i of the evaluated store, RGB.
        """
        parts = []
        for side, title in _TITLES.items():
            strips = []
            for pair in getattr(self, side):
                sources = (pair["source_a"], pair["source_b"])
                names = " · ".join(PurePosixPath(source).name for source in sources)
                score = html.number(pair["score"], f"{pair['score']:.3f}")
                strips.append(
                    html.picture(
                        pair_strip(image(pair["index_a"]), image(pair["index_b"])),
                        caption=html.join(score, f" {names}"),
                        alt=f"Two faces compared: {names}",
                    )
                )
            parts += [html.subheading(title), html.figures(strips, kind="pictures")]
        return parts


def worst_pairs(
    genuine: Comparisons,
    impostor: Comparisons,
    *,
    sources: Sequence[str] | None = None,
    most: int = MOST,
) -> WorstPairs:
    """Find the genuine pairs with the lowest scores, and the impostor pairs with the highest.

    Args:
        genuine: Pairs that hold the genuine ones; others among them do not count.
        impostor: Pairs that hold the impostors; may be the same.
        sources: Where each image came from; row numbers by default.
        most: How many of each side.
    """

    def told(pairs: Comparisons, which: npt.NDArray[np.integer]) -> tuple[dict[str, Any], ...]:
        return tuple(_told(pairs, pair, sources) for pair in which.tolist())

    return WorstPairs(
        false_matches=told(impostor, impostor.worst_false_matches(most)),
        false_non_matches=told(genuine, genuine.worst_false_non_matches(most)),
    )


def _told(pairs: Comparisons, pair: int, sources: Sequence[str] | None) -> dict[str, Any]:
    a, b = int(pairs.index_a[pair]), int(pairs.index_b[pair])
    return {
        "score": float(pairs.score[pair]),
        "index_a": a,
        "index_b": b,
        "source_a": sources[a] if sources else f"image {a}",
        "source_b": sources[b] if sources else f"image {b}",
        "kind": None if pairs.kind is None else str(pairs.kind[pair]),
    }
