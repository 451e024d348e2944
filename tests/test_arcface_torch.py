"""arcface_torch's checkpoints come over: same embeddings, all prototypes, and no code is run."""

from __future__ import annotations

import contextlib
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import make_store

from openmfr.arcface_torch import backbone_of, convert_arcface_torch
from openmfr.checkpoint import Checkpoint, CheckpointEmbedder
from openmfr.cli.main import main
from openmfr.data.labels import Labels
from openmfr.data.store import Store
from openmfr.errors import UserError
from openmfr.heads import HeadConfig
from openmfr.models.iresnet import DEPTHS
from openmfr.train import ScheduleConfig, TrainConfig, Training

D = 24


class TheirBlock(nn.Module):
    """A residual block with the names that arcface_torch gives to its parts."""

    def __init__(self, channels_in: int, channels: int, is_first: bool) -> None:
        super().__init__()
        stride = 2 if is_first else 1
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = None
        if is_first:
            convolution = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        out: Tensor = self.bn3(self.conv2(inner)) + shortcut
        return out


class TheirNetwork(nn.Module):
    """IResNet as arcface_torch names it, for 112 × 112."""

    def __init__(self, blocks: tuple[int, ...], dim: int = D) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        widths = [64, 64, 128, 256, 512]
        for stage, count in enumerate(blocks, start=1):
            layer = [
                TheirBlock(widths[stage - 1] if i == 0 else widths[stage], widths[stage], i == 0)
                for i in range(count)
            ]
            setattr(self, f"layer{stage}", nn.Sequential(*layer))
        self.bn2 = nn.BatchNorm2d(512)
        self.fc = nn.Linear(512 * 7 * 7, dim)
        self.features = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(x)))
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        embeddings: Tensor = self.features(self.fc(self.bn2(x).flatten(1)))
        return embeddings


def faces(count: int = 4) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, 112, 112, 3), dtype=np.uint8)


def their_input(images: Any) -> Tensor:
    """RGB to −1 … 1, as arcface_torch's `inference.py` does it."""
    values = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return values.div(255).sub(0.5).div(0.5)


@pytest.fixture(scope="module")
def network() -> TheirNetwork:
    """IResNet-18 with no weight and no statistic at its initial value."""
    torch.manual_seed(0)
    network = TheirNetwork(DEPTHS[18])
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.2)
            elif isinstance(module, nn.PReLU):
                module.weight.uniform_(0.0, 0.5)
    network.train()
    with torch.no_grad():
        for _ in range(3):  # running statistics on their way, neither initial nor converged
            network(their_input(faces()))
    return network.eval()


@pytest.fixture(scope="module")
def weights(network: TheirNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "backbone.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def folder(weights: Path, tmp_path: Path) -> Path:
    """A folder of arcface_torch with the network and no prototypes yet."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "backbone.pth").symlink_to(weights)
    return folder


def prototypes(identities: int, dim: int = D) -> Tensor:
    return torch.randn(identities, dim, generator=torch.Generator().manual_seed(identities))


def balanced(whole: Tensor, ranks: int) -> list[Tensor]:
    """Rows of each rank: C // k, and one more for the first C % k."""
    return [part.clone() for part in torch.tensor_split(whole, ranks)]


def save_shards(folder: Path, parts: list[Tensor], name: str = "softmax_fc_gpu_{}.pt") -> None:
    for rank, part in enumerate(parts):
        torch.save({"weight": part}, folder / name.format(rank))


def test_embeddings_are_those_of_arcface_torch(
    network: TheirNetwork, weights: Path, tmp_path: Path
) -> None:
    images = faces(6)
    with torch.inference_mode():
        expected = network(their_input(images)).numpy()
    checkpoint = convert_arcface_torch(weights, tmp_path / "ours")
    made = CheckpointEmbedder(checkpoint).embed(images)
    assert np.linalg.norm(expected, axis=1).min() > 0.1
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-5)


def test_a_file_gives_a_checkpoint_without_prototypes(weights: Path, tmp_path: Path) -> None:
    info = convert_arcface_torch(weights, tmp_path / "ours").info
    assert (info.backbone.name, info.backbone.embedding_dim) == ("iresnet18", D)
    assert (info.backbone.input_size, info.identities, info.step) == (112, 0, 0)


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_published_depth_is_known_by_its_names(depth: int) -> None:
    with torch.device("meta"):
        state = TheirNetwork(DEPTHS[depth], dim=512).state_dict()
    config = backbone_of(state, where=Path("backbone.pth"))
    assert (config.name, config.embedding_dim) == (f"iresnet{depth}", 512)


def test_files_of_old_versions_come_over(
    network: TheirNetwork, weights: Path, tmp_path: Path
) -> None:
    """Without batch counters, with the prefix of DistributedDataParallel, in torch's old format."""
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    torch.save(old, tmp_path / "model.pt", _use_new_zipfile_serialization=False)
    made = convert_arcface_torch(tmp_path / "model.pt", tmp_path / "old").read_backbone()
    expected = convert_arcface_torch(weights, tmp_path / "new").read_backbone()
    assert made.keys() == expected.keys()
    assert all(
        torch.equal(made[name], value)
        for name, value in expected.items()
        if not name.endswith("num_batches_tracked")
    )


