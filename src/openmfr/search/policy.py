"""The policy of the reinforcement-learning controller: each decision knows those before it.

A small recurrent network reads the decisions made so far and gives chances for the options of the
next one. It learns by proximal policy optimisation: decisions of candidates that were better than
expected become more likely, by no more than a bounded factor in one update. A bonus for entropy
keeps it from settling too soon.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from openmfr.errors import check_fields
from openmfr.search.space import Option


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """How the policy learns.

    Attributes:
        width: Of the recurrent state.
        batch: Trials in an update.
        passes: Over the trials of an update; 1 is REINFORCE with a baseline.
        learning_rate: Of Adam.
        clip: By how much an update may change a decision's chance, as a share of it.
        entropy_bonus: Weight of the entropy beside the reward, which is brought to unit spread.
        baseline_decay: How slowly what is expected follows the rewards, 0 to below 1.

    Source:
        PPO, https://arxiv.org/abs/1707.06347, equations 7 and 9; MnasNet,
        https://arxiv.org/abs/1807.11626, §4.2, trains its controller by it.
    """

    width: int = 32
    batch: int = 8
    passes: int = 6
    learning_rate: float = 0.01
    clip: float = 0.2
    entropy_bonus: float = 0.01
    baseline_decay: float = 0.8

    def __post_init__(self) -> None:
        limits = {
            "width": (self.width >= 1, "from 1"),
            "batch": (self.batch >= 1, "from 1"),
            "passes": (self.passes >= 1, "from 1"),
            "learning_rate": (self.learning_rate > 0, "above 0"),
            "clip": (0 < self.clip < 1, "between 0 and 1"),
            "entropy_bonus": (self.entropy_bonus >= 0, "from 0"),
            "baseline_decay": (0 <= self.baseline_decay < 1, "from 0 to below 1"),
        }
        check_fields(self, limits, next_step="leave it out", within="policy.")


@dataclass(frozen=True)
class Episode:
    """A finished candidate: its decisions by name, and its reward."""

    decisions: Mapping[str, Any]
    reward: float


class Policy:
    """Chances of every decision, given those before.

    Args:
        decisions: Every decision that may come, and its options.
        config: How it learns.
        seed: Of the first weights.
    """

    def __init__(
        self, decisions: Mapping[str, Sequence[Option]], config: PolicyConfig, *, seed: int
    ) -> None:
        self.options = {name: tuple(options) for name, options in decisions.items()}
        self.config = config
        self.entropy = 0.0
        self._baseline: float | None = None
        self._spread = 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = _Network(self.options, config.width)
        self._optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate)

    def begin(self) -> Turn:
        """Begin an architecture."""
        return Turn(self)

    def learn(self, episodes: Sequence[Episode]) -> None:
        """Make decisions that were rewarded more than expected likelier, and the others less so."""
        advantages = torch.tensor(self._advantages([episode.reward for episode in episodes]))
        indices = self._indices(episodes)
        is_made = indices >= 0
        with torch.no_grad():
            before, _ = self._follow(indices)
        for _ in range(self.config.passes):
            chances, entropies = self._follow(indices)
            ratio = (chances - before).exp()
            clipped = ratio.clamp(1 - self.config.clip, 1 + self.config.clip)
            gain = torch.minimum(ratio * advantages.unsqueeze(1), clipped * advantages.unsqueeze(1))
            entropy = entropies[is_made].mean()
            loss = -gain[is_made].mean() - self.config.entropy_bonus * entropy
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self.entropy = float(entropy.detach())

    def _advantages(self, rewards: Sequence[float]) -> list[float]:
        """Rewards beyond what was expected, in units of their usual spread."""
        mean = sum(rewards) / len(rewards)
        expected = mean if self._baseline is None else self._baseline
        spread = (sum((reward - expected) ** 2 for reward in rewards) / len(rewards)) ** 0.5
        decay = 0.0 if self._baseline is None else self.config.baseline_decay
        self._baseline = decay * expected + (1 - decay) * mean
        self._spread = decay * self._spread + (1 - decay) * spread
        return [(reward - expected) / (self._spread + 1e-8) for reward in rewards]

    def _indices(self, episodes: Sequence[Episode]) -> Tensor:
        """The answers of every episode (B) to every decision, by number; −1 where none was asked.

        In the order of the space: a storage may have kept them in another.
        """
        rows = [
            [
                options.index(episode.decisions[name]) if name in episode.decisions else -1
                for name, options in self.options.items()
            ]
            for episode in episodes
        ]
        return torch.tensor(rows)

    def _follow(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the chances of decisions that were made, and entropies; both as `indices`.

        Where none was asked, the values mean nothing.
        """
        state = self.network.start().expand(len(indices), -1)
        chances, entropies = [], []
        for name, answers in zip(self.options, indices.T, strict=True):
            logs = self.network.log_chances(state, name)
            made = answers.clamp_min(0)
            chances.append(logs.gather(1, made.unsqueeze(1)).squeeze(1))
            entropies.append(-(logs.exp() * logs).sum(1))
            moved = self.network.advance(state, name, made)
            state = torch.where((answers >= 0).unsqueeze(1), moved, state)
        return torch.stack(chances, 1), torch.stack(entropies, 1)


class Turn:
    """One architecture that is being decided about."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._state = policy.network.start()

    def draw(self, name: str, rng: random.Random) -> Option:
        """Make the next decision."""
        network, options = self._policy.network, self._policy.options[name]
        with torch.no_grad():
            chances = network.log_chances(self._state, name).exp().flatten().tolist()
            (index,) = rng.choices(range(len(options)), weights=chances)
            self._state = network.advance(self._state, name, torch.tensor([index]))
        return options[index]


class _Network(nn.Module):
    """Reads decisions one by one, and gives logarithms of chances for the next."""

    def __init__(self, options: Mapping[str, Sequence[Option]], width: int) -> None:
        super().__init__()
        # Names of decisions hold commas and dots, which modules may not: they go by number.
        self._numbers = {name: number for number, name in enumerate(options)}
        counts = [len(found) for found in options.values()]
        self.width = width
        self.cell = nn.GRUCell(width, width)
        self.answers = nn.ModuleList(nn.Embedding(count, width) for count in counts)
        self.heads = nn.ModuleList(nn.Linear(width, count) for count in counts)
        for head in self.heads:
            assert isinstance(head, nn.Linear)
            nn.init.zeros_(head.weight)  # the first draws are even
            nn.init.zeros_(head.bias)

    def start(self) -> Tensor:
        """The state before the first decision, (1, width)."""
        return torch.zeros(1, self.width)

    def log_chances(self, state: Tensor, name: str) -> Tensor:
        """Map states (B, width) to logarithms of the chances of a decision's options."""
        logits: Tensor = self.heads[self._numbers[name]](state)
        return logits.log_softmax(1)

    def advance(self, state: Tensor, name: str, indices: Tensor) -> Tensor:
        """Take one decision of each in: its number among the options, (B,)."""
        moved: Tensor = self.cell(self.answers[self._numbers[name]](indices), state)
        return moved
