"""`openmfr search WHAT`: finding networks, and scaling them; each part is a module of its own."""

from __future__ import annotations

#: WHAT → what goes in and what comes out; `openmfr.cli.search_WHAT` has its `main`.
PARTS: dict[str, str] = {
    "scale": "an architecture and a target → the same, larger or smaller",
}

#: The help ends with it.
EXAMPLE = "openmfr search scale ridnet_xs small.json --macs 0.5e9"
