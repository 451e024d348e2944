"""The networks of the paper's Table 7, made narrow: as many multiply-adds as `tiny` at 64 × 64.

The paper compares them at 4 to 6 billion multiply-adds and 224 × 224. Here each has all its blocks,
and only so many channels that it costs 64 million; blocks and how they are connected differ as in
the paper. `BackboneConfig` takes them by name: `openmfr.reproduce.networks:NarrowResNet50`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from openmfr.models.backbone import DESCRIBED, BackboneConfig
from openmfr.models.iresnet import DEPTHS, IResNet
from openmfr.models.resnet import ResNet
from openmfr.models.ridnet import load_definition
from openmfr.search.scale import Target, scale

_DEFINITIONS = Path(__file__).parent / "definitions"
#: RIDNets beside the one that is shipped: the best finalists of evolution and of chance in the
#: search that began with it.
BY_EVOLUTION, BY_CHANCE = (str(_DEFINITIONS / f"by_{who}.json") for who in ("evolution", "chance"))
#: Multiply-adds of each network at 64 × 64, from the image to the embedding of 256 numbers.
MACS: Final = 63.7e6


class NarrowResNet50(ResNet):
    """ResNet-50 with 27 channels in the stem."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(width=27, **keywords)


class NarrowSEResNet50(ResNet):
    """SE-ResNet-50 with 27 channels in the stem."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(width=27, is_squeezed=True, **keywords)


class NarrowResNeXt50(ResNet):
    """ResNeXt-50 with 38 channels in the stem, 16 groups."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(width=38, groups=16, group_width=2, **keywords)


class NarrowIResNet50(IResNet):
    """IResNet-50 with 22 channels in the first stage, whose stem halves the image."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(
            blocks=DEPTHS[50], width=22, stem_stride=2, activation_name="relu", **keywords
        )


def scaled_ridnet(
    config: BackboneConfig, macs: float, *, network: str = "ridnet_xs"
) -> BackboneConfig:
    """A RIDNet, scaled to so many multiply-adds at a configuration's input and embedding.

    Args:
        config: What is trained but for the network.
        macs: Of an image.
        network: `BY_EVOLUTION`, `BY_CHANCE`, a shipped one's name or any JSON file.
    """
    start = load_definition(network).architecture
    found = scale(
        replace(start, input_size=config.input_size),
        Target(macs=macs),
        embedding_dim=config.embedding_dim,
    )
    return replace(config, name=DESCRIBED, architecture=found)
