"""Checkpoints of InsightFace's arcface_torch, brought over: the IResNet and the prototypes.

Its files are pickles. They are read by torch's restricted reader, which makes tensors and plain
values and calls nothing else. The network's weights stand in one file, the prototypes in one file
for each GPU that trained, numbered by rank.

Source:
    https://github.com/deepinsight/insightface, recognition/arcface_torch: `backbones/iresnet.py`
    for the names, `train_v2.py`, `partial_fc_v2.py` and their predecessors for the files.
"""

from __future__ import annotations

import math
import re
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openmfr.checkpoint import Checkpoint, CheckpointInfo, save_checkpoint
from openmfr.errors import UserError
from openmfr.models import BackboneConfig, build_backbone
from openmfr.models.iresnet import DEPTHS

#: Files that hold the weights of the network alone.
BACKBONES = ("backbone.pth", "model.pt")

_RANK = r"(0|[1-9]\d{0,4})"

#: Files that hold one rank's prototypes, by the kind of file; the first holds the network too.
SHARDS = {
    kind: re.compile(re.escape(kind).replace(r"\*", _RANK))
    for kind in (
        "checkpoint_gpu_*.pt",
        "softmax_fc_gpu_*.pt",
        "rank_*_softmax_weight.pt",
        "rank:*_softmax_weight.pt",
    )
}

#: Module of theirs → module of ours, outside of the stages.
_MODULES = {
    "conv1": "stem.0",
    "bn1": "stem.1",
    "prelu": "stem.2",
    "bn2": "embedding.norm",
    "fc": "embedding.linear",
    "features": "embedding.out_norm",
}

#: The same within a residual block.
_BLOCK_MODULES = {
    "bn1": "body.0",
    "conv1": "body.1",
    "bn2": "body.2",
    "prelu": "body.3",
    "conv2": "body.4",
    "bn3": "body.5",
    "downsample.0": "shortcut.0",
    "downsample.1": "shortcut.1",
}

#: Old versions of torch did not save it, and nothing of ours reads it.
_COUNTER = "num_batches_tracked"


def convert_arcface_torch(source: Path, out: Path) -> Checkpoint:
    """Make a checkpoint from what arcface_torch wrote.

    The prototypes of all ranks are joined in the order of the ranks, which is that of the
    identities. Momentum, schedule and loss scale stay behind: the checkpoint is one to embed with
    or to fine-tune.

    Args:
        source: A file with the network's weights (`backbone.pth`, `model.pt`,
            `checkpoint_gpu_0.pt`), which gives a checkpoint without prototypes; or a folder with
            one, and with any number of ranks' prototypes.
        out: Folder to create.

    Returns:
        The checkpoint; its `identities` is 0 if there were no prototypes.

    Raises:
        UserError: If `out` exists; if there is no network, or another than arcface_torch's IResNet;
            if a rank's prototypes are missing or belong to another training; if a file is damaged,
            or would run code.
    """
    if out.exists():
        raise UserError(
            where=str(out),
            found="something there already",
            allowed="a new folder",
            next_step="choose another name, or delete it",
        )
    found = _find(source)
    backbone, step = _read_backbone(found.backbone)
    config = backbone_of(backbone, where=found.backbone)
    shards = _read_shards(found.shards, dim=config.embedding_dim, step=step)
    info = CheckpointInfo(
        backbone=config,
        step=step,
        images_seen=0,
        identities=sum(len(shard) for shard in shards),
        store="",
        labels="",
    )
    save_checkpoint(
        out,
        info,
        backbone=_renamed(backbone, config, where=found.backbone),
        training={},
        shards={"prototypes": torch.cat(shards)} if info.identities else {},
    )
    return Checkpoint.open(out)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The files to read: the network's, and those of the prototypes in the order of the ranks."""

    backbone: Path
    shards: list[Path]


