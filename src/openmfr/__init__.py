"""Large-scale masked face recognition: from photos to a deployed recogniser."""

from __future__ import annotations

from openmfr.version import __version__

__all__ = ["__version__"]
