"""How the service runs: where it listens, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass

from openmfr.errors import check_fields
from openmfr.workers import usable_cpus

MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """Limits of the service; each bounds memory or time that a caller can take.

    Attributes:
        places: Requests that are in the house at once, waiting or worked on; more are told to come
            again (503). A place holds at most `max_body_mib` of body.
        workers: Photos that are decoded and searched for faces at once; 0: one for each CPU.
        max_batch: Faces that the network embeds in one call.
        max_body_mib: Largest body of a request, in MiB: two photos, or one.
        max_pixels: Largest photo. Each worker holds one decoded, 3 bytes for a pixel.
        timeout_s: Seconds from the head of a request to the head of its answer.
        rate: Requests a second that each key may make in the long run.
        burst: Requests that a key may make at once after a rest.
    """

    places: int = 32
    workers: int = 0
    max_batch: int = 16
    max_body_mib: float = 20.0
    max_pixels: int = 25_000_000
    timeout_s: float = 10.0
    rate: float = 50.0
    burst: int = 100

    def __post_init__(self) -> None:
        least = {"workers": 0, "places": 1, "max_batch": 1, "max_pixels": 1, "burst": 1}
        above = ("max_body_mib", "timeout_s", "rate")
        limits = {name: (getattr(self, name) >= low, f"from {low}") for name, low in least.items()}
        limits |= {name: (0 < getattr(self, name) < float("inf"), "above 0") for name in above}
        check_fields(self, limits, next_step="leave it out for the default", within="service.")

    @property
    def max_body(self) -> int:
        """Largest body in bytes."""
        return int(self.max_body_mib * MIB)

    @property
    def worker_count(self) -> int:
        """How many workers that makes on this machine."""
        return self.workers or usable_cpus()
