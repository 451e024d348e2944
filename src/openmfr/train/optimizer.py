"""The optimizer, what it decays, and its state by the names of the weights it moves.

State is named, not numbered, so that a checkpoint can be read without the optimizer that wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from openmfr.errors import UserError, raise_together


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Stochastic gradient descent with momentum.

    Attributes:
        learning_rate: Peak rate for 256 images a step; scaled linearly with the batch.
        momentum: 0 to below 1.
        weight_decay: Applied to weights and prototypes, not to biases and norms.
        clip_norm: Largest norm of the backbone's gradient; 0 switches clipping off. The head's
            gradient is not clipped, so that a sharded head needs no norm over its shards.

    Source:
        MFR paper, §3.3 (0.1 per 256 images, momentum 0.9); weight decay: its Table 9.
    """

    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float = 5.0

    def __post_init__(self) -> None:
        limits = {
            "learning_rate": self.learning_rate > 0,
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": self.weight_decay >= 0,
            "clip_norm": self.clip_norm >= 0,
        }
        allowed = {"learning_rate": "above 0", "momentum": "0 to below 1"}
        raise_together(
            [
                UserError(
                    where=f"optimizer.{name}",
                    found=f"{getattr(self, name):g}",
                    allowed=allowed.get(name, "from 0"),
                    next_step="correct the value",
                )
                for name, is_valid in limits.items()
                if not is_valid
            ]
        )


def build_optimizer(config: OptimizerConfig, modules: Mapping[str, nn.Module]) -> torch.optim.SGD:
    """Build SGD over modules; the learning rate is set by the trainer at each step.

    Weights and prototypes decay; a norm's scale, a bias or a PReLU slope has no reason to be 0.
    """
    parameters = [p for _, p in _named_parameters(modules) if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=config.momentum)


def optimizer_state(
    optimizer: torch.optim.SGD, modules: Mapping[str, nn.Module]
) -> dict[str, Tensor]:
    """Momentum of every weight that has one, by name."""
    state: dict[str, Tensor] = {}
    for name, parameter in _named_parameters(modules):
        momentum = optimizer.state[parameter].get("momentum_buffer")
        if momentum is not None:
            state[f"momentum.{name}"] = momentum
    return state


def load_optimizer_state(
    optimizer: torch.optim.SGD, modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]
) -> None:
    """Give every weight the momentum that `optimizer_state` wrote."""
    for name, parameter in _named_parameters(modules):
        momentum = state.get(f"momentum.{name}")
        if momentum is not None:
            buffer = torch.empty_like(parameter).copy_(momentum)
            optimizer.state[parameter]["momentum_buffer"] = buffer


def scaler_state(scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    """Loss scale and growth counter; nothing if the scaler is switched off."""
    if not scaler.is_enabled():
        return {}
    state = scaler.state_dict()
    return {
        "scaler.scale": torch.tensor(state["scale"], dtype=torch.float64),
        "scaler.growth": torch.tensor(state["_growth_tracker"]),
    }


def load_scaler_state(scaler: torch.amp.GradScaler, state: Mapping[str, Tensor]) -> None:
    """Set the scaler to what `scaler_state` wrote."""
    if scaler.is_enabled():
        scaler.load_state_dict(
            scaler.state_dict()
            | {
                "scale": float(state["scaler.scale"]),
                "_growth_tracker": int(state["scaler.growth"]),
            }
        )


def _named_parameters(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    for prefix, module in modules.items():
        for name, parameter in module.named_parameters():
            yield f"{prefix}.{name}", parameter
