"""Single questions to several ranks, beside the scenarios: one function each, on every rank."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from distributed.harness import Result
from distributed.scenarios import KINDS, Scenario

from openmfr.distributed import Ranks, gather, sum_over_ranks
from openmfr.errors import UserError
from openmfr.heads import HeadConfig, NotFiniteError, Step, build_head
from openmfr.heads.sampling import sample_identities

LARGEST_TOTAL = 10


def attempt(function: Callable[..., Result], *arguments: Any) -> Result:
    """What a function returns, or {"error": its traceback}, so that one fault hides no other."""
    try:
        return function(*arguments)
    except Exception:
        return {"error": traceback.format_exc()}


def numbers(total: int, *, of_rank: int = 0) -> torch.Tensor:
    """An array (total, 2) that says where each of its rows lies, another on each rank."""
    rows = torch.arange(total * 2, dtype=torch.float32).reshape(total, 2)
    return rows * float(10**of_rank)


def gathered(ranks: Ranks) -> Result:
    """Arrays of 1 to 10 rows: each put together, and its gradient back."""
    wholes, gradients = [], []
    for total in range(1, LARGEST_TOTAL + 1):
        first, last = ranks.bounds(total)
        part = numbers(total)[first:last].requires_grad_()
        whole = gather(part, total, ranks)
        (gradient,) = torch.autograd.grad(whole, part, numbers(total, of_rank=ranks.rank))
        wholes.append(whole.detach())
        gradients.append(gradient)
    return {"wholes": wholes, "gradients": gradients}


def scattered(ranks: Ranks) -> Result:
    """Arrays of 1 to 10 rows: the sum's rows of this rank, and the array given, afterwards."""
    parts, left = [], []
    for total in range(1, LARGEST_TOTAL + 1):
        whole = numbers(total, of_rank=ranks.rank)
        parts.append(ranks.scatter_sum(whole).clone())
        left.append(whole)
    return {"parts": parts, "left": left}


def reduced(ranks: Ranks) -> Result:
    """Sum with its gradient, and maximum, of arrays that differ by rank."""
    own = torch.tensor([1.0, -1.0]) * (ranks.rank + 1)
    own.requires_grad_()
    total = sum_over_ranks(own, ranks)
    (gradient,) = torch.autograd.grad(total, own, torch.tensor([2.0, 3.0]))
    return {
        "sum": total.detach(),
        "gradient": gradient,
        "left": own.detach(),
        "max": ranks.max_(own.detach().clone()),
    }


def draws(ranks: Ranks) -> Result:
    """Fresh prototypes of a shard, of both heads; C exceeds what is drawn with one seed."""
    heads = {
        path: build_head(
            HeadConfig(path=path),
            num_identities=9001,
            embedding_dim=3,
            ranks=ranks,
            seed=4,
        )
        for path in ("fused", "dense")
    }
    return {path: head.sharded_state()["prototypes"].detach() for path, head in heads.items()}


def samples(ranks: Ranks) -> Result:
    """Identities of this rank's shard in the samples of three steps, as identities of all."""
    first, last = ranks.bounds(5003)
    positives = torch.tensor([0, 17, 17, 2600, 5002])
    return {
        "samples": [
            first + sample_identities(first, last, rate=0.1, seed=3, step=step, positives=positives)
            for step in range(3)
        ]
    }


def not_finite(ranks: Ranks) -> Result:
    """A step with wrong embeddings: which rows are named, and what moved, of each head."""
    results: Result = {}
    for name, value in (("nan", float("nan")), ("inf", float("inf"))):
        for kind in ("softmax", "cosface", "adaface"):
            scenario = Scenario(config=replace(KINDS[kind], block=16))
            head = scenario.build(ranks)
            before = {key: part.clone() for key, part in head.state_dict().items()}
            embeddings, identity = scenario.batch(0)
            embeddings[5, 2] = embeddings[29] = value
            first, last = ranks.bounds(scenario.images)
            own = embeddings[first:last].requires_grad_()
            try:
                step = Step(size=scenario.size(0), images=scenario.images)
                head(own, identity[first:last], step)
                rows: list[int] = []
            except NotFiniteError as error:
                rows = error.rows
            moved = [key for key, part in head.state_dict().items() if not part.equal(before[key])]
            results[f"{kind} {name}"] = {"rows": rows, "moved": moved}
    return results


