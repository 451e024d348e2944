"""A network as a picture: its stages from left to right, in each its blocks, in those their paths.

As SVG of the page's own colours, so that it reads in light and dark, like every plot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

#: Pixels of the drawing.
_COLUMN, _GAP, _ROW, _PATH, _PAD, _HEAD = 156, 26, 20, 24, 10, 46


@dataclass(frozen=True, kw_only=True)
class BlockDrawing:
    """Blocks that are alike.

    Attributes:
        times: How many there are.
        paths: What each path is, with its kernel; those that are densely connected are marked.
        is_dense: Of each path.
    """

    times: int
    paths: tuple[str, ...]
    is_dense: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class StageDrawing:
    """A column of the picture.

    Attributes:
        name: What it is: "stage 1".
        shape: Of its feature map: "24 × 24 × 48".
        blocks: From the first to the last.
    """

    name: str
    shape: str
    blocks: tuple[BlockDrawing, ...] = ()


def architecture_drawing(stages: Sequence[StageDrawing]) -> str:
    """Draw a network.

    Args:
        stages: Its parts, from the image to the embedding.

    Returns:
        An `<svg>` element.

    Example:
        >>> drawing = architecture_drawing([StageDrawing(name="stem", shape="56 × 56 × 16")])
        >>> drawing.startswith("<svg ") and "56 × 56 × 16" in drawing
        True
    """
    height = _HEAD + max((_height(stage) for stage in stages), default=0) + _PAD
    width = len(stages) * (_COLUMN + _GAP) - _GAP
    parts = []
    for index, stage in enumerate(stages):
        left = index * (_COLUMN + _GAP)
        parts += _stage(stage, left)
        if index:
            middle = _HEAD / 2
            parts.append(
                f'<path d="M{left - _GAP + 4} {middle} h{_GAP - 10} m-5 -4 l5 4 l-5 4" '
                'fill="none" stroke="var(--soft, #5b6068)"/>'
            )
    return (
        f'<svg viewBox="-1 -1 {width + 2} {height + 2}" xmlns="http://www.w3.org/2000/svg" '
        f'font-size="12">{"".join(parts)}</svg>'
    )


def _height(stage: StageDrawing) -> int:
    return sum(_block_height(block) + _PAD for block in stage.blocks)


def _block_height(block: BlockDrawing) -> int:
    return _ROW + len(block.paths) * _PATH + _PAD


def _stage(stage: StageDrawing, left: int) -> list[str]:
    parts = [
        _box(left, 0, _COLUMN, _HEAD - _PAD, "var(--grid, #e3e4e6)"),
        _text(left + _PAD, 15, stage.name, weight="600"),
        _text(left + _PAD, 30, stage.shape, colour="var(--soft, #5b6068)"),
    ]
    top = _HEAD
    for block in stage.blocks:
        parts += _block(block, left, top)
        top += _block_height(block) + _PAD
    return parts


def _block(block: BlockDrawing, left: int, top: int) -> list[str]:
    many = "1 block" if block.times == 1 else f"{block.times} blocks"
    parts = [
        _box(left, top, _COLUMN, _block_height(block), "none"),
        _text(left + _PAD, top + 15, many, colour="var(--soft, #5b6068)"),
    ]
    for index, (path, is_dense) in enumerate(zip(block.paths, block.is_dense, strict=True)):
        at = top + _ROW + index * _PATH
        fill = f"var(--series-{2 if is_dense else 1}, {'#d1571f' if is_dense else '#0b62c4'})"
        parts.append(
            f'<rect x="{left + _PAD}" y="{at + 1}" width="{_COLUMN - 2 * _PAD}" '
            f'height="{_PATH - 4}" rx="4" fill="{fill}" fill-opacity="0.18" stroke="{fill}"/>'
        )
        parts.append(_text(left + 2 * _PAD, at + 15, path))
    return parts


def _box(left: int, top: int, width: int, height: int, fill: str) -> str:
    return (
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="6" fill="{fill}" '
        'stroke="var(--soft, #5b6068)" stroke-opacity="0.5"/>'
    )


def _text(
    left: int, base: int, text: str, *, colour: str = "var(--ink, #1d1f23)", weight: str = "400"
) -> str:
    style = f'fill="{colour}" font-weight="{weight}"'
    return f'<text x="{left}" y="{base}" {style}>{escape(text)}</text>'
