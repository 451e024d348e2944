"""`openmfr gallery WHAT`: people who can be recognised; each part is a module of its own."""

from __future__ import annotations

#: WHAT → what goes in and what comes out; `openmfr.cli.gallery_WHAT` has its `main`.
PARTS: dict[str, str] = {
    "key": "nothing → a fresh key for a gallery",
    "add": "photos of people → a gallery that knows them",
    "search": "a photo → the people whom it resembles, with false match rates",
    "list": "a gallery → who is enrolled",
    "remove": "a person or an image → gone for good",
    "export": "a gallery → a table of embeddings, not encrypted",
    "copy": "a gallery → the same under another key, or in PostgreSQL",
}

#: The help ends with it.
EXAMPLE = "openmfr gallery add people.db ann.jpg --identity ann --model model.onnx"
