"""The service under more load than it can bear: throughput, times, errors by kind, memory.

`openmfr serve` runs in one process, with a gallery of 1,000 people, the requests come from another
(this one). Capacity is measured first: as many clients as there are processors ask, one request
after the other. Then requests arrive at 1, 2 and 5 times that rate, whether or not the earlier ones
have been answered, each a search with a JPEG of 640×480. Client and server share the processors, so
capacity is that of the machine with the client on it.

Goals: every answer is 200 or a problem that is documented for load (503 busy, 504 timed_out, 429
too_often), no connection breaks, and memory does not grow: its median over the last quarter of each
stretch is at most 5 % above that of the second quarter.

The model is a toy unless `--model` names an ONNX file (with `--input`, if openmfr did not write
it): what is measured then is everything but the network.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from photo import make_photo
from reporting import Row, paired, report

#: What may be answered under load.
DOCUMENTED = {"200", "busy", "timed_out", "too_often"}
LOADS = (1, 2, 5)
PEOPLE = 1_000
#: Requests that are under way at once; more are not begun, and counted as such.
MAX_OPEN = 600
#: Seconds after which a connection is not used again: the server closes idle ones after 20.
IDLE = 5.0
#: How much later memory may be larger than earlier memory.
GOAL_MEMORY = 0.95


@dataclass
class Stretch:
    """What happened while one load lasted.

    Attributes:
        seconds: How long it was.
        milliseconds: Of the requests that were answered with 200.
        kinds: How often each answer came.
        memory: Resident memory of the server in MiB, every half second.
    """

    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    memory: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests answered with 200, a second."""
        return self.kinds["200"] / self.seconds

    def percentile(self, share: float) -> float:
        return float(np.percentile(self.milliseconds, share)) if self.milliseconds else 0.0


class Connections:
    """Connections to the server that are kept for the next request, but not for long."""

    def __init__(self, port: int, request: bytes) -> None:
        self._port, self._request = port, request
        self._free: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def _get(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._free:
            since, reader, writer = self._free.pop()
            if time.monotonic() - since < IDLE:
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)

    async def ask(self) -> str:
        """Send the request; return "200" or the kind of problem."""
        reader, writer = await self._get()
        try:
            writer.write(self._request)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            lines = [line.partition(": ") for line in head.split("\r\n")]
            fields = {name.lower(): value for name, _, value in lines}
            body = await reader.readexactly(int(fields["content-length"]))
        except BaseException:
            writer.close()
            raise
        if fields.get("connection") == "close":
            writer.close()
        else:
            self._free.append((time.monotonic(), reader, writer))
        status = head.split()[1]
        return "200" if status == "200" else str(json.loads(body)["kind"])

    def close(self) -> None:
        for _, _, writer in self._free:
            writer.close()
        self._free.clear()


async def one(connections: Connections, stretch: Stretch) -> None:
    start = time.perf_counter()
    try:
        kind = await connections.ask()
    except (OSError, asyncio.IncompleteReadError) as error:
        kind = f"broken: {type(error).__name__}"
    stretch.kinds[kind] += 1
    if kind == "200":
        stretch.milliseconds.append(1000 * (time.perf_counter() - start))


async def at_capacity(connections: Connections, seconds: float, clients: int) -> Stretch:
    """Ask with a few clients, each as soon as it has its answer."""
    stretch, start = Stretch(), time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - start < seconds:
            await one(connections, stretch)

    await asyncio.gather(*(client() for _ in range(clients)))
    stretch.seconds = time.perf_counter() - start
    return stretch


async def at_rate(connections: Connections, seconds: float, rate: float, process: int) -> Stretch:
    """Ask at a steady rate, whatever the answers do."""
    stretch, start = Stretch(), time.perf_counter()
    under_way: set[asyncio.Task[None]] = set()
    asked, looked = 0, 0
    while (now := time.perf_counter() - start) < seconds:
        if now >= looked / 2:
            looked += 1
            stretch.memory.append(memory_of(process))
        while asked < now * rate:
            asked += 1
            if len(under_way) >= MAX_OPEN:
                stretch.kinds["not begun"] += 1
                continue
            task = asyncio.create_task(one(connections, stretch))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.sleep(1 / rate)
    stretch.seconds = time.perf_counter() - start
    await asyncio.gather(*under_way)
    return stretch


