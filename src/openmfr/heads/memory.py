"""What a head needs in memory on one rank, as plain arithmetic: nothing is allocated.

The largest shard is counted, ⌈C / k⌉ rows. A head of the same kind can be asked for at any number
of ranks, so a planner can look for the smallest one that fits.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from openmfr.heads.config import HeadConfig

#: Bytes of a float32, a bfloat16 and an int64.
FLOAT, HALF, LONG = 4, 2, 8

#: Rate of Partial FC where nothing else is said: that of the paper of this name. The MFR paper does
#: not give its own.
PARTIAL_FC_RATE = 0.1

#: Arrays of (G, D) that a fused step holds at once: embeddings, their unit vectors, their gradient,
#: and two temporaries of the last lines of its backward pass.
EMBEDDING_ARRAYS = 5

#: Bytes for each identity of a shard while a sample is drawn: hash, two temporaries of it (int32),
#: and who takes part (bool).
SAMPLING_BYTES = 3 * 4 + 1


@dataclass(frozen=True, kw_only=True)
class HeadSize:
    """The numbers that a head's memory depends on.

    Attributes:
        identities: C, over all ranks.
        embedding_dim: D.
        images: Images whose logits are formed together: G, or B where ranks do not share them.
        ranks: k, that share the prototypes.
    """

    identities: int
    embedding_dim: int
    images: int
    ranks: int = 1

    @property
    def rows(self) -> int:
        """Cs, prototypes of the largest shard."""
        return -(-self.identities // self.ranks)

    @property
    def weight(self) -> int:
        """Bytes of the shard's prototypes, the paper's Mem_w."""
        return FLOAT * self.rows * self.embedding_dim

    def sampled(self, rate: float) -> int:
        """Ss, rows of the shard that a step is expected to use: a share, and the batch's own."""
        if rate >= 1:
            return self.rows
        own = min(-(-self.images // self.ranks), self.rows)
        return min(self.rows, own + round(rate * (self.rows - own)))


@dataclass(frozen=True, kw_only=True)
class HeadMemory:
    """Memory of one rank's head, in bytes.

    Attributes:
        prototypes: (Cs, D), float32.
        momentum: (Cs, D), float32.
        gradient: Of all prototypes, of a sample, or none.
        copies: Of sampled prototypes and their momentum, or temporaries as large as prototypes.
        logits: Whole logits and their gradient.
        kept: Exponentials kept for the backward pass.
        blocks: Buffers of the blocks that are processed one at a time.
        vectors: Numbers of which there is one for each identity.
        embeddings: Gathered embeddings, and what the step derives from them.
    """

    prototypes: int = 0
    momentum: int = 0
    gradient: int = 0
    copies: int = 0
    logits: int = 0
    kept: int = 0
    blocks: int = 0
    vectors: int = 0
    embeddings: int = 0

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """All parts by name."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


def head_memory(config: HeadConfig, size: HeadSize) -> HeadMemory:
    """Memory of one rank's head as configured.

    Args:
        config: Which path, and how it works.
        size: Of the head and its batch.

    Returns:
        Bytes, by part.
    """
    return plain_memory(size) if config.path == "dense" else fused_memory(config, size)


def dense_memory(size: HeadSize) -> HeadMemory:
    """Memory of a dense head as the paper counts it: 3 · Mem_w + 2 · Mem_logits.

    No head that holds its logits and its gradient goes below it; see `plain_memory` for one that
    leaves the backward pass to PyTorch.

    Args:
        size: Of the head and its batch.

    Returns:
        Bytes, by part.

    Source:
        MFR paper, §2.1. Its example has C = 2,000,000, d = 512, N = 64.

    Example:
        >>> alone = HeadSize(identities=2_000_000, embedding_dim=512, images=64)
        >>> shared = HeadSize(identities=2_000_000, embedding_dim=512, images=64 * 32, ranks=32)
        >>> [f"{dense_memory(size).total / 2**30:.2f}" for size in (alone, shared)]
        ['12.40', '1.31']
    """
    return HeadMemory(
        prototypes=size.weight,
        momentum=size.weight,
        gradient=size.weight,
        logits=2 * FLOAT * size.images * size.rows,
    )


def plain_memory(size: HeadSize) -> HeadMemory:
    """Memory of our dense head, whose backward pass is PyTorch's.

    It peaks at one of two moments. When the loss is known, 4 arrays of logits live beside the
    gradient of the last step. When the prototypes' gradient is formed, it comes in two parts, one
    of them through a temporary as large as itself, beside the last array of logits.

    Args:
        size: Of the head and its batch.

    Returns:
        Bytes, by part, at the larger moment; more than `dense_memory`.
    """
    logits = FLOAT * size.images * size.rows
    paper = dense_memory(size)
    if 2 * size.weight > 3 * logits:
        return replace(paper, copies=2 * size.weight, logits=logits)
    return replace(paper, logits=4 * logits)


def partial_fc_memory(size: HeadSize, *, sample_rate: float) -> HeadMemory:
    """Memory of a dense head over a sample, Partial FC as published.

    Prototypes and momentum of the whole shard are held; those of the sample are copied, their
    gradient and their logits are formed whole. (arcface_torch's later PartialFC_V2 lets autograd
    index the prototypes, and so forms a gradient as large as all of them.)

    Args:
        size: Of the head and its batch.
        sample_rate: Share of the identities that take part in a step, above 0 to 1.

    Returns:
        Bytes, by part; those of `dense_memory` at rate 1.

    Source:
        Partial FC, https://arxiv.org/abs/2010.05222; MFR paper, §2.1.

    Example:
        >>> size = HeadSize(identities=2_000_000, embedding_dim=512, images=64)
        >>> f"{partial_fc_memory(size, sample_rate=0.1).total / 2**30:.2f}"
        '8.87'
    """
    sampled = size.sampled(sample_rate)
    gradient = FLOAT * sampled * size.embedding_dim
    return HeadMemory(
        prototypes=size.weight,
        momentum=size.weight,
        gradient=gradient,
        copies=2 * gradient if sample_rate < 1 else 0,
        logits=2 * FLOAT * size.images * sampled,
    )


def fused_memory(config: HeadConfig, size: HeadSize) -> HeadMemory:
    """Memory of a fused head: prototypes, momentum, and one block.

    Args:
        config: Of a fused head; its backward, update, gemm, sampling and block count.
        size: Of the head and its batch.

    Returns:
        Bytes, by part.

    Example:
        >>> size = HeadSize(identities=2_000_000, embedding_dim=512, images=64 * 32, ranks=32)
        >>> memory = fused_memory(HeadConfig(), size)
        >>> f"{memory.total / 2**30:.2f} GiB, of it {memory.blocks / 2**30:.2f} a block"
        '0.28 GiB, of it 0.02 a block'
    """
    sampled = size.sampled(config.sample_rate)
    block = min(config.block, sampled)
    is_sampled, is_half = config.sample_rate < 1, config.gemm == "bfloat16"
    keeps = config.backward == "keep_exp"
    # A block of the whole shard is a view and moves in place; what is sampled is copied, with its
    # momentum. A product that cannot go into the momentum at once has an array of its own.
    rows = FLOAT * block * size.embedding_dim * max(1, 2 * is_sampled + keeps + is_half)
    logits = size.images * block * (2 * FLOAT + HALF * is_half)
    vectors = FLOAT * sampled
    if is_sampled:
        vectors += LONG * sampled + SAMPLING_BYTES * size.rows
        vectors += LONG * size.rows * (config.unsampled == "dense_equivalent")
    return HeadMemory(
        prototypes=size.weight,
        momentum=size.weight,
        gradient=FLOAT * sampled * size.embedding_dim if config.update == "deferred" else 0,
        kept=HALF * size.images * sampled if keeps else 0,
        blocks=rows + logits,
        vectors=vectors,
        embeddings=FLOAT * size.images * size.embedding_dim * EMBEDDING_ARRAYS,
    )
