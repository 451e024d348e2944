"""One step of the fused head: a softmax over blocks of prototypes that are moved on the way.

With q = ∂loss/∂cos (G, block), unit embeddings u and prototypes w of length 1 / v, a block has

    ∂loss/∂u  = Σ_c q_c v_c w_c
    ∂loss/∂w_c = v_c Σ_i q_ic u_i − v_c² (Σ_i q_ic cos_ic) w_c

where the last term keeps the prototype's length, which the loss does not see, out of its gradient.
The product of the first sum goes straight into the momentum, which therefore is its accumulator.

Nearly all time should go into the matrix products, so what lies between them works in place, in
buffers that are as large as one block and made once per step: memory that the kernel must hand out
afresh costs more than the arithmetic done in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from openmfr.distributed import Ranks
from openmfr.heads.config import HeadConfig
from openmfr.heads.head import MIN_NORM, NotFiniteError
from openmfr.heads.sampling import StepSize


@dataclass(frozen=True)
class Block:
    """Prototypes that are processed together.

    Attributes:
        number: From 0, among the blocks of the step.
        start: Position of the first among the rows that take part.
        stop: That after the last.
        prototypes: (k, D): a view of the shard, or copies of a sample, valid until the next block.
    """

    number: int
    start: int
    stop: int
    prototypes: Tensor


class Rows:
    """The rows of a shard that take part in a step, cut into blocks.

    Attributes:
        count: Ss, or Cs where all take part.
        shard: Cs.
        largest: Prototypes of the largest block, at least 1.

    Args:
        prototypes: (Cs, D), float32, moved in place.
        momentum: (Cs, D), float32, moved in place.
        index: (Ss,), int64, rising: those that take part; None for all.
        block: Prototypes of a block.
    """

    def __init__(
        self, prototypes: Tensor, momentum: Tensor, index: Tensor | None, *, block: int
    ) -> None:
        self._prototypes, self._momentum, self.index = prototypes, momentum, index
        self.shard = prototypes.shape[0]
        self.count = self.shard if index is None else index.shape[0]
        self.largest = max(1, min(block, self.count))
        sampled = 0 if index is None else self.largest * prototypes.shape[1]
        self._prototype_copies = prototypes.new_empty(sampled)
        self._momentum_copies = prototypes.new_empty(sampled)

    def blocks(self) -> Iterator[Block]:
        """Cut them into blocks, in their order."""
        for number, start in enumerate(range(0, self.count, self.largest)):
            stop = min(start + self.largest, self.count)
            prototypes = self._take(self._prototypes, start, stop, self._prototype_copies)
            yield Block(number, start, stop, prototypes)

    def momentum(self, block: Block) -> Tensor:
        """Momentum of a block, (k, D), in the same form as its prototypes."""
        return self._take(self._momentum, block.start, block.stop, self._momentum_copies)

    def own(self, row: Tensor) -> Tensor:
        """Copies of the prototypes in these rows of the shard, (T, D)."""
        return self._prototypes.index_select(0, row)

    def position(self, row: Tensor) -> Tensor:
        """Where rows of the shard stand among those that take part, (T,)."""
        return row if self.index is None else torch.searchsorted(self.index, row)

    def move(self, block: Block, momentum: Tensor, size: StepSize) -> None:
        """Move a block by its new momentum, and keep both."""
        block.prototypes.add_(momentum, alpha=-size.learning_rate)
        if self.index is not None:  # copies
            index = self.index[block.start : block.stop]
            self._momentum.index_copy_(0, index, momentum)
            self._prototypes.index_copy_(0, index, block.prototypes)

    def _take(self, rows: Tensor, start: int, stop: int, copies: Tensor) -> Tensor:
        if self.index is None:
            return rows[start:stop]
        out = _shaped(copies, stop - start, rows.shape[1])
        return torch.index_select(rows, 0, self.index[start:stop], out=out)


@dataclass(frozen=True)
class _Targets:
    """Images whose own prototype lies in this shard, in the order of their prototypes.

    Attributes:
        image: (T,), of the global batch.
        position: (T,), of the prototype among the rows that take part, rising.
        logit: (T,), with the margin.
        slope: (T,), derivative of the lowered cosine by the cosine.
        bounds: Block n has the targets bounds[n] to bounds[n + 1].
    """

    image: Tensor
    position: Tensor
    logit: Tensor
    slope: Tensor
    bounds: list[int]

    def within(self, block: Block) -> tuple[slice, Tensor, Tensor]:
        """Which of them a block has; their images, and their columns in the block."""
        own = slice(self.bounds[block.number], self.bounds[block.number + 1])
        return own, self.image[own], self.position[own] - block.start


class BlockedSoftmax:
    """One step: the loss, then the gradient of the embeddings, the moves, and nothing more.

    Args:
        config: Loss and way of working.
        ranks: Those that share the prototypes.
        rows: Of this rank's shard, those that take part.
        embeddings: (G, D), float32, of all ranks.
        identity: (G,), int64, from 0 at the shard's first; others lie outside of the shard.
        quality: Of the images from the lengths of their embeddings, (G,) from (G,), or None.
    """

    def __init__(
        self,
        config: HeadConfig,
        ranks: Ranks,
        rows: Rows,
        *,
        embeddings: Tensor,
        identity: Tensor,
        quality: Callable[[Tensor], Tensor | None],
    ) -> None:
        self.config, self.ranks, self.rows = config, ranks, rows
        self.images = embeddings.shape[0]
        self.norms = torch.linalg.vector_norm(embeddings, dim=1, keepdim=True)
        self.unit = embeddings
        if config.has_cosines:
            self.unit = embeddings / self.norms.clamp_min(MIN_NORM)
        self.inverse = self.unit.new_ones(rows.count)  # 1 / ‖prototype‖
        self.targets = self._find_targets(identity, quality(self.norms.squeeze(1)))
        self.product = _Product(config, self.unit, largest=rows.largest)
        self.slopes_buffer = self.unit.new_empty(self.images * rows.largest)
        self.kept: Tensor | None = None
        self.kept_tops: list[Tensor] = []
        if config.backward == "keep_exp":
            self.kept = self.unit.new_empty(self.images, rows.count, dtype=torch.bfloat16)

    def _find_targets(self, identity: Tensor, quality: Tensor | None) -> _Targets:
        image = ((identity >= 0) & (identity < self.rows.shard)).nonzero().squeeze(1)
        row, order = identity[image].sort(stable=True)
        image = image[order]
        position = self.rows.position(row)
        own = self.rows.own(row)
        cosines = (self.unit[image] * own).sum(1)
        if self.config.has_cosines:
            cosines /= torch.linalg.vector_norm(own, dim=1).clamp_min(MIN_NORM)
        with torch.enable_grad():
            cosines.requires_grad_()
            lowered = self.config.lower(cosines, None if quality is None else quality[image])
            (slope,) = torch.autograd.grad(lowered.sum(), cosines)
        edges = torch.arange(0, self.rows.count + self.rows.largest, self.rows.largest)
        bounds = torch.searchsorted(position, edges.to(position.device)).tolist()
        logit = lowered.detach() * self.config.logit_scale
        return _Targets(image, position, logit, slope, bounds)

    def loss(self) -> Tensor:
        """Run the blocks forward: the mean loss, a scalar.

        Raises:
            NotFiniteError: If an embedding or a sum is not finite, on all ranks alike.
        """
        top = self.unit.new_full((self.images,), -torch.inf)
        total = self.unit.new_zeros(self.images)
        for block in self.rows.blocks():
            if self.config.has_cosines:
                lengths = torch.linalg.vector_norm(block.prototypes, dim=1).clamp_min_(MIN_NORM)
                self.inverse[block.start : block.stop] = lengths.reciprocal_()
            logits = self._logits(block, self.product.cast_prototypes(block.prototypes))
            own, image, column = self.targets.within(block)
            logits[image, column] = self.targets.logit[own]
            new_top = torch.maximum(top, logits.amax(1))
            logits.sub_(new_top[:, None]).exp_()
            total.mul_((top - new_top).exp_()).add_(logits.sum(1))
            top = new_top
            if self.kept is not None:
                self.kept[:, block.start : block.stop] = logits
                self.kept_tops.append(top)
        return self._reduce(top, total)

    def _reduce(self, top: Tensor, total: Tensor) -> Tensor:
        """Add the sums over the ranks; nothing that is not finite gets past here."""
        overall = self.ranks.max_(top.clone())
        # The logits are as large as the scale; a small loss keeps its digits if they are
        # subtracted from each other first, and the logarithm, which is small, is added last.
        self.below_top = self.targets.logit - overall[self.targets.image]
        sums = torch.cat([total * (top - overall).exp(), self.below_top.sum()[None]])
        self.ranks.sum_(sums)
        self.log_total = sums[:-1].log()
        self.log_sum = self.log_total + overall
        is_finite = torch.isfinite(self.log_sum) & torch.isfinite(self.norms.squeeze(1))
        loss = self.log_total.mean() - sums[-1] / self.images
        if not (is_finite.all() & torch.isfinite(loss)):
            raise NotFiniteError((~is_finite).nonzero().squeeze(1).tolist())
        return loss

    def backward(self, size: StepSize) -> tuple[Tensor, Tensor | None]:
        """Run the blocks again, and move them.

        Returns:
            The gradient of this rank's embeddings, (B, D), and with a deferred update that of the
            rows that take part, (Ss, D), which then have not moved.
        """
        gradient = torch.zeros_like(self.unit)
        held = None
        if self.config.update == "deferred":
            held = self.unit.new_empty(self.rows.count, self.unit.shape[1])
        for block in self.rows.blocks():
            prototypes = self.product.cast_prototypes(block.prototypes)
            slopes, radial = self._slopes(block, prototypes)
            slopes = self.product.cast_slopes(slopes)
            self.product.add_to_embeddings(gradient, slopes, prototypes)
            if held is not None:
                out = held[block.start : block.stop].zero_()
                self._add_gradient(out, slopes, radial, block, size=StepSize())
                continue
            momentum = self.rows.momentum(block)
            self._add_gradient(momentum, slopes, radial, block, size=size)
            self.rows.move(block, momentum, size)
        if self.config.has_cosines:
            along = (gradient * self.unit).sum(1, keepdim=True)
            gradient = (gradient - self.unit * along) / self.norms.clamp_min(MIN_NORM)
        return self.ranks.scatter_sum(gradient), held

    def _add_gradient(
        self, out: Tensor, slopes: Tensor, radial: Tensor | None, block: Block, *, size: StepSize
    ) -> None:
        """Set out to size.momentum · out + gradient of the block + weight decay, (k, D)."""
        if radial is None and self.config.has_cosines:
            # keep_exp: the cosines are gone; the product itself says how much points outwards.
            product = self.product.of_prototypes(slopes)
            radial = torch.linalg.vecdot(product, block.prototypes)
            torch.add(product, out, alpha=size.momentum, out=out)
        else:
            self.product.add_to_prototypes(out, slopes, keep=size.momentum)
        factor = self.inverse.new_full((block.prototypes.shape[0],), size.weight_decay)
        if radial is not None:
            factor.addcmul_(radial, self.inverse[block.start : block.stop].square(), value=-1)
        out.addcmul_(block.prototypes, factor[:, None])

    def _slopes(self, block: Block, prototypes: Tensor) -> tuple[Tensor, Tensor | None]:
        """∂loss/∂(u · w), (G, k), and Σ_i q_ic cos_ic, (k,), where the cosines are at hand."""
        slopes = _shaped(self.slopes_buffer, self.images, block.stop - block.start)
        logits = None
        if self.kept is None:
            logits = self._logits(block, prototypes)
            torch.sub(logits, self.log_sum[:, None], out=slopes).exp_()
        else:
            slopes.copy_(self.kept[:, block.start : block.stop])
            slopes *= (self.kept_tops[block.number] - self.log_sum).exp_()[:, None]
        own, image, column = self.targets.within(block)
        share = (self.below_top[own] - self.log_total[image]).expm1_()
        slopes[image, column] = share * self.targets.slope[own]
        radial = None
        if logits is not None and self.config.has_cosines:
            radial = logits.mul_(slopes).sum(0).div_(self.images)
        slopes *= self.inverse[block.start : block.stop] * (self.config.logit_scale / self.images)
        return slopes, radial

    def _logits(self, block: Block, prototypes: Tensor) -> Tensor:
        logits = self.product.of_embeddings(prototypes)
        if self.config.has_cosines:
            logits *= self.inverse[block.start : block.stop] * self.config.scale
        return logits


class _Product:
    """The three matrix products of a block, in float32 or with bfloat16 inputs.

    Results lie in buffers and are valid until the next block. PyTorch's CPU products of bfloat16
    sum in float32 and round the sum to bfloat16; it is float32 again from there.
    """

    def __init__(self, config: HeadConfig, unit: Tensor, *, largest: int) -> None:
        self.is_half = config.gemm == "bfloat16"
        images, dim = unit.shape
        half = largest if self.is_half else 0
        self.unit = unit.bfloat16() if self.is_half else unit
        self.logits = unit.new_empty(images * largest)
        self.slopes = self.unit.new_empty(images * half)
        self.prototypes = self.unit.new_empty(half * dim)
        self.half = self.unit.new_empty(half * max(dim, images))
        has_product = self.is_half or config.backward == "keep_exp"
        self.product = unit.new_empty(largest * dim if has_product else 0)

    def cast_prototypes(self, prototypes: Tensor) -> Tensor:
        """Prototypes, (k, D), as the products take them."""
        return self._cast(prototypes, self.prototypes)

    def cast_slopes(self, slopes: Tensor) -> Tensor:
        """Slopes, (G, k), as the products take them."""
        return self._cast(slopes, self.slopes)

    def of_embeddings(self, prototypes: Tensor) -> Tensor:
        """Multiply embeddings by prototypes that are cast: u · w, float32 (G, k)."""
        return self._multiply(self.unit, prototypes.T, self.logits)

    def add_to_embeddings(self, out: Tensor, slopes: Tensor, prototypes: Tensor) -> None:
        """Add slopes · w, both cast, (G, D)."""
        if self.is_half:
            out += slopes @ prototypes
        else:
            out.addmm_(slopes, prototypes)

    def of_prototypes(self, slopes: Tensor) -> Tensor:
        """Multiply slopes that are cast by embeddings: slopesᵀ · u, float32 (k, D)."""
        return self._multiply(slopes.T, self.unit, self.product)

    def add_to_prototypes(self, out: Tensor, slopes: Tensor, *, keep: float) -> None:
        """Set out to keep · out + slopesᵀ · u, (k, D), of slopes that are cast."""
        if self.is_half:
            torch.add(self.of_prototypes(slopes), out, alpha=keep, out=out)
        else:
            out.addmm_(slopes.T, self.unit, beta=keep)

    def _cast(self, values: Tensor, buffer: Tensor) -> Tensor:
        return _shaped(buffer, *values.shape).copy_(values) if self.is_half else values

    def _multiply(self, left: Tensor, right: Tensor, buffer: Tensor) -> Tensor:
        out = _shaped(buffer, left.shape[0], right.shape[1])
        if not self.is_half:
            return torch.mm(left, right, out=out)
        return out.copy_(torch.mm(left, right, out=_shaped(self.half, *out.shape)))


def _shaped(buffer: Tensor, *shape: int) -> Tensor:
    """The first elements of a flat buffer in a shape: contiguous also for the last, short block."""
    return buffer[: math.prod(shape)].view(shape)