def _find(source: Path) -> _Found:
    if source.is_file():
        return _Found(backbone=source, shards=[])
    if not source.is_dir():
        raise UserError(
            where=str(source),
            found="nothing",
            allowed="a file or folder that arcface_torch wrote",
            next_step="check the path",
        )
    files = sorted(source.iterdir())
    by_kind: dict[str, list[tuple[int, Path]]] = {}
    for kind, pattern in SHARDS.items():
        matches = [(pattern.fullmatch(file.name), file) for file in files]
        ranks = sorted((int(match[1]), file) for match, file in matches if match)
        if ranks:
            by_kind[kind] = ranks
    backbones = [source / name for name in BACKBONES if (source / name).is_file()]
    _check_single(source, list(by_kind), "one kind of prototypes")
    kind, ranked = next(iter(by_kind.items()), ("", []))
    ranks_found = [rank for rank, _ in ranked]
    if ranks_found != list(range(len(ranked))):
        lacking = sorted(set(range(ranks_found[-1] + 1)) - set(ranks_found))
        raise UserError(
            where=f"{source}, {kind}",
            found=f"ranks {_listed(ranks_found)}",
            allowed=f"each rank from 0 once; {_listed(lacking)} is missing",
            next_step="copy the files of all GPUs, or give the network's file alone",
        )
    shards = [file for _, file in ranked]
    if kind == "checkpoint_gpu_*.pt":  # of the same step as the prototypes
        return _Found(backbone=shards[0], shards=shards)
    _check_single(source, [file.name for file in backbones], "one network")
    if not backbones:
        raise UserError(
            where=str(source),
            found="no network",
            allowed=f"a folder with {', '.join(BACKBONES)} or checkpoint_gpu_0.pt",
            next_step="copy it there, under one of these names",
        )
    return _Found(backbone=backbones[0], shards=shards)


def _check_single(source: Path, names: list[str], allowed: str) -> None:
    if len(names) > 1:
        raise UserError(
            where=str(source),
            found=" and ".join(names),
            allowed=allowed,
            next_step="move away what belongs to another training or is older",
        )


def _listed(numbers: list[int]) -> str:
    shown = ", ".join(str(number) for number in numbers[:8])
    return f"{shown}, …" if len(numbers) > 8 else shown


def _load(path: Path) -> Any:
    """Read a file of torch without running what is in it; tensors stay on the disk if they can."""
    try:
        return torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except Exception as error:  # what damaged bytes raise, torch does not say
        lines = str(error).strip().splitlines() or [type(error).__name__]
        told = [line for line in lines if "WeightsUnpickler error" in line] or lines
        raise UserError(
            where=str(path),
            found=f"no readable weights ({told[0].strip()})",
            allowed="tensors in a file of torch.save; code in a file is not run",
            next_step="copy it again; if you trust it, save the state_dict() alone from where it "
            "was made",
        ) from error


def _read_backbone(path: Path) -> tuple[dict[str, Tensor], int]:
    """The network's weights by their names, and the step that they are of, 0 if nobody says."""
    content, step = _load(path), 0
    if isinstance(content, dict) and "state_dict_backbone" in content:
        step = _step_of(content)
        content = content["state_dict_backbone"]
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise UserError(
            where=str(path),
            found=f"a {type(content).__name__} that is no state of a network",
            allowed="tensors by name, as state_dict() gives them",
            next_step=f"give the file that arcface_torch calls {' or '.join(BACKBONES)}",
        )
    return {name.removeprefix("module."): value for name, value in content.items()}, step


def _step_of(content: dict[str, Any]) -> int:
    step = content.get("global_step")
    return step if isinstance(step, int) and step >= 0 else 0


