"""Exact top-10 search in a gallery of a million, against the speed at which memory gives its bytes.

1,000,000 people with one image each, D 512, one thread, one probe at a time. Sides, each precision
in a process of its own, in turn:

- ours: `best_people`, from a probe to the ten best people with their exact scores. In float16 and
  int8 that includes reading and scoring the rows that the screen leaves over, in float32.
- baseline: a compiled sum over the same matrix as 64-bit integers, the fastest of three ways in a
  short trial: from front to back, from four places at once, and numpy's.

All precisions must find the same people with the same scores, to the last bit. Rates are bytes of
the matrix per CPU second, because other programs may run on the machine. `--quick` searches
100,000, which partly stay in the cache of some machines, and is held to no goal. Further rows,
without a goal, say what searching for 16 probes at once gains over one after the other.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from reporting import Row, paired, report, run_side

DIM, TOP, PROBES = 512, 10, 16
#: How many times the time of reading it a search may take.
GOAL = 1.2
PRECISIONS = ("float32", "float16", "int8")
CHUNK = 8_192


def cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def make_data(people: int) -> tuple[Any, Any]:
    """Rows, float32 (people, DIM), and probes that resemble some of them, both of length 1."""
    import numpy as np

    rng = np.random.default_rng(0)
    rows = np.empty((people, DIM), dtype=np.float32)
    for start in range(0, people, CHUNK):
        part = rows[start : start + CHUNK]
        part[:] = rng.standard_normal(part.shape, dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    known = rows[rng.integers(people, size=PROBES)]
    noise = rng.standard_normal(known.shape, dtype=np.float32)
    probes = known + 2 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
    return rows, probes / np.linalg.norm(probes, axis=1, keepdims=True)


def make_matrix(rows: Any, precision: Any) -> Any:
    """Round the rows as a gallery's index does, a chunk at a time."""
    import numpy as np

    from openmfr.deploy.gallery.index import Part
    from openmfr.deploy.gallery.screen import make_matrix

    part = Part.empty(DIM, precision, room=len(rows))
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        person = np.arange(start, start + len(chunk), dtype=np.int32)
        part = part.extended(make_matrix(chunk, person, precision), person.astype(np.int64))
    return part.used().matrix


def readers(matrix: Any) -> list[Callable[[], Any]]:
    """Ways to read all rows of a matrix: each adds up its 64-bit words."""
    import numba
    import numpy as np

    words = matrix.rows.reshape(-1).view(np.uint64)

    @numba.njit(error_model="numpy")
    def from_front(words: Any) -> Any:
        total = np.uint64(0)
        for i in range(words.size):
            total += words[i]
        return total

    @numba.njit(error_model="numpy")
    def from_four_places(words: Any) -> Any:
        n = words.size // 4
        a, b, c, d = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
        for i in range(n):
            a += words[i]
            b += words[n + i]
            c += words[2 * n + i]
            d += words[3 * n + i]
        return a + b + c + d

    ways = [lambda: from_front(words), lambda: from_four_places(words), words.sum]
    if len({int(way()) for way in ways}) != 1:
        raise SystemExit("the ways to read disagree")
    return ways


def child(precision: str, people: int, rounds: int) -> dict[str, Any]:
    """Run one precision and its yardstick in turn, in this process."""
    from openmfr.deploy.gallery.screen import best_people

    rows, probes = make_data(people)
    matrix = make_matrix(rows, precision)
    digest = hashlib.sha256()

    def search(number: int) -> None:
        best = best_people(matrix, probes[number : number + 1], TOP, rows.__getitem__)[0]
        digest.update(best.place.tobytes() + best.score.tobytes())

    ways = readers(matrix)
    read = min(ways, key=lambda way: min(cpu_seconds(way) for _ in range(3)))
    pairs = []
    for number in range(rounds * PROBES):
        ours = cpu_seconds(lambda number=number: search(number % PROBES))  # type: ignore[misc]
        if number:  # the first one compiles
            pairs.append((ours, cpu_seconds(read)))
    everyone = cpu_seconds(lambda: best_people(matrix, probes, TOP, rows.__getitem__))
    return {
        "bytes": matrix.rows.nbytes,
        "pairs": pairs,
        "together": everyone / PROBES,
        "digest": digest.hexdigest(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes, within 50 s")
    parser.add_argument("--json", metavar="PATH", help="write the rows there; - prints them last")
    parser.add_argument("--people", type=int, default=1_000_000, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=2, help="of 16 searches each")
    parser.add_argument("--side", choices=PRECISIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(child(options.side, options.people, options.rounds)))
        return
    people = 100_000 if options.quick else options.people
    goal = 1 / GOAL if people == 1_000_000 else None
    rows: list[Row] = []
    digests = set()
    for precision in PRECISIONS:
        found = run_side(__file__, precision, people=people, rounds=options.rounds)
        digests.add(found["digest"])
        size = found["bytes"] / 1e9
        rows.append(
            paired(
                f"top {TOP} of {people:,} × {DIM}, {precision}, against reading its bytes",
                [(size / ours, size / read) for ours, read in found["pairs"]],
                unit="GB per CPU second",
                goal=goal,
            )
        )
        rows.append(
            paired(
                f"{PROBES} probes at once, {precision}, against one after the other",
                [(1 / found["together"], 1 / ours) for ours, _ in found["pairs"]],
                unit="probes per CPU second",
            )
        )
    if len(digests) != 1:
        raise SystemExit("the precisions disagree")
    report("gallery", rows, json_path=options.json)


if __name__ == "__main__":
    main()
