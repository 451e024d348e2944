"""Choosing a device, and the memory of a process that trains on a CPU."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from openmfr.device import keep_freed_pages

if sys.argv[1] == "keep":
    assert keep_freed_pages()
for repeat in range(60):
    if repeat == 20:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.full((64 * 2**20,), 1, dtype=torch.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an option of glibc")
def test_freed_memory_is_not_asked_for_again() -> None:
    assert page_faults("keep") * 10 < page_faults("as it is")