def backbone_of(state: dict[str, Tensor], *, where: Path) -> BackboneConfig:
    """Tell which IResNet a state is of, by the names of its weights and the shape of the last.

    Args:
        state: Weights by arcface_torch's names.
        where: Their file, for the error.

    Raises:
        UserError: If it is of another network.
    """
    blocks = [-1] * 4
    for name in state:
        if match := re.match(r"layer([1-4])\.(\d{1,3})\.", name):
            stage = int(match[1]) - 1
            blocks[stage] = max(blocks[stage], int(match[2]))
    counts = tuple(last + 1 for last in blocks)
    depth = next((depth for depth, published in DEPTHS.items() if published == counts), None)
    linear = state.get("fc.weight")
    if depth is None or linear is None or linear.ndim != 2:
        is_deep = linear is not None and all(counts)
        raise UserError(
            where=str(where),
            found=f"an IResNet of {', '.join(map(str, counts))} blocks"
            if is_deep
            else f"another network, with weights named {', '.join(list(state)[:3]) or 'nothing'}",
            allowed=f"arcface_torch's IResNet of depth {', '.join(map(str, DEPTHS))} (r18 to r200)",
            next_step="use the network as your own backbone (package.module:Class)",
        )
    size = math.isqrt(linear.shape[1] // 512)  # of the last feature map; the image is 16 × as large
    return BackboneConfig(
        name=f"iresnet{depth}", input_size=max(16 * size, 16), embedding_dim=linear.shape[0]
    )


def _renamed(state: dict[str, Tensor], config: BackboneConfig, *, where: Path) -> dict[str, Tensor]:
    """The weights by our names, each of the shape that our network has there."""
    with torch.device("meta"):
        wanted = build_backbone(config).state_dict()
    theirs = _their_names(config)
    left, renamed = dict(state), {}
    for name, like in wanted.items():
        module, _, leaf = name.rpartition(".")
        their_name = f"{theirs[module]}.{leaf}"
        value = left.pop(their_name, None)
        if value is None and leaf == _COUNTER:
            value = torch.zeros_like(like, device="cpu")
        if value is None or value.shape != like.shape:
            raise UserError(
                where=f"{where}, {their_name}",
                found="nothing" if value is None else f"shape {tuple(value.shape)}",
                allowed=f"shape {tuple(like.shape)}, as {config.name} has it",
                next_step="use the network as your own backbone (package.module:Class)",
            )
        _check_finite(value, where=f"{where}, {their_name}")
        renamed[name] = value.detach().to(like.dtype, copy=True)  # nothing shares memory any more
    if left:
        raise UserError(
            where=f"{where}, {next(iter(left))}",
            found=f"{len(left)} weights that {config.name} does not have",
            allowed=f"the weights of {config.name} alone",
            next_step="use the network as your own backbone (package.module:Class)",
        )
    return renamed


def _their_names(config: BackboneConfig) -> dict[str, str]:
    """Each module of ours that has weights → the name of theirs."""
    names = {ours: theirs for theirs, ours in _MODULES.items()}
    block = 0
    for stage, count in enumerate(DEPTHS[int(config.name.removeprefix("iresnet"))], start=1):
        for number in range(count):
            for theirs, ours in _BLOCK_MODULES.items():
                names[f"stages.{block}.{ours}"] = f"layer{stage}.{number}.{theirs}"
            block += 1
    return names


def _read_shards(paths: list[Path], *, dim: int, step: int) -> list[Tensor]:
    """The prototypes of each rank, float32 (n, D), checked to be those of one training."""
    shards: list[Tensor] = []
    for path in paths:
        content = _load(path)
        if isinstance(content, dict) and "state_dict_softmax_fc" in content:
            if _step_of(content) != step:
                raise UserError(
                    where=str(path),
                    found=f"step {_step_of(content)}",
                    allowed=f"step {step}, as of rank 0",
                    next_step="copy the files of one moment of the training",
                )
            content = content["state_dict_softmax_fc"]
        weight = content.get("weight") if isinstance(content, dict) else content
        if not isinstance(weight, Tensor) or weight.ndim != 2 or weight.shape[1] != dim:
            shape = f"shape {tuple(weight.shape)}" if isinstance(weight, Tensor) else "none"
            raise UserError(
                where=f"{path}, prototypes",
                found=shape,
                allowed=f"shape (identities, {dim}), as the network's embeddings have",
                next_step="take network and prototypes of one training",
            )
        _check_finite(weight, where=f"{path}, prototypes")
        shards.append(weight.detach().float())
    _check_balanced([len(shard) for shard in shards], paths)
    return shards


def _check_balanced(rows: list[int], paths: list[Path]) -> None:
    """Find files that a training on more GPUs left behind: they stand beside those of a later one.

    arcface_torch gives each rank C // k identities, and one more to the first C % k.
    """
    for rank, (before, here) in enumerate(pairwise(rows), start=1):
        if here > before or here < rows[0] - 1:
            raise UserError(
                where=str(paths[rank]),
                found=f"{here:,} prototypes, after {before:,} of rank {rank - 1}",
                allowed=f"{rows[0]:,} in the first ranks, then {rows[0] - 1:,}",
                next_step="move away the files of another training, on another number of GPUs",
            )


def _check_finite(tensor: Tensor, *, where: str) -> None:
    if not torch.isfinite(tensor).all():
        raise UserError(
            where=where,
            found="NaN or infinite numbers",
            allowed="finite numbers",
            next_step="take the checkpoint of an earlier epoch: this training had diverged",
        )
