"""`openmfr key WHAT`: who may use the service; each part is a module of its own."""

from __future__ import annotations

#: WHAT → what goes in and what comes out; `openmfr.cli.key_WHAT` has its `main`.
PARTS: dict[str, str] = {
    "new": "a name → an API key, which is shown once",
    "list": "a file of keys → whom they were made for",
    "remove": "a name → its key is refused from now on",
}

#: The help ends with it.
EXAMPLE = "openmfr key new keys.json --name door"