def parallel_loss(ranks: Ranks) -> Result:
    """PyTorch's own sharded cross entropy, and ours: losses and gradients of this shard."""
    scenario = Scenario(config=KINDS["softmax"], identities=101, images=30)
    embeddings, identity = scenario.batch(0)
    first, last = ranks.bounds(scenario.images)
    own = embeddings[first:last].clone().requires_grad_()
    head = build_head(
        replace(scenario.config, path="dense"),
        num_identities=scenario.identities,
        embedding_dim=scenario.dim,
        ranks=ranks,
    )
    with torch.no_grad():
        head.get_parameter("prototypes").copy_(scenario.prototypes()[head.first : head.last])
    loss = head(own, identity[first:last], Step(images=scenario.images))
    loss.backward()
    gradient = head.get_parameter("prototypes").grad
    assert gradient is not None
    assert own.grad is not None
    result = {"loss": loss.item(), "gradient": gradient, "embeddings": own.grad}
    shard = scenario.prototypes()[head.first : head.last]
    return {"ours": result, "theirs": _torch_loss(ranks, embeddings, shard, identity)}


def _torch_loss(
    ranks: Ranks, embeddings: torch.Tensor, shard: torch.Tensor, identity: torch.Tensor
) -> Result:
    if ranks.size == 1:
        embeddings, shard = embeddings.requires_grad_(), shard.requires_grad_()
        loss = F.cross_entropy(embeddings @ shard.T, identity)
        gradient, by_embeddings = torch.autograd.grad(loss, (shard, embeddings))
        return {"loss": loss.item(), "gradient": gradient, "embeddings": by_embeddings}
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
    from torch.distributed.tensor.parallel import loss_parallel

    mesh = init_device_mesh("cpu", (ranks.size,))
    whole = torch.zeros(101, shard.shape[1])
    first, last = ranks.bounds(101)
    whole[first:last] = shard
    prototypes = distribute_tensor(ranks.sum_(whole), mesh, [Shard(0)]).requires_grad_()
    everyone = distribute_tensor(embeddings, mesh, [Replicate()]).requires_grad_()
    targets = distribute_tensor(identity, mesh, [Replicate()])
    # An exception inside would leave its operations enabled, here in a process that then ends.
    with loss_parallel():
        loss = F.cross_entropy(everyone @ prototypes.T, targets)
        loss.backward()  # type: ignore[no-untyped-call]
    assert isinstance(prototypes.grad, DTensor)
    assert isinstance(everyone.grad, DTensor)
    rows = ranks.bounds(embeddings.shape[0])
    return {
        "loss": loss.full_tensor().item() if isinstance(loss, DTensor) else loss.item(),
        "gradient": prototypes.grad.to_local().clone(),
        "embeddings": everyone.grad.full_tensor()[rows[0] : rows[1]].clone(),
    }


def unknown_identity(ranks: Ranks) -> Result:
    """Labels that this head has no prototypes for, in the batch of every rank."""
    scenario = Scenario(config=KINDS["cosface"])
    embeddings, identity = scenario.batch(0)
    identity += 100
    first, last = ranks.bounds(scenario.images)
    head = scenario.build(ranks)
    try:
        head(embeddings[first:last], identity[first:last], Step(images=scenario.images))
    except UserError as error:
        return {"message": str(error)}
    return {"message": "none"}


def fail_on_rank_1(ranks: Ranks) -> Result:
    """Fail where the others wait."""
    if ranks.rank == 1:
        raise RuntimeError("rank 1 has had enough")
    ranks.barrier()
    return {}


def wait_for_nobody(ranks: Ranks) -> Result:
    """Hang: a collective that only one rank calls."""
    if ranks.rank == 0:
        ranks.barrier()
    time.sleep(600)
    return {}


CHECKS: dict[str, Callable[[Ranks], Result]] = {
    "gathered": gathered,
    "scattered": scattered,
    "reduced": reduced,
    "draws": draws,
    "samples": samples,
    "not finite": not_finite,
    "unknown identity": unknown_identity,
    "parallel loss": parallel_loss,
}