@pytest.mark.parametrize(
    "name", ["softmax_fc_gpu_{}.pt", "rank_{}_softmax_weight.pt", "rank:{}_softmax_weight.pt"]
)
@pytest.mark.parametrize("ranks", [1, 3, 12])
def test_prototypes_of_all_ranks_are_joined_in_order(folder: Path, name: str, ranks: int) -> None:
    """Twelve ranks: by the alphabet, 10 would come before 2."""
    whole = prototypes(31)
    for rank, part in enumerate(balanced(whole, ranks)):
        torch.save({"weight": part} if "fc" in name else part, folder / name.format(rank))
    checkpoint = convert_arcface_torch(folder, folder / "ours")
    assert checkpoint.info.identities == 31
    assert torch.equal(checkpoint.read_prototypes(), whole)


def test_a_whole_training_state_gives_network_prototypes_and_step(
    network: TheirNetwork, tmp_path: Path
) -> None:
    whole = prototypes(7)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for rank, part in enumerate(balanced(whole, 2)):
        state = {
            "epoch": 3,
            "global_step": 1200,
            "state_dict_backbone": network.state_dict(),
            "state_dict_softmax_fc": {"weight": part},
            "state_optimizer": optimizer.state_dict(),
            "state_lr_scheduler": {"base_lrs": [0.1, 0.1], "last_epoch": 1200},
        }
        torch.save(state, tmp_path / f"checkpoint_gpu_{rank}.pt")
    checkpoint = convert_arcface_torch(tmp_path, tmp_path / "ours")
    assert checkpoint.info.step == 1200
    assert torch.equal(checkpoint.read_prototypes(), whole)
    weight = checkpoint.read_backbone()["embedding.linear.weight"]
    assert torch.equal(weight, network.fc.weight)

    state["global_step"] = 900
    torch.save(state, tmp_path / "checkpoint_gpu_1.pt")
    with pytest.raises(UserError, match="found step 900; allowed: step 1200"):
        convert_arcface_torch(tmp_path, tmp_path / "mixed")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("store") / "s", identities=5, images=2)


def test_a_converted_checkpoint_can_be_fine_tuned(folder: Path, store: Store) -> None:
    whole = prototypes(5)
    save_shards(folder, balanced(whole, 2))
    checkpoint = convert_arcface_torch(folder, folder / "ours")
    config = TrainConfig(
        backbone=checkpoint.info.backbone,
        head=HeadConfig(kind="arcface", margin=0.2, scale=16.0),
        schedule=ScheduleConfig(epochs=0.2, warmup_epochs=0.0),
        batch_size=2,
    )
    training = Training(config=config, store=store.path, start_from=checkpoint.path)
    trainer = training.trainer(folder / "run", device=torch.device("cpu"))
    assert torch.equal(trainer.learner.head.sharded_state()["prototypes"], whole)
    tuned = Checkpoint.open(trainer.fit())
    assert tuned.info.identities == 5
    assert not torch.equal(tuned.read_prototypes(), whole)


class Crafted:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize("file", ["backbone.pth", "softmax_fc_gpu_0.pt"])
@pytest.mark.parametrize(
    "write",
    [
        lambda content, path: torch.save(content, path),
        lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
        lambda content, path: path.write_bytes(pickle.dumps(content)),
    ],
    ids=["zip", "old", "plain"],
)
def test_a_crafted_file_runs_no_code(
    folder: Path, file: str, write: Callable[[Any, Path], None]
) -> None:
    save_shards(folder, balanced(prototypes(4), 1))
    marker, crafted = folder / "marker", folder / file
    crafted.unlink()
    write({"weight": Crafted(marker)}, crafted)
    with contextlib.suppress(Exception):
        torch.load(crafted, weights_only=False)
    assert marker.exists()  # the file is a weapon
    marker.unlink()
    with pytest.raises(UserError, match="no readable weights") as error:
        convert_arcface_torch(folder, folder / "ours")
    assert str(crafted) in str(error.value)
    assert "\n" not in str(error.value)
    assert not marker.exists()
    assert not (folder / "ours").exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "flipped"])
