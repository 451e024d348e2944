"""What was trained, measured in the form of the challenge's two tracks, beside the published rows.

The tracks' own images were never published. Ours are the test faces of `sets`, every second one
with its mask (`Sets.is_masked_side`), so that no photo meets itself: bare ones are compared with
each other, and masked with bare ones. They show neither children, nor scenes, nor which of the
InsightFace track's four groups someone belongs to; those columns stay empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from openmfr.evaluation.protocols.tracks import (
    BoolArray,
    InsightFaceTrack,
    Options,
    Track,
    TrackResult,
    WebFace260MTrack,
)
from openmfr.evaluation.published import TABLES, PublishedTable
from openmfr.reproduce.experiment import TrackTable
from openmfr.reproduce.sets import Sets

_MEASURED_ON: Final = "our test faces, half of them with rendered masks"


def measure_track(
    table: TrackTable, sets: Sets, embeddings: Path, options: Options | None = None
) -> TrackResult:
    """Measure one network on our test faces as a track does.

    Args:
        table: Whose track.
        sets: The test faces.
        embeddings: Where `Sets.measure` put the network's embeddings.
        options: How; `Options()` by default.

    Returns:
        FNMR at FMR 1e-5 for Table 2, TAR at FAR 1e-4 for Table 1; what our faces cannot show is
        missing, and named in `notes`.

    Raises:
        UserError: If there are no such embeddings, or too few pairs.
    """
    bare, masked = sets.embedded(embeddings)
    is_masked = sets.is_masked_side
    embedding = np.where(is_masked[:, None], masked, bare)
    return _track(table, is_masked).measure(embedding, sets.identity, options)


def beside_published(
    table: TrackTable, results: Mapping[str, TrackResult], *, images: int
) -> PublishedTable:
    """Put our rows below the published ones.

    Args:
        table: Whose track.
        results: By the row's name.
        images: How many it was trained on.

    Returns:
        The paper's table with a row more for each result, which says what it was measured on.
    """
    ours = {name: result.values for name, result in results.items()}
    return TABLES[table].beside(ours, measured_on=f"{_MEASURED_ON}; trained on {images:,}")


def _track(table: TrackTable, is_masked: BoolArray) -> Track:
    """Our test faces as a track sees them."""
    if table == "2":
        return WebFace260MTrack(is_masked=is_masked, scene=np.full(is_masked.shape, ""))
    return InsightFaceTrack(is_masked=is_masked, test_set=np.full(is_masked.shape, "mask"))
