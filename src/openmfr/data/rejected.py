"""What a store did not take and why: noted beside each shard, gathered in `rejected.csv`.

Whoever writes a shard notes what that shard refused before it, so a shard that exists is accounted
for, whichever process wrote it and however often a run was killed.
"""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from openmfr.files import atomic_path, read_json, write_json

REJECTED: Final = "rejected.csv"
_ACCOUNTS: Final = "accounts"


def note_rejected(store: Path, shard: int, rejected: Sequence[tuple[str, str]]) -> None:
    """Note what a shard that is about to be written leaves out.

    Args:
        store: The store's folder.
        shard: Number of the shard.
        rejected: Where each image came from, and "kind: detail" of why it is left out.
    """
    write_json(_account(store, shard), {"rejected": rejected})


def gather_rejected(store: Path, *, shards: int) -> int:
    """Write `rejected.csv`, in the order of the shards.

    Returns:
        How many images it lists.

    Raises:
        UserError: If a shard has no account.
    """
    count = 0
    with (
        atomic_path(store / REJECTED) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "reason"))
        for shard in range(shards):
            rows = read_json(_account(store, shard), what="account of a shard")["rejected"]
            writer.writerows(rows)
            count += len(rows)
    return count


def forget_accounts(store: Path) -> None:
    """Remove the notes; a finished store needs `rejected.csv` alone."""
    shutil.rmtree(store / _ACCOUNTS, ignore_errors=True)


def kinds_of_rejected(store: Path, *, count: int) -> Counter[str]:
    """Count what was left out by the kind of reason.

    Args:
        store: A finished store.
        count: How many images it left out, for a store whose `rejected.csv` somebody removed.

    Returns:
        Kind of reason → how many images.
    """
    if not (store / REJECTED).exists():
        return Counter({"unknown": count} if count else {})
    with (store / REJECTED).open(encoding="utf-8", newline="") as file:
        return Counter(row["reason"].partition(":")[0] for row in csv.DictReader(file))


def _account(store: Path, shard: int) -> Path:
    return store / _ACCOUNTS / f"{shard:06d}.json"
