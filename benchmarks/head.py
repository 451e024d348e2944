"""CPU seconds and memory of a training step of the head, against what a user would write.

One step is: loss, gradient of the embeddings, prototypes moved by SGD with momentum and decay. All
on one thread, D 512, batch 128. Every side runs in processes of its own, in turn with the others:

- plain: weight matrix, margin, cross entropy, `torch.optim.SGD`.
- plain, pages kept: the same code, with a C library that does not give freed memory back to the
  kernel. Over half of the plain head's time goes into pages for temporaries as large as the weight.
- plain sampling: a sample drawn by `topk` and taken by `index_select`; SGD over the whole matrix.
- bound: the matrix products of a step (2 · G · C · D operations each) at the rate of this machine's
  own product of that shape, and five passes over the weight at its memory bandwidth.
- ours: `FusedSoftmax`, recomputing, keeping exponentials, with bfloat16 products, sampled.
- empty: our head with two identities. What it needs is what Python and PyTorch need to do anything.

`--baseline MODULE:FUNCTION` times another head beside them. FUNCTION(identities, dim, batch, rate)
returns step(embeddings, identity), which takes (B, D) float32 with `requires_grad` and (B,) int64,
leaves the gradient in `embeddings.grad`, moves its prototypes and returns the loss as a float.

Times are the least of a process's steps and the median over the processes.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reporting import Row, paired, report, run_side

if TYPE_CHECKING:  # the parent process stays small: its children inherit its peak memory
    from torch import Tensor

    TrainStep = Callable[[Tensor, Tensor], float]

DIM, BATCH, RATE, SCALE, MARGIN = 512, 128, 0.1, 64.0, 0.4
PAPER_IDENTITIES, PAPER_BATCH, PAPER_STEPS = 2_059_906, 64, 5
LEARNING_RATE, MOMENTUM, DECAY = 0.002, 0.9, 5e-4
BOUND_ROWS, BLOCK = 100_000, 1024
GIB = 2**30

#: Settings of glibc with which freed memory stays with the process.
KEEP_PAGES = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}

#: Side: fields of `HeadConfig`.
OURS: dict[str, dict[str, Any]] = {
    "recompute": {},
    "keep_exp": {"backward": "keep_exp"},
    "bfloat16": {"gemm": "bfloat16"},
    "sampled": {"sample_rate": RATE},
    "sampled_keep_exp": {"sample_rate": RATE, "backward": "keep_exp"},
    "sampled_bfloat16": {"sample_rate": RATE, "backward": "keep_exp", "gemm": "bfloat16"},
}


def plain(identities: int, dim: int, batch: int, rate: float) -> TrainStep:
    """Build the head as it is usually written; sampled like PartialFC where rate is below 1."""
    import torch
    from torch.nn import functional as F

    weight = torch.nn.Parameter(torch.randn(identities, dim) * 0.01)
    optimizer = torch.optim.SGD([weight], lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=DECAY)
    rows = torch.arange(batch)

    def step(embeddings: Tensor, identity: Tensor) -> float:
        chosen: Tensor = weight
        if rate < 1:
            draw = torch.rand(identities)
            draw[identity] = 2.0
            sample = draw.topk(int(rate * identities)).indices.sort().values
            identity = torch.searchsorted(sample, identity)
            chosen = weight.index_select(0, sample)
        logits = F.linear(F.normalize(embeddings), F.normalize(chosen))
        logits[rows, identity] -= MARGIN
        loss = F.cross_entropy(logits * SCALE, identity)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    return step


def ours(fields: dict[str, Any], identities: int, dim: int) -> TrainStep:
    """Build the project's head with these fields of its configuration."""
    from openmfr.heads import HeadConfig, Step, StepSize, build_head

    head = build_head(HeadConfig(**fields), num_identities=identities, embedding_dim=dim)
    size = StepSize(learning_rate=LEARNING_RATE, momentum=MOMENTUM, weight_decay=DECAY)
    done = 0

    def step(embeddings: Tensor, identity: Tensor) -> float:
        nonlocal done
        loss: Tensor = head(embeddings, identity, Step(number=done, size=size))
        loss.backward()  # type: ignore[no-untyped-call]
        head.finish_step(is_skipped=False)
        done += 1
        return loss.item()

    return step


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def least(work: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the fastest of some repeats."""
    times = []
    for _ in range(repeats):
        start = cpu_seconds()
        work()
        times.append(cpu_seconds() - start)
    return min(times)


def measure_steps(step: TrainStep, options: argparse.Namespace) -> dict[str, Any]:
    """Run steps on one batch; the first, which touches all memory, is not timed."""
    import torch

    embeddings = torch.randn(options.batch, DIM).requires_grad_()
    identity = torch.randint(options.identities, (options.batch,))
    times, losses = [], []
    for _ in range(options.steps + 1):
        embeddings.grad = None
        start = cpu_seconds()
        losses.append(step(embeddings, identity))
        times.append(cpu_seconds() - start)
    return {"seconds": min(times[1:]), "losses": losses}


def measure_bound(options: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds of each product with all prototypes, block by block, and of a pass over them."""
    import torch

    count = min(options.identities, BOUND_ROWS)
    weight = torch.randn(count, DIM)
    unit, slopes = torch.randn(options.batch, DIM), torch.randn(options.batch, BLOCK)
    blocks = [weight[start : start + BLOCK] for start in range(0, count - BLOCK + 1, BLOCK)]
    logits, left, right = torch.empty_like(slopes), torch.empty_like(unit), torch.empty(BLOCK, DIM)
    repeats = 2 * options.steps

    def over_blocks(product: Callable[[Tensor], object]) -> float:
        seconds = least(lambda: [product(block) for block in blocks], repeats)
        rows = len(blocks) * BLOCK
        return float(seconds * options.identities / rows)

    return {
        "logits": over_blocks(lambda block: torch.mm(unit, block.T, out=logits)),
        "embeddings": over_blocks(lambda block: torch.mm(slopes, block, out=left)),
        "prototypes": over_blocks(lambda _: torch.mm(slopes.T, unit, out=right)),
        # In place: one pass that reads, one that writes.
        "pass": least(lambda: weight.mul_(1.0), repeats) / 2 * options.identities / count,
        # Memory that the kernel has to find: what the plain head's temporaries cost.
        "touch": least(lambda: torch.empty(count, DIM).zero_(), 3) * options.identities / count,
    }


def distance(found: Tensor | None, right: Tensor | None) -> float:
    """‖found − right‖ / ‖right‖."""
    assert found is not None
    assert right is not None
    return float((found - right).norm() / right.norm())


def measure_errors() -> dict[str, float]:
    """Norm-wise relative errors of one step against float64 autograd, C 10,000."""
    import torch
    from torch.nn import functional as F

    from openmfr.heads import FusedSoftmax, HeadConfig, Step

    torch.manual_seed(0)
    identity, embeddings = torch.randint(10_000, (BATCH,)), torch.randn(BATCH, DIM)
    found = {}
    modes: dict[str, dict[str, Any]] = {
        "cosface": {},
        "arcface": {"kind": "arcface", "margin": 0.5},
        **{name: OURS[name] for name in ("keep_exp", "bfloat16")},
    }
    for name, fields in modes.items():
        config = HeadConfig(**fields)
        head = FusedSoftmax(config, num_identities=10_000, embedding_dim=DIM)
        exact = [t.double().requires_grad_() for t in (embeddings, head.prototypes)]
        cosines = F.normalize(exact[0]) @ F.normalize(exact[1]).T
        lowered = config.lower(cosines.gather(1, identity[:, None]), None)
        logits = config.scale * cosines.scatter(1, identity[:, None], lowered)
        right = F.cross_entropy(logits, identity)
        right.backward()  # type: ignore[no-untyped-call]
        mine = embeddings.clone().requires_grad_()
        loss = head(mine, identity, Step())  # momentum 0: its buffer holds the gradient
        loss.backward()
        found[name] = max(
            distance(mine.grad, exact[0].grad), distance(head.momentum, exact[1].grad)
        )
        found[f"{name} loss"] = abs(loss.item() / right.item() - 1)
    return found


def child(options: argparse.Namespace) -> dict[str, Any]:
    """Run one side in this process."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    size = (options.identities, DIM, options.batch)
    name = options.side
    if name == "empty":
        options.identities = 2
        result = measure_steps(ours({}, 2, DIM), options)
    elif name == "bound":
        result = measure_bound(options)
    elif name == "errors":
        result = measure_errors()
    elif name in OURS:
        result = measure_steps(ours(OURS[name], *size[:2]), options)
    elif name.startswith("plain"):
        result = measure_steps(plain(*size, RATE if name == "plain_sampling" else 1.0), options)
    else:
        module, function = options.baseline.split(":")
        sys.path.insert(0, str(Path.cwd()))
        build = getattr(importlib.import_module(module), function)
        rate = RATE if name == "baseline_sampled" else 1.0
        result = measure_steps(build(*size, rate), options)
    # ru_maxrss is in KiB on Linux.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {**result, "peak": peak}


def run(side: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run a side in a process of its own."""
    names = ("identities", "batch", "steps", "baseline")
    return run_side(
        __file__,
        side,
        environment=KEEP_PAGES if side == "plain_kept" else None,
        **{name: getattr(options, name) for name in names},
    )


def at_most(what: str, *, found: float, allowed: float, unit: str) -> Row:
    """Make a row of an upper limit; its ratio says how often what was found fits in."""
    ratio = allowed / found
    return Row(
        what=f"{what}, allowed against found", ours=allowed, baseline=found, unit=unit,
        ratio=ratio, goal=1.0, low=ratio, high=ratio,
    )  # fmt: skip


def speed_rows(rounds: list[dict[str, dict[str, Any]]], baseline: str) -> list[Row]:
    """Compare the sides, in steps per CPU second."""
    bounds = []
    for results in rounds:
        bound = results["bound"]
        once = bound["logits"] + bound["embeddings"] + bound["prototypes"]
        three, four = (once + 5 * bound["pass"], once + bound["logits"] + 5 * bound["pass"])
        bounds.append({"four-GEMM bound": four, "three-GEMM bound": three,
                       "sampled four-GEMM bound": four * RATE})  # fmt: skip
    goals: list[tuple[str, str, float | None]] = [
        ("recompute", "four-GEMM bound", 1 / 1.15),
        ("keep_exp", "three-GEMM bound", 1 / 1.25),
        ("sampled", "sampled four-GEMM bound", 1 / 1.5),
        ("recompute", "plain", 3.0),
        ("recompute", "plain_kept", 1.3),
        ("keep_exp", "plain", 3.0),
        ("keep_exp", "plain_kept", 1.3),
        ("bfloat16", "recompute", 1.5),
        ("sampled", "plain_sampling", 5.0),
        ("sampled_keep_exp", "plain_sampling", 5.0),
        ("sampled_bfloat16", "plain_sampling", 5.0),
    ]
    if baseline:
        goals += [("recompute", "baseline", None), ("sampled", "baseline_sampled", None)]
    rows = []
    for side, other, goal in goals:
        pairs = []
        for results, bound in zip(rounds, bounds, strict=True):
            slow = bound[other] if other in bound else results[other]["seconds"]
            pairs.append((1 / results[side]["seconds"], 1 / slow))
        rows.append(
            paired(f"{side} against {other}", pairs, unit="steps per CPU second", goal=goal)
        )
    return rows


def limit_rows(rounds: list[dict[str, dict[str, Any]]], options: argparse.Namespace) -> list[Row]:
    """Hold memory and accuracy against their limits."""
    errors = run("errors", options)
    rows = [
        at_most("gradient, CosFace recompute", found=errors["cosface"], allowed=1e-6, unit="of it"),
        at_most("gradient, ArcFace recompute", found=errors["arcface"], allowed=1e-5, unit="of it"),
        at_most("gradient, keep_exp", found=errors["keep_exp"], allowed=5e-4, unit="of it"),
        at_most("gradient, bfloat16", found=errors["bfloat16"], allowed=5e-3, unit="of it"),
        at_most("loss, bfloat16", found=errors["bfloat16 loss"], allowed=1e-3, unit="of it"),
    ]
    empty = min(results["empty"]["peak"] for results in rounds)
    allowed = 2.1 * options.identities * DIM * 4 + empty
    for side in ("recompute", "sampled"):
        peak = max(results[side]["peak"] for results in rounds)
        what = f"peak memory of {side} (2.1 · Mem_w + an empty process)"
        rows.append(at_most(what, found=peak / GIB, allowed=allowed / GIB, unit="GiB"))
    return rows


def paper_rows(options: argparse.Namespace) -> list[Row]:
    """Take real steps with the paper's number of identities on this machine."""
    result = run("recompute", options)
    weight = options.identities * DIM * 4
    for ranks in (1, 32):
        logits = options.batch * ranks * options.identities / ranks * 4
        formula = (3 * weight / ranks + 2 * logits) / GIB
        fused = 2 * weight / ranks / GIB
        print(
            f"{ranks} ranks: the paper's formula {formula:.2f} GiB, fused {fused:.2f} GiB + a block"
        )
    print(f"loss by step: {', '.join(f'{loss:.3f}' for loss in result['losses'])}")
    print(f"{result['seconds']:.2f} CPU s per step")
    falls = min(a - b for a, b in zip(result["losses"], result["losses"][1:], strict=False))
    name = f"C {options.identities:,}, batch {options.batch}"
    return [
        at_most(f"{name}: peak memory", found=result["peak"] / GIB, allowed=9.5, unit="GiB"),
        Row(what=f"{name}: smallest fall of the loss in a step", ours=falls, baseline=1.0, unit="",
            ratio=falls, goal=1e-6, low=falls, high=falls),
    ]  # fmt: skip


def print_table(rounds: list[dict[str, dict[str, Any]]]) -> None:
    print(f"{'side':18}{'CPU s per step':>16}{'peak GiB':>10}")
    for side in rounds[0]:
        peak = max(results[side]["peak"] for results in rounds) / GIB
        seconds = [results[side].get("seconds", 0.0) for results in rounds]
        print(f"{side:18}{statistics.median(seconds):16.4f}{peak:10.2f}")
    for name, value in rounds[-1]["bound"].items():
        if name != "peak":
            print(f"  of the bound, {name}: {value:.4f} CPU s")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="C 20,000, one round, within 50 s")
    parser.add_argument("--json", metavar="PATH", help="write the rows there; - prints them last")
    parser.add_argument("--identities", type=int, help="C; 100,000 by default")
    parser.add_argument("--batch", type=int, help=f"{BATCH} by default")
    parser.add_argument("--steps", type=int, help="timed in each process; 5 by default")
    parser.add_argument("--rounds", type=int, help="processes of each side; 3 by default")
    parser.add_argument("--baseline", default="", metavar="MODULE:FUNCTION", help="another head")
    parser.add_argument("--paper", action="store_true", help="only the paper's head: needs 9 GiB")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    quick = options.quick
    defaults = {
        "identities": 20_000 if quick else 100_000,
        "batch": BATCH,
        "steps": 3 if quick else 5,
        "rounds": 1 if quick else 3,
    }
    if options.paper:
        defaults |= {"identities": PAPER_IDENTITIES, "batch": PAPER_BATCH, "steps": PAPER_STEPS - 1}
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def main() -> None:
    options = parse()
    if options.side:
        print(json.dumps(child(options)))
        return
    if options.paper:
        report("head", paper_rows(options), json_path=options.json)
        return
    sides = ["empty", "bound", *OURS, "plain", "plain_kept", "plain_sampling"]
    if options.baseline:
        sides += ["baseline", "baseline_sampled"]
    rounds = [{side: run(side, options) for side in sides} for _ in range(options.rounds)]
    print(f"C {options.identities:,}, D {DIM}, batch {options.batch}, rate {RATE}, one thread")
    print_table(rounds)
    rows = speed_rows(rounds, options.baseline) + limit_rows(rounds, options)
    report("head", rows, json_path=options.json)


if __name__ == "__main__":
    main()
