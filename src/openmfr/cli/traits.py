"""What `openmfr evaluate` is told of images beyond who is on them: groups of people, masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openmfr.data.labels import Labels
    from openmfr.data.store import Store
    from openmfr.evaluation.breakdown import Traits


def open_traits(
    store: Store,
    labels: Labels,
    *,
    images: Path | None,
    by: Sequence[str],
    masked: Store | None = None,
) -> Traits:
    """Collect what labels, store and a table say of images.

    Args:
        store: What was embedded.
        labels: Its labels.
        images: A table with a column path; None for none.
        by: Its columns to read.
        masked: The same images with masks on, if pairs are measured with them too.

    Raises:
        UserError: If there is a table without columns or columns without a table, or it lacks one.
    """
    from openmfr.cli.evaluating import columns_of
    from openmfr.errors import UserError
    from openmfr.evaluation.breakdown import MASK_PREFIX, Traits

    if (images is None) != (not by):
        raise UserError(
            where="--by",
            found=", ".join(by) or "nothing",
            allowed="columns of the table that --images names; or neither of them",
            next_step="openmfr evaluate … --images images.csv --by group",
        )
    table = columns_of(images, store, by) if images is not None else {}
    if masked is None:
        return Traits.of(store, labels, table)
    worn = {name: table[name] for name in table if name.startswith(MASK_PREFIX)}
    people = {name: table[name] for name in table if name not in worn}
    bare = Traits.of(store, labels, people)
    return bare.stacked(Traits.of(masked, None, worn))
