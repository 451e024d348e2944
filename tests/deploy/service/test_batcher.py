"""Faces of several requests in one call: who asks gets their own, and nobody suffers for others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from openmfr.deploy.service.batcher import Batcher

Images = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.float32]


def face(value: int) -> Images:
    return np.full((4, 4, 3), value, np.uint8)


class Network:
    """Answers with the value of the pixels; waits before its first call until it may go on."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.sizes: list[int] = []

    def __call__(self, images: Images) -> Rows:
        assert self.may_go_on.wait(30)
        self.sizes.append(len(images))
        if 99 in images:
            raise ValueError("99 has no face")
        return images[:, 0, 0, :1].astype(np.float32)


async def ask(network: Network, values: list[int], *, max_batch: int) -> list[float | Exception]:
    batcher = Batcher(network, max_batch=max_batch)
    asked = [asyncio.create_task(batcher.embed(face(value))) for value in values]
    await asyncio.sleep(0)  # each has begun
    network.may_go_on.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    await batcher.close()
    return [one if isinstance(one, Exception) else float(one[0]) for one in found]  # type: ignore[index]


def test_everybody_gets_their_own_embedding_in_batches_of_the_limit() -> None:
    network = Network()
    values = list(range(11))
    assert asyncio.run(ask(network, values, max_batch=4)) == values
    assert network.sizes == [4, 4, 3]


def test_a_face_that_fails_fails_alone() -> None:
    network = Network()
    found = asyncio.run(ask(network, [1, 99, 3], max_batch=8))
    assert (found[0], found[2]) == (1, 3)
    assert isinstance(found[1], ValueError)


def test_a_face_that_nobody_waits_for_is_not_computed() -> None:
    network = Network()

    async def leave() -> None:
        batcher = Batcher(network, max_batch=1)
        asked = [asyncio.create_task(batcher.embed(face(n))) for n in range(3)]
        await asyncio.sleep(0)
        asked[1].cancel()
        await asyncio.wait([asked[1]])
        network.may_go_on.set()
        assert float((await asked[0])[0]) == 0
        assert float((await asked[2])[0]) == 2
        await batcher.close()

    asyncio.run(leave())
    assert network.sizes == [1, 1]


def test_closing_finishes_what_waits() -> None:
    network = Network()
    network.may_go_on.set()

    async def close_early() -> None:
        batcher = Batcher(network, max_batch=2)
        asked = [asyncio.create_task(batcher.embed(face(n))) for n in range(5)]
        await asyncio.sleep(0)
        await batcher.close()
        assert all(one.done() or not one.cancelled() for one in asked)
        assert [float(row[0]) for row in await asyncio.gather(*asked)] == [0, 1, 2, 3, 4]

    asyncio.run(close_early())


@pytest.mark.parametrize("told", [list, len])
def test_the_sizes_of_batches_are_told(told: Callable[[list[int]], object]) -> None:
    sizes: list[int] = []

    async def embed() -> None:
        batcher = Batcher(
            lambda images: images[:, 0, 0].astype(np.float32), max_batch=8, told=sizes.append
        )
        await asyncio.gather(*(batcher.embed(face(n)) for n in range(3)))
        await batcher.close()

    asyncio.run(embed())
    assert sum(sizes) == 3