def test_a_damaged_file_is_one_clear_error(folder: Path, weights: Path, damage: str) -> None:
    raw = weights.read_bytes()
    file = folder / "backbone.pth"
    file.unlink()
    content = {
        "cut": raw[: len(raw) // 2],
        "empty": b"",
        "text": b"<!DOCTYPE html><title>404</title>",
        "flipped": raw[:200] + bytes(200) + raw[400:],
    }
    file.write_bytes(content[damage])
    with pytest.raises(UserError, match=r"backbone.pth: found no readable weights"):
        convert_arcface_torch(folder, folder / "ours")


def test_a_missing_rank_is_named(folder: Path) -> None:
    save_shards(folder, balanced(prototypes(30), 12))
    (folder / "softmax_fc_gpu_2.pt").unlink()
    with pytest.raises(UserError, match=r"each rank from 0 once; 2 is missing"):
        convert_arcface_torch(folder, folder / "ours")


def test_ranks_of_two_trainings_are_not_joined(folder: Path) -> None:
    """Trained on four GPUs, then on three in the same folder: the fourth rank's file is stale."""
    save_shards(folder, balanced(prototypes(40), 4))
    save_shards(folder, balanced(prototypes(40), 3))
    with pytest.raises(UserError, match=r"gpu_3.pt: found 10 prototypes, after 13 of rank 2"):
        convert_arcface_torch(folder, folder / "ours")
    save_shards(folder, [prototypes(n) for n in (10, 9, 10, 9)])
    with pytest.raises(UserError, match=r"gpu_2.pt: found 10 prototypes, after 9 of rank 1"):
        convert_arcface_torch(folder, folder / "ours")


def test_prototypes_of_another_dimension_are_refused(folder: Path) -> None:
    save_shards(folder, [prototypes(4), prototypes(4, dim=D + 8)])
    with pytest.raises(UserError, match=r"gpu_1.pt, prototypes: found shape \(4, 32\)"):
        convert_arcface_torch(folder, folder / "ours")


def test_a_choice_is_the_users(folder: Path) -> None:
    save_shards(folder, balanced(prototypes(4), 1))
    shutil.copy(folder / "backbone.pth", folder / "model.pt")
    with pytest.raises(UserError, match=r"found backbone.pth and model.pt; allowed: one network"):
        convert_arcface_torch(folder, folder / "ours")
    torch.save(prototypes(4), folder / "rank_0_softmax_weight.pt")
    with pytest.raises(UserError, match="allowed: one kind of prototypes"):
        convert_arcface_torch(folder, folder / "ours")


def test_a_folder_without_a_network_is_refused(folder: Path) -> None:
    save_shards(folder, balanced(prototypes(4), 1))
    (folder / "backbone.pth").unlink()
    with pytest.raises(UserError, match=r"found no network; allowed: a folder with backbone.pth"):
        convert_arcface_torch(folder, folder / "ours")
    with pytest.raises(UserError, match="check the path"):
        convert_arcface_torch(folder / "nowhere", folder / "ours")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_sep.layers.0.weight": torch.ones(2)}, "found 1 weights that iresnet18"),
        ({"layer1.1.bn2.bias": None}, r"layer1.1.bn2.bias: found nothing; allowed: shape \(64,\)"),
        ({"layer1.2.bn1.weight": torch.ones(64)}, "found an IResNet of 3, 2, 2, 2 blocks"),
        ({"conv1.weight": torch.ones(64, 3, 5, 5)}, r"conv1.weight: found shape \(64, 3, 5, 5\)"),
        ({"bn1.bias": torch.full((64,), torch.nan)}, "bn1.bias: found NaN"),
        ({"note": "hello"}, "found a dict that is no state of a network"),
    ],
    ids=["unknown", "missing", "depth", "shape", "nan", "value"],
)
def test_another_network_is_refused(
    network: TheirNetwork, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    changed = {k: v for k, v in (network.state_dict() | change).items() if v is not None}
    torch.save(changed, tmp_path / "backbone.pth")
    with pytest.raises(UserError, match=message):
        convert_arcface_torch(tmp_path / "backbone.pth", tmp_path / "ours")
    assert not (tmp_path / "ours").exists()


def test_a_mobilefacenet_is_named_as_another_network(tmp_path: Path) -> None:
    names = ("layers.0.layers.0.weight", "layers.0.layers.1.weight", "features.layers.2.weight")
    torch.save({name: torch.ones(3) for name in names}, tmp_path / "backbone.pth")
    with pytest.raises(UserError, match=r"another network, with weights named layers.0.layers.0"):
        convert_arcface_torch(tmp_path, tmp_path / "ours")


def test_nothing_is_overwritten(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    with pytest.raises(UserError, match="found something there already"):
        convert_arcface_torch(weights, tmp_path / "ours")


def test_the_command_converts_and_its_checkpoint_embeds(
    folder: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    save_shards(folder, balanced(prototypes(7), 2))
    ours = str(folder / "ours")
    assert main(["convert", str(folder), ours, "--to", "checkpoint"]) == 0
    assert "iresnet18, embeddings of 24, 7 prototypes" in capsys.readouterr().out
    assert main(["embed", ours, str(store.path), str(folder / "embeddings")]) == 0
    assert f"{len(Labels.from_names(store))} embeddings of {D}" in capsys.readouterr().out
    assert main(["convert", str(folder), ours, "--to", "checkpoint"]) == 2
    assert "choose another name" in capsys.readouterr().err