def memory_of(process: int) -> float:
    """Resident memory in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def request_bytes(photo: bytes) -> bytes:
    """A search, as it goes over the wire."""
    boundary = uuid.uuid4().hex
    body = b"".join(
        [
            f'--{boundary}\r\nContent-Disposition: form-data; name="photo"; '.encode(),
            b'filename="p.jpg"\r\nContent-Type: image/jpeg\r\n\r\n',
            photo,
            f"\r\n--{boundary}--\r\n".encode(),
        ]
    )
    head = (
        "POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def write_toy(path: Path) -> None:
    """A network that takes no time: the means of squares of the face, as openmfr exports files."""
    import onnx
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["planes"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]
        ),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["B", 112, 112, 3])
    vector = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", 588])
    graph = helper.make_graph(nodes, "toy", [image], [vector])
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))


def fill(gallery: Path, model: Path, declared: str | None, key: bytes) -> None:
    """Enrol people who do not exist."""
    from openmfr.deploy.gallery import NewImage, digest_photo, make_gallery, unit_rows
    from openmfr.deploy.model import OnnxModel, read_input

    opened = OnnxModel(model, spec=read_input(declared) if declared else None, threads=1)
    made = make_gallery(gallery, model=opened.fingerprint, dim=opened.embedding_dim, key=key)
    rows = unit_rows(np.random.default_rng(0).standard_normal((PEOPLE, opened.embedding_dim)))
    made.store.add(
        [
            NewImage(identity=f"{n}", embedding=row, digest=digest_photo(b"%d" % n))
            for n, row in enumerate(rows)
        ]
    )
    made.close()


def start(folder: Path, model: Path, declared: str | None) -> tuple[subprocess.Popen[str], int]:
    """Start the service; returns the process and its port."""
    key = os.urandom(32)
    fill(folder / "people.db", model, declared, key)
    command = [sys.executable, "-m", "openmfr", "serve", str(model), "--port", "0"]
    command += ["--gallery", str(folder / "people.db"), "--rate", "1000000"]
    command += ["--input", declared] if declared else []
    environment = os.environ | {"OPENMFR_GALLERY_KEY": base64.b64encode(key).decode()}
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    said = process.stdout.readline()
    if "http://127.0.0.1:" not in said:
        raise SystemExit((folder / "log.txt").read_text())
    return process, int(said.partition("127.0.0.1:")[2].partition(";")[0])


async def measure(port: int, process: int, seconds: float) -> tuple[Stretch, dict[int, Stretch]]:
    connections = Connections(port, request_bytes(make_photo()))
    clients = os.cpu_count() or 1
    await at_capacity(connections, seconds / 6, clients)  # warm-up
    capacity = await at_capacity(connections, seconds / 2, 2 * clients)
    loads = {}
    for load in LOADS:
        loads[load] = await at_rate(connections, seconds, load * capacity.rate, process)
        connections.close()
    return capacity, loads


def rows_of(capacity: Stretch, loads: dict[int, Stretch]) -> list[Row]:
    rows: list[Row] = []
    for load, found in loads.items():
        told = ", ".join(f"{count:,} {kind}" for kind, count in found.kinds.most_common())
        times = f"p50 {found.percentile(50):.0f} ms, p99 {found.percentile(99):.0f} ms"
        rows.append(
            paired(
                f"{load}× capacity: searches answered, {times} ({told})",
                [(found.rate, capacity.rate)],
                unit="requests/s",
            )
        )
        answered = sum(n for kind, n in found.kinds.items() if kind != "not begun")
        documented = sum(found.kinds[kind] for kind in DOCUMENTED)
        rows.append(
            paired(
                f"{load}× capacity: answers of documented kinds",
                [(documented, answered)],
                unit="requests",
                goal=1.0,
            )
        )
        quarter = max(1, len(found.memory) // 4)
        early = statistics.median(found.memory[quarter : 2 * quarter] or found.memory)
        late = statistics.median(found.memory[-quarter:])
        rows.append(
            paired(
                f"{load}× capacity: memory in the second quarter against the last",
                [(early, late)],
                unit="MiB",
                goal=GOAL_MEMORY,
            )
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 s for each load")
    parser.add_argument("--json", metavar="PATH", help="write the rows there; - prints them last")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each load")
    parser.add_argument("--model", type=Path, help="ONNX file instead of a toy")
    parser.add_argument("--input", help="of a file that openmfr did not write")
    options = parser.parse_args()
    seconds = 5.0 if options.quick else options.seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, declared = options.model, options.input
        if model is None:
            model, declared = folder / "toy.onnx", toy_input(folder)
            write_toy(model)
        process, port = start(folder, model, declared)
        try:
            capacity, loads = asyncio.run(measure(port, process.pid, seconds))
        finally:
            process.terminate()
            code = process.wait(60)
    report("service", rows_of(capacity, loads), json_path=options.json)
    if code != 0:
        raise SystemExit(f"the service ended with {code}")


def toy_input(folder: Path) -> str:
    """Declare what the toy takes."""
    declared: dict[str, Any] = {"height": 112, "width": 112, "layout": "NHWC", "dtype": "uint8"}
    (folder / "input.json").write_text(json.dumps(declared | {"color": "RGB"}))
    return str(folder / "input.json")


if __name__ == "__main__":
    main()
