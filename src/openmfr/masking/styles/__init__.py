"""How masks are drawn: a module for each style, and what they share: fabric, folds, patterns."""

from openmfr.masking.styles.draw import SIZES, STYLES, check_style, draw_template

__all__ = ["SIZES", "STYLES", "check_style", "draw_template"]
