"""Colours as people write them, and the styles that are bound to them. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stylenorm.errors import StyleError

COLOR = re.compile(r"#?([0-9a-fA-F]{6})")


def color_of(text: str) -> tuple[int, int, int]:
    """``#2040c0`` as (32, 64, 192)."""
    found = COLOR.fullmatch(text.strip())
    if not found:
        raise StyleError(f"{text!r} is not a colour; give it as in #2040c0")
    return tuple(bytes.fromhex(found[1]))


def color_name(color: Sequence[int]) -> str:
    return "#" + bytes(int(c) for c in color).hex()


def bindings(text: str) -> dict[str, str]:
    """``#2040c0=water-lilies,#e0c020=kiss`` as {"#2040c0": "water-lilies", "#e0c020": "kiss"}."""
    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        color, sign, name = part.partition("=")
        if not sign or not name.strip():
            raise StyleError(f"{part!r} binds no style to a colour; give it as in #2040c0=water-lilies")
        color = color_name(color_of(color))
        if color in found:
            raise StyleError(f"two styles are bound to the colour {color}; a colour takes one")
        found[color] = name.strip()
    if not found:
        raise StyleError("--bind is empty; give it as in --bind '#2040c0=water-lilies,#e0c020=kiss'")
    return found
