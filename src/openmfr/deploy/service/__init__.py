"""The recogniser as a service: a REST API over HTTP, with keys, limits and metrics.

What is in here, from the bottom: `config` (limits), `problems` (how requests fail), `keys` and
`rate` (who may ask, how often), `threads` and `batcher` (who computes), `metrics`; `service` (what
is done, apart from HTTP); `answers`, `forms`, `routes`, `description` (what goes in and out),
`guard` and `observe` (what stands around every route); `app` and `server` (all of it together).
"""

from openmfr.deploy.service.app import make_app
from openmfr.deploy.service.config import ServiceConfig
from openmfr.deploy.service.keys import KeyRing, make_key
from openmfr.deploy.service.service import Service

__all__ = ["KeyRing", "Service", "ServiceConfig", "make_app", "make_key"]
