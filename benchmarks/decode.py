"""Images per second of the loader against decoding the same JPEGs and nothing else.

The baseline reads nothing, shuffles nothing and keeps nothing: it decodes encoded images that lie
in memory. Once in one process, once with two decoding processes on either side.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path

import simplejpeg
from reporting import Row, arguments, paired, report

from openmfr.data.labels import Labels
from openmfr.data.loader import FaceDataset, StreamSampler, load_batches
from openmfr.data.order import Stream
from openmfr.data.store import Store
from openmfr.synthetic.dataset import synthesise

IDENTITIES, IMAGES, BATCH = 40, 20, 128
GOAL = 0.85


def loader_rate(store: Store, labels: Labels, *, steps: int, workers: int) -> float:
    """Images per second from the first batch that arrives to the last."""
    sampler = StreamSampler(
        Stream(labels.kept(), seed=0), batch_size=BATCH, start_step=0, stop_step=steps
    )
    loader = load_batches(FaceDataset(store, labels.identity), sampler, workers=workers)
    for _ in range(2 * workers + 1):  # what workers had ready is not counted
        next(loader)
    start = time.perf_counter()
    count = sum(len(images) for images, _ in loader)
    return count / (time.perf_counter() - start)


def decode_all(encoded: list[bytes], rounds: int) -> float:
    """Decode images again and again; return the seconds that it took."""
    start = time.perf_counter()
    for _ in range(rounds):
        for image in encoded:
            simplejpeg.decode_jpeg(image)
    return time.perf_counter() - start


def decode_rate(encoded: list[bytes], *, rounds: int, workers: int) -> float:
    """Images per second of pure decoding, in this process or in several."""
    if workers == 0:
        return len(encoded) * rounds / decode_all(encoded, rounds)
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        seconds = pool.starmap(decode_all, [(encoded, rounds)] * workers, chunksize=1)
    return workers * len(encoded) * rounds / max(seconds)


def main() -> None:
    options = arguments(__doc__ or "")
    steps, repeats = (60, 3) if options.quick else (200, 7)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        store, labels = synthesise(
            Path(folder) / "store", identities=IDENTITIES, images=IMAGES, seed=0
        )
        encoded = [store.read(i) for i in range(len(store))]
        rounds = max(1, steps * BATCH // len(encoded))
        for workers in (0, 2):
            pairs = [
                (
                    loader_rate(store, labels, steps=steps, workers=workers),
                    decode_rate(encoded, rounds=rounds, workers=workers),
                )
                for _ in range(repeats)
            ]
            what = f"loader against pure decoding, {workers or 'no'} worker processes"
            rows.append(paired(what, pairs, unit="images/s", goal=GOAL))
    report("decode", rows, json_path=options.json)


if __name__ == "__main__":
    main()
