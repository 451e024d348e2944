"""The description of the API, OpenAPI 3.1: what FastAPI derives, and what it cannot know."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from openmfr.deploy.service.answers import ProblemAnswer
from openmfr.deploy.service.problems import KINDS
from openmfr.version import __version__

_INTRODUCTION = """\
Compares faces, masked or bare, and recognises people who were enrolled.

Photos come as files of a form (`multipart/form-data`). Every address but `/v1/health` asks for a
key, `Authorization: Bearer KEY`, if the service was started with keys.

Whatever fails is answered as `application/problem+json` (RFC 9457). Programs decide by `kind`:

| kind | status | |
|---|---|---|
"""

_TAGS = [
    {"name": "faces", "description": "Faces of photos, compared; nothing is kept."},
    {"name": "people", "description": "The gallery: who is enrolled."},
    {"name": "house", "description": "How the service is."},
]


def describe(app: FastAPI) -> dict[str, Any]:
    """Make the description of an application's routes."""
    table = "".join(f"| `{kind}` | {status} | {text} |\n" for kind, (status, text) in KINDS.items())
    described = get_openapi(
        title="openmfr",
        version=__version__,
        summary="Masked face recognition",
        description=_INTRODUCTION + table,
        routes=app.routes,
        tags=_TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    schemas = described["components"]["schemas"]
    schemas["ProblemAnswer"] = ProblemAnswer.model_json_schema()
    # FastAPI describes its own errors, which never leave the house.
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for operations in described["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    return described
