"""From a configuration to the head that it describes."""

from __future__ import annotations

from openmfr.distributed import Ranks
from openmfr.heads.config import HeadConfig
from openmfr.heads.fused import FusedSoftmax
from openmfr.heads.head import Head
from openmfr.heads.softmax import MarginSoftmax


def build_head(
    config: HeadConfig,
    *,
    num_identities: int,
    embedding_dim: int,
    ranks: Ranks | None = None,
    seed: int = 0,
) -> Head:
    """Build this rank's shard of a head, with fresh prototypes.

    Args:
        config: Which loss, and how its work is done.
        num_identities: C, as the labels have it.
        embedding_dim: D, as the backbone has it.
        ranks: Those that share the prototypes; by default this process alone.
        seed: Of prototypes and samples; the prototypes do not depend on the number of ranks.

    Raises:
        UserError: If there are fewer than two identities.
    """
    kinds: dict[str, type[Head]] = {"dense": MarginSoftmax, "fused": FusedSoftmax}
    return kinds[config.path](
        config,
        num_identities=num_identities,
        embedding_dim=embedding_dim,
        ranks=ranks,
        seed=seed,
    )
