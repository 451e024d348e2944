"""An image as a data set of another format holds it: its bytes, where they were, and of whom."""

from __future__ import annotations

from typing import Final, NamedTuple

#: An encoded crop takes some 10 KB; what is larger than this is refused before it is read.
MOST_BYTES: Final = 1 << 24


class FoundImage(NamedTuple):
    """One image of a data set.

    Attributes:
        source: Where it was found, or where it came from before.
        identity_name: Who is on it; None if nobody says.
        image: The encoded bytes, as they are; empty if there is a fault.
        fault: Why it cannot be read, "kind: detail"; empty if it can.
    """

    source: str
    identity_name: str | None
    image: bytes
    fault: str = ""
