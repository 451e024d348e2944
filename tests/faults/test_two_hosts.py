"""Two hosts in network namespaces of their own: one is killed, and comes back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from faults.long_runs import (
    DEADLINE_SECONDS,
    RECIPE,
    children,
    events,
    kill_all,
    last_step,
    start,
    train,
    wait_until,
)
from toys import make_store

from openmfr.checkpoint import CheckpointFolder

pytestmark = pytest.mark.slow

EPOCHS, STEPS, SAVED_EVERY = 64, 400, 13
PORT = 29_533


class Host(NamedTuple):
    """A network namespace with one interface."""

    name: str
    interface: str
    address: str

    def command(self, meeting: str, *, is_host: bool) -> list[str]:
        """Training on this host; it meets the other at an address."""
        python, *words = train("run")
        launcher = ["-m", "torch.distributed.run", "--nnodes", "1:2", "--nproc-per-node", "1"]
        launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{meeting}:{PORT}"]
        launcher += ["--rdzv-id", "faces", "--max-restarts", "5", "--local-addr", self.address]
        launcher += ["--rdzv-conf", f"last_call_timeout=5,is_host={str(is_host).lower()}"]
        variables = [f"GLOO_SOCKET_IFNAME={self.interface}", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"]
        inside = ["ip", "netns", "exec", self.name, "env", *variables]
        return [*inside, python, *launcher, *words]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts that see each other and nothing else."""
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need Linux, root and iproute2")
    tag = os.getpid()
    pair = tuple(
        Host(f"openmfr-{tag}-{i}", f"veth{tag % 100_000}{i}", f"10.77.0.{i}") for i in (1, 2)
    )
    first, second = pair
    try:
        try:
            for host in pair:
                ip("netns", "add", host.name)
            ip("link", "add", first.interface, "netns", first.name, "type", "veth",
               "peer", "name", second.interface, "netns", second.name)  # fmt: skip
            for host in pair:
                ip("-n", host.name, "addr", "add", f"{host.address}/24", "dev", host.interface)
                for device in ("lo", host.interface):
                    ip("-n", host.name, "link", "set", device, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        yield first, second
    finally:
        for host in pair:
            subprocess.run(["ip", "netns", "del", host.name], capture_output=True, check=False)


def ranks_that_wrote(run: Path) -> int:
    last = CheckpointFolder(run / "checkpoints").last()
    return 0 if last is None else len(list((last / "head").glob("*.safetensors")))


def test_a_host_that_is_killed_is_missed_and_welcomed_back(
    hosts: tuple[Host, Host], tmp_path: Path
) -> None:
    make_store(tmp_path / "store", identities=14, images=10)
    recipe = RECIPE.replace("EPOCHS", str(EPOCHS)).replace("SAVED_EVERY", str(SAVED_EVERY))
    (tmp_path / "toy_recipe.py").write_text(recipe)
    run, logs = tmp_path / "run", [tmp_path / f"{name}.log" for name in ("one", "two", "again")]
    meeting = hosts[0].address
    started = [
        start(host.command(meeting, is_host=host is hosts[0]), tmp_path, log)
        for host, log in zip(hosts, logs[:2], strict=True)
    ]
    first, second = started
    try:
        wait_until(lambda: ranks_that_wrote(run) == 2, first, logs[0])
        kill_all(second)
        wait_until(lambda: ranks_that_wrote(run) == 1, first, logs[0])
        # Held until the other host is back, or the rest might be done before.
        trainer = children(first.pid)[0]
        os.kill(trainer, signal.SIGSTOP)
        started.append(start(hosts[1].command(meeting, is_host=False), tmp_path, logs[2]))
        wait_until(lambda: "closing signal" in logs[0].read_text(), first, logs[0])
        os.kill(trainer, signal.SIGCONT)
        wait_until(lambda: ranks_that_wrote(run) == 2, first, logs[0])
        for process, log in ((first, logs[0]), (started[2], logs[2])):
            assert process.wait(DEADLINE_SECONDS) == 0, log.read_text()
    finally:
        for process in started:
            kill_all(process)
    assert last_step(run) == STEPS
    assert [event for event in events(run) if event.get("event") == "resume"]
